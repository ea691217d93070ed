//! Policies: how VMs are watched and judged, per cluster, node, tag and VM; and maintenance windows.
//!
//! A policy leaves open what it does not name. The closest scope that names a setting rules: VM before tag (the last in
//! the order of its key and value, where several name it) before node before cluster before the built-in default.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{LogIndex, MaintenanceId, NodeId, ProbeName, Timing, VmId, VmSpec, WallTime};

/// The most policies of a cluster.
pub const POLICIES_MAX: usize = 1_000;
/// The most maintenance windows at a time.
pub const MAINTENANCES_MAX: usize = 1_000;
/// The longest maintenance window.
pub const MAINTENANCE_LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest reason of a maintenance window, in bytes.
pub const MAINTENANCE_REASON_MAX: usize = 256;
/// The fewest failures in a row that silence may be believed after (rule 4).
pub const SILENCE_FAILURES_MIN: u32 = 6;
/// The most failures in a row that a policy may ask for.
pub const SILENCE_FAILURES_MAX: u32 = 1_000;

/// What a policy or a maintenance window is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "scope", content = "of")]
pub enum PolicyScope {
    /// Every VM.
    Cluster,
    /// The VMs of a node.
    Node(NodeId),
    /// The VMs that have this label.
    Tag {
        /// Key of the label.
        key: String,
        /// Its value.
        value: String,
    },
    /// One VM.
    Vm(VmId),
}

impl PolicyScope {
    /// Returns whether a VM on a node is in it.
    pub fn covers(&self, vm: &VmSpec, on: &NodeId) -> bool {
        match self {
            Self::Cluster => true,
            Self::Node(node) => node == on,
            Self::Tag { key, value } => vm.labels.get(key) == Some(value),
            Self::Vm(id) => *id == vm.id,
        }
    }
}

impl fmt::Display for PolicyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("cluster"),
            Self::Node(node) => write!(f, "node:{node}"),
            Self::Tag { key, value } => write!(f, "tag:{key}={value}"),
            Self::Vm(vm) => write!(f, "vm:{vm}"),
        }
    }
}

/// A text that names no scope.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("scope {value:?}: must be {SCOPE_RULE}")]
pub struct ScopeError {
    /// The text.
    pub value: String,
}

/// What the text of a scope must be.
pub const SCOPE_RULE: &str = "cluster, node:NAME, tag:KEY=VALUE or vm:UUID";
/// The longest key or value of a tag, in bytes.
pub const TAG_MAX: usize = 128;

impl std::str::FromStr for PolicyScope {
    type Err = ScopeError;
    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let wrong = || ScopeError { value: text.chars().take(80).collect() };
        let part = |text: &str| (1..=TAG_MAX).contains(&text.len()).then(|| text.to_owned()).ok_or_else(wrong);
        match text.split_once(':') {
            None if text == "cluster" => Ok(Self::Cluster),
            Some(("node", name)) => NodeId::new(name).map(Self::Node).map_err(|_| wrong()),
            Some(("vm", id)) => id.parse().map(Self::Vm).map_err(|_| wrong()),
            Some(("tag", tag)) => {
                let (key, value) = tag.split_once('=').ok_or_else(wrong)?;
                Ok(Self::Tag { key: part(key)?, value: part(value)? })
            }
            None | Some(_) => Err(wrong()),
        }
    }
}

/// Settings of one scope; what is `None` is left to the next wider one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How often each probe runs, in milliseconds; 100 to 3,600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_interval_ms: Option<u64>,
    /// How long one run of a probe may take, in milliseconds; 50 to 60,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_timeout_ms: Option<u64>,
    /// How long a VM may be silent on every path before it is `lost`, in milliseconds; at least `lost_after_ms` of the
    /// cluster's timing, at most 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_after_ms: Option<u64>,
    /// How long a guest may take to boot before it counts as hung, in milliseconds; 1,000 to 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_budget_ms: Option<u64>,
    /// Failures in a row before silence is believed, [`SILENCE_FAILURES_MIN`] to [`SILENCE_FAILURES_MAX`]; measured
    /// loss raises it, never lowers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_failures: Option<u32>,
    /// Probes whose failure lowers the state; failures of others are notes. None named: all services count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_probes: Option<Vec<ProbeName>>,
}

/// A setting of a policy that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
#[error("policy.{field}: {value} must be {rule}")]
pub struct PolicyError {
    /// Which setting.
    pub field: String,
    /// What it was.
    pub value: String,
    /// What it must be.
    pub rule: String,
}

