//! Between messages and the words of `vouch_types`: every value that comes in is checked once, here.
//!
//! A message that breaks a rule is refused whole, with the field, the value and the rule. Nothing is repaired, cut or
//! guessed, and an unspecified enum value is never taken for one of the others.

mod durations;
mod findings;
mod ids;
pub mod limits;
mod link;
mod order;
mod probe_grant;
mod proof;
mod report;
mod state;
mod vm;
mod watcher;

pub use durations::{BOUNDS_MICROS, BUCKETS, DurationHistogram, DurationKey, WatcherDurations};
pub use findings::WireFindings;
pub use ids::{
    boot_bytes, boot_id, cluster_bytes, cluster_id, digest, log_bytes, log_name, manager_id, node_id, probe_name,
    socket_address, vm_bytes, vm_id, watcher_id,
};
pub use link::WireLink;
pub use order::{
    AskDepth, AssignedProbe, Assignment, CreateWatcher, Fence, Peer, RelayTarget, Target, TimedProbe,
    manager_addresses, manager_endpoints, ownership,
};
pub use report::{NodeHello, NodeReport, VmReport};
pub use state::{agent_question, hypervisor_state, network, operation, outcome, progress, relay_outcome};
pub use vm::{vm_description, vm_spec};
pub use watcher::{WatcherAnswer, WatcherReport, WireObservation, WireRelayObservation};

use thiserror::Error;

use crate::links::LinkError;

/// A value that breaks a rule of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {value:?}: {rule}")]
pub struct ConvertError {
    /// Which field, as `vm_report.state`.
    pub field: &'static str,
    /// What it held, shortened.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

/// The most of a wrong value that an error repeats, in characters.
const VALUE_SHOWN: usize = 80;

impl ConvertError {
    pub(crate) fn new(field: &'static str, value: impl ToString, rule: impl ToString) -> Self {
        Self { field, value: value.to_string().chars().take(VALUE_SHOWN).collect(), rule: rule.to_string() }
    }
}

impl From<ConvertError> for LinkError {
    fn from(e: ConvertError) -> Self {
        Self::Malformed(e.to_string())
    }
}

pub(crate) fn at_most(field: &'static str, count: usize, max: usize, unit: &str) -> Result<(), ConvertError> {
    if count <= max { Ok(()) } else { Err(ConvertError::new(field, count, format!("must be at most {max} {unit}"))) }
}

/// Checks that no two of `keys` are the same.
pub(crate) fn distinct<K: Ord + std::fmt::Debug>(
    field: &'static str,
    keys: impl Iterator<Item = K>,
) -> Result<(), ConvertError> {
    let mut keys: Vec<K> = keys.collect();
    keys.sort_unstable();
    match keys.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ConvertError::new(field, format!("{:?}", pair[0]), "must be there once")),
        None => Ok(()),
    }
}

/// Returns the age of this many microseconds.
pub(crate) fn age(field: &'static str, micros: u64) -> Result<std::time::Duration, ConvertError> {
    let age = std::time::Duration::from_micros(micros);
    if age <= limits::AGE_MAX {
        Ok(age)
    } else {
        Err(ConvertError::new(field, micros, format!("must be at most {} days in microseconds", limits::AGE_MAX_DAYS)))
    }
}

pub(crate) fn text(field: &'static str, value: String, max: usize) -> Result<String, ConvertError> {
    if value.len() <= max {
        Ok(value)
    } else {
        Err(ConvertError::new(field, &value, format!("must be at most {max} bytes, is {}", value.len())))
    }
}

pub(crate) fn present<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "", "must be present"))
}

#[cfg(test)]
mod tests;
