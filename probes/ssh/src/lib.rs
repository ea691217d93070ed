//! The `ssh` probe: does the target's SSH service greet?
//!
//! It reads the identification string (RFC 4253, section 4.2), which needs a process of the service and not just the
//! kernel's listening socket, sends its own, and closes. A service that accepts and stays silent is `wedged`. It exchanges no
//! keys and never begins a login.

mod exchange;
mod greeting;
mod settings;

use std::time::Duration;

use probe_kit::{Address, Budget, Description, Fault, Outcome, Probe};

pub use greeting::{Greeting, Identification, NotSsh, Version, read_greeting};
pub use settings::{SCHEMA, SSH_PORT, SshSettings};

/// The `ssh` probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ssh;

impl Probe for Ssh {
    const DESCRIPTION: Description = Description {
        name: "ssh",
        proves: "The SSH service of the target greets with its identification, up to where keys would be exchanged.",
        schema: SCHEMA,
        ports: &[SSH_PORT],
        // Servers count connections that never log in, and turn away who makes many of them.
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
    };
    type Settings = SshSettings;

    fn settings(text: &str) -> Result<SshSettings, String> {
        SshSettings::parse(text)
    }

    fn run(address: &Address, settings: &SshSettings, budget: &Budget) -> Result<Outcome, Fault> {
        exchange::run(address.ip, settings, budget)
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Ssh);
