//! How an uploaded probe describes itself, as the cluster records it beside its name and version.
//!
//! A manager has no runtime and cannot ask the component: whoever uploads it does, in the host of the watchers, and says
//! so. It lends nothing: what a probe may do is its grant, and watchers ask the component that they compiled.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Network;
use crate::observation::MESSAGE_MAX;

/// The longest summary, in bytes.
pub const SUMMARY_MAX: usize = MESSAGE_MAX;
/// The longest schema of settings, in bytes.
pub const SCHEMA_MAX: usize = 16 * 1024;
/// The most ports that a probe describes.
pub const DESCRIBED_PORTS_MAX: usize = 16;
/// The shortest interval of a probe, in milliseconds.
pub const INTERVAL_MS_MIN: u64 = 100;
/// The longest interval that a probe may propose, in milliseconds: a day.
pub const INTERVAL_MS_MAX: u64 = 86_400_000;
/// The shortest timeout of a probe, in milliseconds.
pub const TIMEOUT_MS_MIN: u64 = 50;
/// The longest timeout of a probe, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// How an uploaded probe describes itself.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProbeDescriptor {
    /// What an `up` of it proves; at most [`SUMMARY_MAX`] bytes.
    pub summary: String,
    /// JSON Schema of its settings, at most [`SCHEMA_MAX`] bytes; absent from a probe of the first contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_schema: Option<String>,
    /// Networks that it can check over.
    pub networks: BTreeSet<Network>,
    /// Ports that it connects to when its settings have no `port`; at most [`DESCRIBED_PORTS_MAX`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ports: BTreeSet<u16>,
    /// How often it proposes to run, in milliseconds; absent from a probe of the first contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long it proposes that one run may take, in milliseconds; absent from a probe of the first contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A part of a description that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{field} {value:?}: {rule}")]
pub struct DescriptorError {
    /// Which part.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl ProbeDescriptor {
    /// Checks every part but the schema's own words, which need a validator.
    ///
    /// # Errors
    /// [`DescriptorError`] names the part, its value and the rule.
    pub fn validate(&self) -> Result<(), DescriptorError> {
        let wrong = |field, value: String, rule: String| Err(DescriptorError { field, value, rule });
        if self.summary.trim().is_empty() || self.summary.len() > SUMMARY_MAX {
            let rule = format!("must be 1 to {SUMMARY_MAX} bytes");
            return wrong("summary", format!("{} bytes", self.summary.len()), rule);
        }
        if let Some(schema) = self.settings_schema.as_ref().filter(|schema| schema.len() > SCHEMA_MAX) {
            let rule = format!("must be at most {SCHEMA_MAX} bytes");
            return wrong("settings_schema", format!("{} bytes", schema.len()), rule);
        }
        if self.networks.is_empty() {
            return wrong("networks", String::new(), "must be at least one of management and service".to_owned());
        }
        if self.ports.len() > DESCRIBED_PORTS_MAX || self.ports.contains(&0) {
            let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
            let rule = format!("must be at most {DESCRIBED_PORTS_MAX} ports, from 1 to 65535");
            return wrong("ports", ports.join(","), rule);
        }
        for (field, value, least, most) in [
            ("interval_ms", self.interval_ms, INTERVAL_MS_MIN, INTERVAL_MS_MAX),
            ("timeout_ms", self.timeout_ms, TIMEOUT_MS_MIN, TIMEOUT_MS_MAX),
        ] {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return wrong(field, value.to_string(), format!("must be from {least} to {most}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> ProbeDescriptor {
        ProbeDescriptor {
            summary: "An SSH server greets.".to_owned(),
            settings_schema: Some(r#"{"type":"object"}"#.to_owned()),
            networks: [Network::Service].into(),
            ports: [22].into(),
            interval_ms: Some(5_000),
            timeout_ms: Some(2_000),
        }
    }

    #[test]
    fn each_part_at_its_limit_is_taken_and_beyond_it_refused_with_its_rule() {
        let ports = |most: usize| (1..).take(most).collect::<BTreeSet<u16>>();
        let full = ProbeDescriptor {
            summary: "x".repeat(SUMMARY_MAX),
            settings_schema: Some("x".repeat(SCHEMA_MAX)),
            ports: ports(DESCRIBED_PORTS_MAX),
            interval_ms: Some(INTERVAL_MS_MAX),
            timeout_ms: Some(TIMEOUT_MS_MAX),
            ..good()
        };
        assert_eq!((good().validate(), full.validate()), (Ok(()), Ok(())));
        let bad = |descriptor: ProbeDescriptor| descriptor.validate().expect_err("must be refused").to_string();
        for (descriptor, said) in [
            (ProbeDescriptor { summary: " ".to_owned(), ..good() }, "summary \"1 bytes\": must be 1 to 512 bytes"),
            (ProbeDescriptor { summary: "x".repeat(SUMMARY_MAX + 1), ..good() }, "summary \"513 bytes\""),
            (
                ProbeDescriptor { settings_schema: Some("x".repeat(SCHEMA_MAX + 1)), ..good() },
                "settings_schema \"16385 bytes\": must be at most 16384 bytes",
            ),
            (ProbeDescriptor { networks: BTreeSet::new(), ..good() }, "networks \"\": must be at least one"),
            (ProbeDescriptor { ports: ports(DESCRIBED_PORTS_MAX + 1), ..good() }, "ports \"1,2,3"),
            (ProbeDescriptor { ports: [0].into(), ..good() }, "ports \"0\": must be at most 16 ports, from 1"),
            (ProbeDescriptor { interval_ms: Some(99), ..good() }, "interval_ms \"99\": must be from 100 to 86400000"),
            (ProbeDescriptor { timeout_ms: Some(60_001), ..good() }, "timeout_ms \"60001\": must be from 50 to 60000"),
        ] {
            let wrong = bad(descriptor);
            assert!(wrong.starts_with(said), "{wrong} is not {said}");
        }
    }

    #[test]
    fn a_description_survives_being_written_and_one_of_the_first_contract_says_less() {
        let first = ProbeDescriptor { settings_schema: None, interval_ms: None, timeout_ms: None, ..good() };
        for descriptor in [good(), first] {
            let text = serde_json::to_string(&descriptor).expect("a description");
            assert_eq!(serde_json::from_str::<ProbeDescriptor>(&text).expect("the same"), descriptor);
        }
    }
}
