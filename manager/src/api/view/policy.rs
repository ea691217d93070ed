//! What operators set: policies, maintenance windows, and proofs that a node does not run.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TimeView;

/// Settings of one scope; what is absent is left to the next wider one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// How often each probe runs, in milliseconds; 100 to 3,600,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_interval_ms: Option<u64>,
    /// How long one run of a probe may take, in milliseconds; 50 to 60,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_timeout_ms: Option<u64>,
    /// How long a VM may be silent on every path before it is `lost`, in milliseconds; from `lost_after_ms` of the
    /// cluster's timing to 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_after_ms: Option<u64>,
    /// How long a guest may take to boot before it counts as hung, in milliseconds; 1,000 to 86,400,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_budget_ms: Option<u64>,
    /// Failures in a row before silence is believed, 6 to 1,000; measured loss raises it, never lowers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silence_failures: Option<u32>,
    /// Probes whose failure lowers the state, at most 8; failures of others are notes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_probes: Option<Vec<String>>,
}

/// The policy of one scope.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// `cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`.
    #[schema(example = "tag:pool=gold")]
    pub scope: String,
    /// What it says.
    pub settings: PolicySettings,
}

/// What all policies together say of a VM.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct VmPolicyView {
    /// The VM.
    pub vm: String,
    /// Every setting, with the scope that it comes from.
    pub settings: Vec<SettingView>,
}

/// One setting as it holds for a VM.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct SettingView {
    /// Its name.
    #[schema(example = "probe_interval_ms")]
    pub name: String,
    /// Its value; `null` for `required_probes` where every service counts.
    pub value: serde_json::Value,
    /// The scope that says so, or `default`.
    #[schema(example = "tag:pool=gold")]
    pub from: String,
}

/// A maintenance window that is to begin.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceRequest {
    /// `cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`.
    #[schema(example = "node:n1")]
    pub scope: String,
    /// How long it lasts, in milliseconds; 1 s to 30 days.
    pub lasts_ms: u64,
    /// Why; 1 to 256 bytes.
    pub reason: String,
}

/// A maintenance window that holds: its VMs are watched, and nothing is said against them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MaintenanceView {
    /// Its id.
    #[schema(example = "x1")]
    pub id: String,
    /// What it is for.
    #[schema(example = "node:n1")]
    pub scope: String,
    /// Why.
    pub reason: String,
    /// How long it still lasts, as it was last recorded; that is done every 10 s.
    pub remaining_ms: u64,
    /// When it was begun.
    pub begun: TimeView,
    /// How many VMs it covers now.
    pub vms: u64,
}

/// A proof that a node does not run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceProofRequest {
    /// `power_off` or `fenced`.
    #[schema(example = "power_off")]
    pub kind: String,
    /// The boot that it speaks of; the one in which the node was last heard when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// What is worth knowing of it; at most 256 bytes.
    #[serde(default)]
    pub note: String,
}

/// A proof that one boot of a node does not run, as it is recorded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct FenceProofView {
    /// `power_off` or `fenced`.
    pub kind: String,
    /// The boot that it speaks of.
    pub boot: String,
    /// What its bringer added.
    pub note: String,
    /// Log index that holds it.
    pub index: u64,
    /// When.
    pub at: TimeView,
}
