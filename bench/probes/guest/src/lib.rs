//! The `tcp` probe as anybody would write it, over the sockets of the standard library: what the sandbox costs a probe that
//! has them. It is never shipped.

use std::time::Duration;

use probe_kit::{Address, Budget, Description, Fault, Outcome, Probe, Settings, State, connect, not_connected};

/// The probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sockets;

impl Probe for Sockets {
    const DESCRIPTION: Description = Description {
        name: "sockets",
        proves: "One TCP port of the target accepts connections.",
        schema: r#"{"type": "object"}"#,
        ports: &[],
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    /// The port.
    type Settings = u16;

    fn settings(text: &str) -> Result<u16, String> {
        Settings::parse(text, &["port"])?.port()?.ok_or("field `port` is absent".to_owned())
    }

    fn run(address: &Address, port: &u16, budget: &Budget) -> Result<Outcome, Fault> {
        match connect(address.ip, *port, budget) {
            Ok((_, took)) => {
                let outcome = Outcome::new(State::Up, "connected", format!("port {port} accepts connections"));
                Ok(outcome.with_phase("connect", took))
            }
            Err(error) => not_connected(address.ip, *port, error),
        }
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Sockets);
