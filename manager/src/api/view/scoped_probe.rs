//! Assignments of probes to the VMs of a scope.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a probe is to be assigned to the VMs of a scope.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopedProbeRequest {
    /// Its settings, a JSON object of at most 4,096 bytes, which the schema of the probe must take.
    #[serde(default = "nothing")]
    pub settings: serde_json::Value,
    /// How often it runs, in milliseconds, 100 to 3,600,000; when absent as policies say, else as the probe proposes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long one run may take, in milliseconds, 50 to 60,000; when absent as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

fn nothing() -> serde_json::Value {
    serde_json::json!({})
}

/// A probe that is assigned to the VMs of a scope.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ScopedProbeView {
    /// `cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`.
    #[schema(example = "tag:pool=gold")]
    pub scope: String,
    /// The probe.
    pub probe: String,
    /// Over which network.
    pub network: String,
    /// Its settings.
    pub settings: serde_json::Value,
    /// How often it runs, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long one run may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Who assigned it, as far as is known.
    pub by: String,
    /// Log index at which it was last changed: its ETag, in quotes.
    pub version: u64,
    /// How many VMs the scope covers now.
    pub vms: u64,
    /// How many of them it is run against by this assignment: others have a closer one, or as many probes as they may have.
    pub vms_running: u64,
}
