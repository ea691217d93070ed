//! The `vnc` probe: does the target's VNC service agree on a version and offer a way to log in?
//!
//! It speaks the beginning of the RFB handshake (RFC 6143, sections 7.1.1 and 7.1.2): versions, and the list of security
//! types. It chooses none and never begins a login. A service that accepts and stays silent is `wedged`; one that offers no
//! security type says why, and that is told.

mod exchange;
mod rfb;
mod settings;

use std::time::Duration;

use probe_kit::{Address, Budget, Description, Fault, Outcome, Probe};

pub use rfb::{RfbVersion, SecurityType};
pub use settings::{SCHEMA, VNC_PORT, VncSettings};

/// The `vnc` probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vnc;

impl Probe for Vnc {
    const DESCRIPTION: Description = Description {
        name: "vnc",
        proves: "The VNC service of the target agrees on a version of RFB and offers a way to log in.",
        schema: SCHEMA,
        ports: &[VNC_PORT],
        // Some servers count connections that never log in, and turn away who makes many of them.
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
    };
    type Settings = VncSettings;

    fn settings(text: &str) -> Result<VncSettings, String> {
        VncSettings::parse(text)
    }

    fn run(address: &Address, settings: &VncSettings, budget: &Budget) -> Result<Outcome, Fault> {
        exchange::run(address.ip, settings.port, budget)
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Vnc);
