//! The `rdp` probe as a component: what the exchange found, in the words of the contract.

use std::net::IpAddr;
use std::time::Duration;

use probe_kit::{Budget, ConnectError};

use crate::settings::RDP_PORT;
use crate::{
    Confirm, Depth, Finding, IdentityFrom, Line, Negotiated, Protocol, RdpSettings, SCHEMA, handshake,
    is_healthy_refusal, negotiate, nla, plainly, selected,
};

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-1" });

use exports::vouch::probe::check::{Descriptor, Fault, Guest, Outcome, Target};
use vouch::probe::types::{Fact, Network, Phase, State};

/// Name of the fact that says who answered.
pub(crate) const IDENTITY: &str = "identity";

struct Rdp;

export!(Rdp);

impl Guest for Rdp {
    fn describe() -> Descriptor {
        Descriptor {
            name: "rdp".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proves: "The remote desktop service of the target negotiates (RDP), up to where a login would begin."
                .to_owned(),
            settings_schema: SCHEMA.to_owned(),
            networks: vec![Network::Management, Network::Service],
            ports: vec![RDP_PORT],
            interval_ms: 1000,
            timeout_ms: 1000,
            about: vec![fact("author", "vouch")],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        RdpSettings::parse(&settings).map(|_| ())
    }

    fn run(target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let budget = Budget::starting_now(deadline_ms);
        let settings = RdpSettings::parse(&settings).map_err(Fault::BadSettings)?;
        let RdpSettings { port, depth, identity } = settings;
        let first = target.addresses.first().ok_or(Fault::NotApplicable("the target has no address".to_owned()))?;
        let address: IpAddr =
            first.parse().map_err(|_| Fault::Internal(format!("address {first} is not an IP address")))?;
        let (finding, line) = match depth {
            Depth::Negotiation => {
                let (finding, line) = negotiate(|| plainly(address, port, &budget), &budget);
                line.into_iter().for_each(Line::close);
                (finding, None)
            }
            Depth::Certificate | Depth::Challenge => negotiate(|| handshake::connect(first, port, &budget), &budget),
        };
        match finding {
            Finding::Answered(negotiated) => {
                let mut outcome = answered(port, &negotiated);
                match (selected(negotiated.confirm), line) {
                    (Some(protocol), Some(line)) if protocol != Protocol::Rdp => {
                        outcome = handshake::complete(line, outcome, protocol, &settings, &budget);
                    }
                    (Some(_), _) if depth >= Depth::Challenge => nla::not_chosen(&mut outcome),
                    (Some(_) | None, _) => {}
                }
                // Who answered is told, or that it could not be: only an identity that came is compared.
                if identity != IdentityFrom::Nothing && outcome.facts.iter().all(|fact| fact.name != IDENTITY) {
                    outcome.facts.push(fact("identity_unknown", identity.as_str()));
                }
                Ok(outcome)
            }
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
            Finding::Failed(why) => Err(Fault::Internal(format!("exchange with port {port}: {why}"))),
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
        outcome.facts.push(fact("protocol", protocol.as_str()));
    }
    if let Confirm::Refused(code) = negotiated.confirm {
        outcome.facts.push(fact("refusal", code.as_str()));
    }
    outcome.phases = vec![phase("connect", negotiated.connect), phase("negotiate", negotiated.answer)];
    outcome
}

fn not_connected(address: IpAddr, port: u16, error: ConnectError) -> Result<Outcome, Fault> {
    match probe_kit::not_connected(address, port, error) {
        Ok(found) => {
            let state = match found.state {
                probe_kit::State::Up => State::Up,
                probe_kit::State::Degraded => State::Degraded,
                probe_kit::State::Down => State::Down,
                probe_kit::State::Unknown => State::Unknown,
            };
            Ok(outcome(state, found.reason, found.message))
        }
        Err(probe_kit::Fault::NotApplicable(why)) => Err(Fault::NotApplicable(why)),
        Err(probe_kit::Fault::Internal(why)) => Err(Fault::Internal(why)),
    }
}

fn outcome(state: State, reason: &str, message: String) -> Outcome {
    Outcome { state, reason: reason.to_owned(), message, phases: Vec::new(), samples: Vec::new(), facts: Vec::new() }
}

/// Lowers an outcome that was well so far.
pub(crate) fn degrade(outcome: &mut Outcome, reason: &str, message: String) {
    outcome.state = State::Degraded;
    outcome.reason = reason.to_owned();
    outcome.message = message;
}

/// Returns a step with its time.
pub(crate) fn phase(name: &str, took: Duration) -> Phase {
    Phase { name: name.to_owned(), micros: took.as_micros() as u64 }
}

/// Returns something that was learnt.
pub(crate) fn fact(name: &str, value: &str) -> Fact {
    Fact { name: name.to_owned(), value: value.to_owned() }
}
