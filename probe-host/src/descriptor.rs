//! How a probe describes itself, whatever version of the contract it was written for.

use std::time::Duration;

use vouch_types::Network;

use crate::ContractVersion;

/// How a probe describes itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// The version of the contract that it was written for.
    pub contract: ContractVersion,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What an `up` of it proves, in one sentence; from a probe of 0.1, what it checks.
    pub summary: String,
    /// JSON Schema of its settings; absent from a probe of 0.1, or if it was too long.
    pub settings_schema: Option<String>,
    /// The networks that it can check a target over.
    pub networks: Vec<Network>,
    /// The ports that it connects to when its settings have no `port`.
    pub ports: Vec<u16>,
    /// How often it is worth running; absent from a probe of 0.1.
    pub interval: Option<Duration>,
    /// How long one run may take; absent from a probe of 0.1.
    pub timeout: Option<Duration>,
    /// Anything else, by its name.
    pub about: Vec<(String, String)>,
    /// What of it was beyond a limit, and is cut here or left out.
    pub beyond: Vec<Beyond>,
}

/// A rule of the contract that a description breaks by its size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beyond {
    /// Which part of the description.
    pub part: &'static str,
    /// Its size, and what it may be.
    pub text: String,
}

impl Beyond {
    /// Returns the broken rule, if this part has more of these units than it may have.
    pub(crate) fn check(part: &'static str, size: usize, most: usize, units: &str) -> Option<Self> {
        (size > most).then(|| Self { part, text: format!("{part} has {size} {units}: must have at most {most}") })
    }
}
