//! The `spice` probe: does the target's SPICE server accept a link?
//!
//! It speaks the first exchange of a link, as spice-protocol defines it (`spice/protocol.h`: `SpiceLinkHeader`,
//! `SpiceLinkMess`, `SpiceLinkReply`), for the main channel, up to where a ticket would be shown. That displaces nobody who is
//! connected: a server gives up its client only for one that has logged in. A server that accepts and stays silent is `wedged`.

mod exchange;
mod link;
mod settings;

use std::time::Duration;

use probe_kit::{Address, Budget, Description, Fault, Outcome, Probe};

pub use link::{LinkError, LinkHeader, LinkReply};
pub use settings::{SCHEMA, SPICE_PORT, SpiceSettings};

/// The `spice` probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spice;

impl Probe for Spice {
    const DESCRIPTION: Description = Description {
        name: "spice",
        proves: "The SPICE server of the target accepts a link, up to where a ticket would be shown.",
        schema: SCHEMA,
        ports: &[SPICE_PORT],
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(2),
    };
    type Settings = SpiceSettings;

    fn settings(text: &str) -> Result<SpiceSettings, String> {
        SpiceSettings::parse(text)
    }

    fn run(address: &Address, settings: &SpiceSettings, budget: &Budget) -> Result<Outcome, Fault> {
        exchange::run(address.ip, settings.port, budget)
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Spice);
