//! Settings of the shipped probes: what a probe takes its schema takes too, and a refusal is one line that fits a message.
//!
//! The first byte chooses the probe. The other way round need not hold: no schema says what two fields together may be.

#![no_main]

use std::sync::LazyLock;

use jsonschema::Validator;

type Parse = fn(&str) -> Result<(), String>;

const PROBES: [(&str, Parse, &str); 9] = [
    ("dns", |text| probe_dns::DnsSettings::parse(text).map(drop), probe_dns::SCHEMA),
    ("guest-agent", |text| probe_guest_agent::GuestAgentSettings::parse(text).map(drop), probe_guest_agent::SCHEMA),
    ("http", |text| probe_http::HttpSettings::parse(text).map(drop), probe_http::SCHEMA),
    ("ping", |text| probe_ping::PingSettings::parse(text).map(drop), probe_ping::SCHEMA),
    ("rdp", |text| probe_rdp::RdpSettings::parse(text).map(drop), probe_rdp::SCHEMA),
    ("spice", |text| probe_spice::SpiceSettings::parse(text).map(drop), probe_spice::SCHEMA),
    ("ssh", |text| probe_ssh::SshSettings::parse(text).map(drop), probe_ssh::SCHEMA),
    ("tcp", |text| probe_tcp::TcpSettings::parse(text).map(drop), probe_tcp::SCHEMA),
    ("vnc", |text| probe_vnc::VncSettings::parse(text).map(drop), probe_vnc::SCHEMA),
];

/// The longest refusal, in bytes: the name of a field, 80 characters of its value, and the rule.
const REFUSAL_MAX: usize = 4096;

static VALIDATORS: LazyLock<Vec<Validator>> = LazyLock::new(|| {
    let validator = |schema: &str| {
        let schema = serde_json::from_str(schema).expect("a schema is JSON");
        jsonschema::draft202012::new(&schema).expect("a schema is one")
    };
    PROBES.iter().map(|(_, _, schema)| validator(schema)).collect()
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let at = usize::from(*which) % PROBES.len();
    let (name, parse, _) = PROBES[at];
    match parse(text) {
        Ok(()) => {
            let value = serde_json::from_str(text).expect("it was read as JSON");
            if let Err(error) = VALIDATORS[at].validate(&value) {
                panic!("{name} takes {text}, its schema does not: {error}");
            }
        }
        Err(said) => assert!(!said.is_empty() && said.len() <= REFUSAL_MAX, "{name}: {} bytes: {said}", said.len()),
    }
});
