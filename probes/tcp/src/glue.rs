//! The `tcp` probe as a component: what `run` finds, said in the words of the contract.

use std::net::IpAddr;

use probe_kit::{Budget, ConnectError, connect};

use crate::{SCHEMA, TcpSettings};

wit_bindgen::generate!({ world: "probe", path: "../../wit/vouch-probe-1" });

use exports::vouch::probe::check::{Descriptor, Fault, Guest, Outcome, Target};
use vouch::probe::types::{Fact, Network, Phase, State};

struct Tcp;

export!(Tcp);

impl Guest for Tcp {
    fn describe() -> Descriptor {
        Descriptor {
            name: "tcp".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            proves: "One TCP port of the target accepts connections.".to_owned(),
            settings_schema: SCHEMA.to_owned(),
            networks: vec![Network::Management, Network::Service],
            ports: Vec::new(),
            interval_ms: 1000,
            timeout_ms: 1000,
            about: vec![Fact { name: "author".to_owned(), value: "vouch".to_owned() }],
        }
    }

    fn validate(settings: String) -> Result<(), String> {
        TcpSettings::parse(&settings).map(|_| ())
    }

    fn run(target: Target, settings: String, deadline_ms: u32) -> Result<Outcome, Fault> {
        let budget = Budget::starting_now(deadline_ms);
        let port = TcpSettings::parse(&settings).map_err(Fault::BadSettings)?.port;
        let address = first_address(&target)?;
        let (state, reason, message, took) = match connect(address, port, &budget) {
            Ok((_stream, took)) => (State::Up, "connected", format!("port {port} accepts connections"), Some(took)),
            Err(ConnectError::Closed) => (State::Down, "closed", format!("port {port} refuses connections"), None),
            Err(ConnectError::Timeout) => (State::Down, "timeout", format!("port {port} stays silent"), None),
            Err(ConnectError::Unreachable) => (State::Down, "unreachable", format!("{address} is not reachable"), None),
            Err(ConnectError::NoRoute) => {
                (State::Unknown, "no_route", format!("no route to {address} from here"), None)
            }
            Err(ConnectError::NotGranted) => {
                return Err(Fault::Internal(format!("port {port} is not granted to this run")));
            }
            Err(ConnectError::Other(error)) => return Err(Fault::Internal(format!("connect to port {port}: {error}"))),
        };
        let phase = took.map(|took| Phase { name: "connect".to_owned(), micros: took.as_micros() as u64 });
        Ok(Outcome {
            state,
            reason: reason.to_owned(),
            message,
            phases: phase.into_iter().collect(),
            samples: Vec::new(),
            facts: Vec::new(),
        })
    }
}

fn first_address(target: &Target) -> Result<IpAddr, Fault> {
    let first = target.addresses.first().ok_or(Fault::NotApplicable("the target has no address".to_owned()))?;
    first.parse().map_err(|_| Fault::Internal(format!("address {first} is not an IP address")))
}
