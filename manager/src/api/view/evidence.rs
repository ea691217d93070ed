//! Evidence on a VM, and why its verdict is what it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IncidentView, VmView};

/// What one manager's detector holds on a VM.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct EvidenceView {
    /// The VM.
    pub vm: String,
    /// The manager whose memory this is.
    pub manager: String,
    /// Whether it led when it was asked: only the leader's evidence decides.
    pub leads: bool,
    /// Whether this is live. `false`: only the digest of the recorded verdict is known here.
    pub live: bool,
    /// SHA-256 over the evidence of the recorded verdict.
    pub digest: String,
    /// How the detector comes from this evidence to its verdict, one sentence per step; empty when it was not asked.
    pub explanation: Vec<String>,
    /// The node's own word, per manager that heard it.
    pub node_words: Vec<NodeWordView>,
    /// Signed statements of the node that watchers carried.
    pub statements: Vec<StatementView>,
    /// What watchers' probes came to.
    pub observations: Vec<ObservationView>,
    /// What came of asking the relay of the VM's node.
    pub relays: Vec<RelayView>,
    /// The state that this evidence comes to; the recorded verdict may be a moment behind. Empty when it was not asked.
    #[serde(default)]
    pub state: String,
    /// Why, in one sentence.
    #[serde(default)]
    pub reason: String,
    /// The evidence that this rests on, one sentence each.
    #[serde(default)]
    pub used: Vec<String>,
    /// The evidence that does not count, each with why.
    #[serde(default)]
    pub discounted: Vec<String>,
    /// What would make it another one.
    #[serde(default)]
    pub would_change: Vec<String>,
}

/// Why the verdict on a VM is what it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// The VM with its recorded verdict.
    pub vm: VmView,
    /// The manager whose memory this is.
    pub manager: String,
    /// Whether this is the leader's live evidence. `false`: only the digest of the recorded evidence is known here.
    pub live: bool,
    /// SHA-256 over the evidence of the recorded verdict.
    pub digest: String,
    /// How long ago this manager last proved that its records are current, on a `stale` answer; absent when it never has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_age_ms: Option<u64>,
    /// The state that the evidence comes to now.
    pub state: String,
    /// Why, in one sentence.
    pub reason: String,
    /// The evidence that this rests on, one sentence each.
    pub used: Vec<String>,
    /// The evidence that does not count, each with why.
    pub discounted: Vec<String>,
    /// What would make it another one.
    pub would_change: Vec<String>,
    /// Open incidents that touch the VM.
    pub incidents: Vec<IncidentView>,
}

/// A node's own word on one of its VMs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeWordView {
    /// The manager that heard it.
    pub manager: String,
    /// The node.
    pub node: String,
    /// What its hypervisor says: `running`, `paused`, `gone` and the like.
    pub state: String,
    /// Placement generation that it speaks of.
    pub generation: u64,
    /// How old it is.
    pub age_ms: u64,
    /// Whether it is fresh enough to count.
    pub fresh: bool,
}

/// A signed statement that a watcher carried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StatementView {
    /// Who carried it.
    pub watcher: String,
    /// The node that signed it.
    pub node: String,
    /// What its hypervisor says.
    pub state: String,
    /// Placement generation that it speaks of.
    pub generation: u64,
    /// How old it is.
    pub age_ms: u64,
    /// Whether it is fresh enough to count.
    pub fresh: bool,
}

/// What one probe of one watcher came to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ObservationView {
    /// Who looked.
    pub watcher: String,
    /// The node that the watcher runs on.
    pub watcher_node: String,
    /// Whether that is the VM's own node.
    pub same_node: bool,
    /// Over which network.
    pub network: String,
    /// With which probe.
    pub probe: String,
    /// `up`, `degraded`, `down` or `unknown`.
    pub outcome: String,
    /// Why, in one word.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// How old it is.
    pub age_ms: u64,
    /// Whether it is fresh enough to count.
    pub fresh: bool,
    /// Whether the watcher itself was well.
    pub healthy: bool,
    /// Whether this probe has ever succeeded for this VM.
    pub proven: bool,
}

/// What came of asking a node's relay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RelayView {
    /// Who asked.
    pub watcher: String,
    /// The node that the watcher runs on.
    pub watcher_node: String,
    /// Whether it asked over the local bridge, because it runs on that node; else over the management network.
    pub same_node: bool,
    /// The node whose relay was asked.
    pub node: String,
    /// `reached`, `refused`, `stalled`, `silent` or `denied`.
    pub outcome: String,
    /// How old it is.
    pub age_ms: u64,
    /// Whether it is fresh enough to count.
    pub fresh: bool,
}
