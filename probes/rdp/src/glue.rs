//! The `rdp` probe as a component: what the exchange found, in the words of the contract.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{Budget, ConnectError};

use crate::settings::RDP_PORT;
use crate::{Confirm, Finding, Negotiated, RdpSettings, is_healthy_refusal, negotiate, selected};

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-0.1.0" });

use vouch::probe::types::{Phase, State};

struct Rdp;

export!(Rdp);

impl Guest for Rdp {
    fn describe() -> Descriptor {
        Descriptor {
            name: "rdp".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Negotiates with the remote desktop service of the target, without logging in.".to_owned(),
            ports: vec![RDP_PORT],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        RdpSettings::parse(&settings).map(|_| ())
    }

    fn run(target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let budget = Budget::starting_now(deadline_ms);
        let port = RdpSettings::parse(&settings).map_err(Fault::BadSettings)?.port;
        let first = target.addresses.first().ok_or(Fault::NotApplicable("the target has no address".to_owned()))?;
        let address: IpAddr =
            first.parse().map_err(|_| Fault::Other(format!("address {first} is not an IP address")))?;
        match negotiate(address, port, &budget) {
            Finding::Answered(negotiated) => Ok(answered(port, &negotiated)),
            Finding::NotConnected(error) => not_connected(address, port, error),
            Finding::Broken => {
                Ok(outcome(State::Down, "broken", format!("port {port} accepts connections and closes them at once")))
            }
            Finding::Wedged(waited) => {
                let waited = waited.as_millis();
                Ok(outcome(
                    State::Down,
                    "wedged",
                    format!("port {port} accepts connections and stayed silent for {waited} ms"),
                ))
            }
            Finding::TooLate => Ok(outcome(
                State::Down,
                "timeout",
                format!("port {port} accepted a connection too late to answer in time"),
            )),
            Finding::NotRdp(error) => {
                Ok(outcome(State::Degraded, "not_rdp", format!("port {port} answers, but not with RDP: {error:?}")))
            }
        }
    }
}

fn answered(port: u16, negotiated: &Negotiated) -> Outcome {
    let mut outcome = match negotiated.confirm {
        Confirm::Selected(protocol) => {
            outcome(State::Up, "negotiated", format!("port {port} negotiates {}", protocol.as_str()))
        }
        Confirm::Refused(code) if is_healthy_refusal(code) => {
            outcome(State::Up, "refused", format!("port {port} answers, and wants another protocol: {}", code.as_str()))
        }
        Confirm::Refused(code) => {
            outcome(State::Degraded, "refused", format!("port {port} answers, and cannot negotiate: {}", code.as_str()))
        }
    };
    if let Some(protocol) = selected(negotiated.confirm) {
        outcome.facts.push(("protocol".to_owned(), protocol.as_str().to_owned()));
    }
    if let Confirm::Refused(code) = negotiated.confirm {
        outcome.facts.push(("refusal".to_owned(), code.as_str().to_owned()));
    }
    outcome.phases = vec![phase("connect", negotiated.connect), phase("negotiate", negotiated.answer)];
    outcome
}

fn not_connected(address: IpAddr, port: u16, error: ConnectError) -> Result<Outcome, Fault> {
    let (state, reason, message) = match error {
        ConnectError::Closed => (State::Down, "closed", format!("port {port} refuses connections")),
        ConnectError::Timeout => (State::Down, "timeout", format!("port {port} stays silent")),
        ConnectError::Unreachable => (State::Down, "unreachable", format!("{address} is not reachable")),
        ConnectError::NoRoute => (State::Unknown, "no_route", format!("no route to {address} from here")),
        ConnectError::NotGranted => return Err(Fault::Other(format!("port {port} is not granted to this run"))),
        ConnectError::Other(error) => return Err(Fault::Other(format!("connect to port {port}: {error}"))),
    };
    Ok(outcome(state, reason, message))
}

fn outcome(state: State, reason: &str, message: String) -> Outcome {
    Outcome { state, reason: reason.to_owned(), message, phases: Vec::new(), samples: Vec::new(), facts: Vec::new() }
}

fn phase(name: &str, took: Duration) -> Phase {
    Phase { name: name.to_owned(), micros: took.as_micros() as u64 }
}
