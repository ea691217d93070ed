//! The `dns` probe: does the target's name server answer a question as it should?
//!
//! It asks one question over UDP (RFC 1035, section 4), again if nothing comes, and over TCP if the answer was cut. A response
//! code that is not expected is degraded, as the server answers; silence is down. An answer counts only if it has the random
//! id of the question and repeats it.

mod exchange;
mod judge;
mod message;
mod settings;

use std::time::Duration;

use probe_kit::{Address, Budget, Description, Fault, Outcome, Probe};

pub use message::{Name, NotAnswer, Question, Rcode, RecordType, Reply, parse_reply, query};
pub use settings::{DNS_PORT, DnsSettings, SCHEMA};

/// The `dns` probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dns;

impl Probe for Dns {
    const DESCRIPTION: Description = Description {
        name: "dns",
        proves: "The name server of the target answers a question with an expected response code and records.",
        schema: SCHEMA,
        ports: &[DNS_PORT],
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(2),
    };
    type Settings = DnsSettings;

    fn settings(text: &str) -> Result<DnsSettings, String> {
        DnsSettings::parse(text)
    }

    fn run(address: &Address, settings: &DnsSettings, budget: &Budget) -> Result<Outcome, Fault> {
        let asked = exchange::ask(address.ip, settings, budget);
        judge::judge(address.ip, settings, asked, budget)
    }
}

#[cfg(target_family = "wasm")]
probe_glue::component!(Dns);
