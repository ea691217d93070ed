//! The `tcp` probe: is a port of the target open?
//!
//! It connects and closes, and sends nothing: an open port shows that the target's network stack accepts, not that a
//! service behind it works.

mod handshake;
mod settings;

use std::time::Duration;

use probe_kit::{Address, Budget, Description, Fault, Outcome, Probe, State, not_connected};

use handshake::handshake;
pub use settings::{SCHEMA, TcpSettings};

/// The `tcp` probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tcp;

impl Probe for Tcp {
    const DESCRIPTION: Description = Description {
        name: "tcp",
        proves: "One TCP port of the target accepts connections.",
        schema: SCHEMA,
        // Its settings always name one.
        ports: &[],
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    type Settings = TcpSettings;

    fn settings(text: &str) -> Result<TcpSettings, String> {
        TcpSettings::parse(text)
    }

    fn run(address: &Address, settings: &TcpSettings, budget: &Budget) -> Result<Outcome, Fault> {
        let port = settings.port;
        match handshake(address, port, budget) {
            Ok(took) => {
                let mut outcome = Outcome::new(State::Up, "connected", format!("port {port} accepts connections"));
                outcome.phases.push(("connect", took));
                Ok(outcome)
            }
            Err(error) => not_connected(address.ip, port, error),
        }
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Tcp);