impl Policy {
    /// Checks every setting that it names.
    ///
    /// # Errors
    /// [`PolicyError`] names the setting, its value and the rule.
    pub fn validate(&self, timing: &Timing) -> Result<(), PolicyError> {
        let lost_least = u64::try_from(timing.lost_after.as_millis()).unwrap_or(u64::MAX);
        within("probe_interval_ms", self.probe_interval_ms, 100, 3_600_000)?;
        within("probe_timeout_ms", self.probe_timeout_ms, 50, 60_000)?;
        within("lost_after_ms", self.lost_after_ms, lost_least, 86_400_000)?;
        within("boot_budget_ms", self.boot_budget_ms, 1_000, 86_400_000)?;
        let failures = self.silence_failures.map(u64::from);
        within("silence_failures", failures, u64::from(SILENCE_FAILURES_MIN), u64::from(SILENCE_FAILURES_MAX))?;
        match &self.required_probes {
            Some(probes) if probes.len() > crate::vm::PROBES_PER_VM_MAX => Err(PolicyError {
                field: "required_probes".to_owned(),
                value: format!("{} probes", probes.len()),
                rule: format!("at most {} probes", crate::vm::PROBES_PER_VM_MAX),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Lays a closer scope's settings over these.
    pub fn overlay(&mut self, closer: &Self) {
        let Self {
            probe_interval_ms,
            probe_timeout_ms,
            lost_after_ms,
            boot_budget_ms,
            silence_failures,
            required_probes,
        } = closer;
        self.probe_interval_ms = probe_interval_ms.or(self.probe_interval_ms);
        self.probe_timeout_ms = probe_timeout_ms.or(self.probe_timeout_ms);
        self.lost_after_ms = lost_after_ms.or(self.lost_after_ms);
        self.boot_budget_ms = boot_budget_ms.or(self.boot_budget_ms);
        self.silence_failures = silence_failures.or(self.silence_failures);
        if required_probes.is_some() {
            self.required_probes.clone_from(required_probes);
        }
    }
}

fn within(field: &str, value: Option<u64>, least: u64, most: u64) -> Result<(), PolicyError> {
    match value {
        Some(value) if !(least..=most).contains(&value) => Err(PolicyError {
            field: field.to_owned(),
            value: value.to_string(),
            rule: format!("from {least} to {most}"),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Returns what all policies together say of a VM on a node.
pub fn policy_of(policies: &BTreeMap<PolicyScope, Policy>, vm: &VmSpec, node: &NodeId) -> Policy {
    let mut resolved = Policy::default();
    // The order of the scopes is the order of closeness.
    for (_, policy) in policies.iter().filter(|(scope, _)| scope.covers(vm, node)) {
        resolved.overlay(policy);
    }
    resolved
}

/// A maintenance window: its VMs are watched, and nothing is said against them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MaintenanceRecord {
    /// Its number: never used again.
    pub id: MaintenanceId,
    /// What it is for.
    pub scope: PolicyScope,
    /// Why; at most [`MAINTENANCE_REASON_MAX`] bytes.
    pub reason: String,
    /// How long it still lasts, as the leader last recorded: no wall clock decides when it ends.
    #[serde(with = "crate::duration", rename = "remaining_ms")]
    pub remaining: Duration,
    /// When it was begun, for people.
    pub begun: WallTime,
    /// The index at which it was begun.
    #[serde(default)]
    pub index: LogIndex,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SortedMap;

    fn vm(label: &str) -> VmSpec {
        VmSpec {
            id: VmId::new(uuid::Uuid::from_u128(1)),
            name: "desk-1".to_owned(),
            addresses: SortedMap::new(),
            probes: Vec::new(),
            labels: SortedMap::from([("pool".to_owned(), label.to_owned())]),
            datastore: None,
        }
    }

    #[test]
    fn a_scope_survives_printing_and_others_are_refused() {
        let tag = PolicyScope::Tag { key: "pool".to_owned(), value: "gold=a:b".to_owned() };
        let vm = PolicyScope::Vm(VmId::new(uuid::Uuid::from_u128(1)));
        for scope in [PolicyScope::Cluster, PolicyScope::Node(NodeId::new("n1").expect("a name")), tag, vm] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
        }
        let long = format!("tag:pool={}", "x".repeat(TAG_MAX + 1));
        for bad in ["", "Cluster", "cluster:", "node:", "node:N 1", "tag:pool", "tag:=x", "tag:x=", "vm:1", "n1", &long]
        {
            let e = bad.parse::<PolicyScope>().expect_err("must be refused").to_string();
            assert!(e.contains("must be cluster, node:NAME"), "{e}");
        }
    }

    #[test]
    fn the_closest_scope_that_names_a_setting_rules() {
        let node = NodeId::new("n1").expect("a name");
        let tag = PolicyScope::Tag { key: "pool".to_owned(), value: "gold".to_owned() };
        let budget = |ms| Policy { boot_budget_ms: Some(ms), ..Policy::default() };
        let policies = BTreeMap::from([
            (PolicyScope::Cluster, Policy { silence_failures: Some(9), ..budget(1_000) }),
            (PolicyScope::Node(node.clone()), budget(2_000)),
            (tag, budget(3_000)),
        ]);
        let gold = policy_of(&policies, &vm("gold"), &node);
        assert_eq!((gold.boot_budget_ms, gold.silence_failures), (Some(3_000), Some(9)));
        assert_eq!(policy_of(&policies, &vm("lead"), &node).boot_budget_ms, Some(2_000));
        let other = NodeId::new("n2").expect("a name");
        assert_eq!(policy_of(&policies, &vm("lead"), &other).boot_budget_ms, Some(1_000));
    }

    #[test]
    fn a_setting_out_of_bounds_is_refused_with_its_name_value_and_rule() {
        let timing = Timing::default();
        let bad = |policy: Policy| policy.validate(&timing).expect_err("must be refused").to_string();
        assert_eq!(
            bad(Policy { silence_failures: Some(5), ..Policy::default() }),
            "policy.silence_failures: 5 must be from 6 to 1000"
        );
        assert_eq!(
            bad(Policy { lost_after_ms: Some(3_499), ..Policy::default() }),
            "policy.lost_after_ms: 3499 must be from 3500 to 86400000"
        );
        assert!(bad(Policy { probe_interval_ms: Some(99), ..Policy::default() }).contains("probe_interval_ms: 99"));
        assert!(bad(Policy { probe_timeout_ms: Some(60_001), ..Policy::default() }).contains("60001"));
        assert!(bad(Policy { boot_budget_ms: Some(0), ..Policy::default() }).contains("boot_budget_ms: 0"));
        let nine = (0..9).map(|n| ProbeName::new(&format!("p{n}")).expect("a name")).collect();
        assert!(bad(Policy { required_probes: Some(nine), ..Policy::default() }).contains("9 probes"));
        assert_eq!(Policy::default().validate(&timing), Ok(()));
    }
}
