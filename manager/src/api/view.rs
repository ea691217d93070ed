//! The documents of the API: what a client reads, in the words of the design.
//!
//! Ids are texts, ages are milliseconds, times are RFC 3339 beside Unix milliseconds. Pure: made from the state by
//! [`super::compose`] or from memory by the fleet part; fields are only ever added, since clients keep them.

mod evidence;
mod incident;
mod join_token;
mod look;
mod node_removed;
mod policy;
mod probe;
mod probe_key;
mod scoped_probe;
mod state_hash;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::{Advice, Fault, WallTime};

pub use evidence::{EvidenceView, ExplainView, NodeWordView, ObservationView, RelayView, StatementView};
pub use incident::{IncidentDetailView, IncidentView, IncidentVmView};
pub use join_token::{JoinTokenMadeView, JoinTokenRequest, JoinTokenView};
pub use look::{CheckView, FactView, LookView, PhaseView, SampleView};
pub use node_removed::{NodeRemovedView, VmLeftView};
pub use policy::{
    FenceProofRequest, FenceProofView, MaintenanceRequest, MaintenanceView, PolicySettings, PolicyView, SettingView,
    VmPolicyView,
};
pub use probe::{
    ProbeDescriptionRequest, ProbeDescriptionView, ProbeGrantRequest, ProbeGrantView, ProbeRolloutView, ProbeView,
    TallyView,
};
pub use probe_key::{ProbeKeyRequest, ProbeKeyView, ProbeSignerView, ProbeTrustRequest, ProbeTrustView};
pub use scoped_probe::{ScopedProbeRequest, ScopedProbeView};
pub use state_hash::{StateComparedView, StateHashView};

/// A moment on the wall clock of the leader that recorded it; for people, nothing is decided by it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimeView {
    /// RFC 3339 in UTC with milliseconds.
    #[schema(example = "2026-11-22T21:36:47.042Z")]
    pub rfc3339: String,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl From<WallTime> for TimeView {
    fn from(t: WallTime) -> Self {
        Self { rfc3339: t.to_string(), unix_ms: t.as_unix_millis() }
    }
}

/// One thing that is broken, with its ranked causes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct FaultView {
    /// The likeliest cause.
    #[schema(example = "manager_node_path")]
    pub cause: String,
    /// How it shows, in one word where there is one.
    #[schema(example = "closed")]
    pub detail: String,
    /// All causes, the likeliest first.
    pub causes: Vec<CauseView>,
}

/// A cause with its weight.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CauseView {
    /// What may have broken.
    pub cause: String,
    /// Per cent of the evidence that speaks for it.
    pub score: u8,
}

impl From<&Fault> for FaultView {
    fn from(fault: &Fault) -> Self {
        Self {
            cause: fault.top().to_string(),
            detail: fault.detail.clone(),
            causes: fault.causes.iter().map(|c| CauseView { cause: c.cause.to_string(), score: c.score }).collect(),
        }
    }
}

/// What an operator may do about a VM; vouch never does it by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AdviceView {
    /// `none`, `restart`, `safe_to_restart`, `fence_first` or `blocked`.
    #[serde(rename = "do")]
    #[schema(example = "none")]
    pub action: String,
    /// Placement generation that the proof speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What proves it: `power_off`, `fenced` or `statement`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Log index that holds the proof; absent where the evidence of the verdict holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_index: Option<u64>,
    /// How long after it was read it may be acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_for_ms: Option<u64>,
}

impl From<&Advice> for AdviceView {
    fn from(advice: &Advice) -> Self {
        let plain = |generation: Option<u64>| Self {
            action: advice.as_str().to_owned(),
            generation,
            proof: None,
            proof_index: None,
            valid_for_ms: None,
        };
        match advice {
            Advice::None | Advice::Blocked => plain(None),
            Advice::Restart { generation } | Advice::FenceFirst { generation } => plain(Some(generation.get())),
            Advice::SafeToRestart { generation, proof, index, valid_for } => Self {
                proof: Some(proof.as_str().to_owned()),
                proof_index: Some(index.get()).filter(|index| *index > 0),
                valid_for_ms: u64::try_from(valid_for.as_millis()).ok(),
                ..plain(Some(generation.get()))
            },
        }
    }
}

/// A VM with its verdict, joined with the paths of its node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct VmView {
    /// UUID.
    #[schema(example = "6f1c2a9e-0000-4000-8000-000000000001")]
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The node that owns it.
    pub node: String,
    /// Placement generation.
    pub generation: u64,
    /// `up`, `degraded`, `paused`, `hung`, `rebooting`, `stopped`, `down`, `lost`, `conflict` or `unknown`.
    #[schema(example = "up")]
    pub state: String,
    /// Since when the state is this one.
    pub since: TimeView,
    /// Where the state comes from now: `direct` or `watcher`.
    #[schema(example = "direct")]
    pub source: String,
    /// Since when it comes from there.
    pub source_since: TimeView,
    /// All that is broken: what the VM shares with its node first, then its own.
    pub faults: Vec<FaultView>,
    /// How many of `faults`, from the first, are shared with the node.
    pub shared_faults: u32,
    /// Things worth knowing that change nothing.
    pub notes: Vec<FaultView>,
    /// What may be done.
    pub advice: AdviceView,
    /// Why, in one sentence.
    pub reason: String,
    /// SHA-256 over the evidence of the recorded verdict.
    pub evidence: String,
    /// Version of the recorded verdict.
    pub version: u64,
    /// Who watches it.
    pub watchers: Vec<VmWatcherView>,
    /// What is missing in who watches it.
    pub coverage: Vec<ReasonView>,
    /// Addresses per network.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// The probes that are run against it.
    pub probes: Vec<VmProbeView>,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
    /// The store of its disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore: Option<String>,
    /// Why nothing is said against it: maintenance, or an operation of its hypervisor; empty when nothing is held back.
    #[serde(default)]
    pub suppressed: String,
    /// Open incidents that touch it.
    #[serde(default)]
    pub incidents: Vec<String>,
    /// Whom its probes are to find: another one's answer is not its own. Forgotten by `DELETE /v1/vms/{id}/pins`.
    #[serde(default)]
    pub pins: Vec<PinView>,
}

/// Whom a probe of a VM is to find.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct PinView {
    /// The probe.
    pub probe: String,
    /// Over which network.
    pub network: String,
    /// The first eight bytes of a SHA-256 over what identifies the machine that answered first.
    #[schema(example = "00c0ffee00c0ffee")]
    pub identity: String,
}

/// A watcher of a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct VmWatcherView {
    /// Its id.
    #[schema(example = "w1")]
    pub id: String,
    /// The node that it runs on.
    pub node: String,
    /// `placed`, `live`, `lost` or `retired`.
    pub life: String,
    /// Whether it runs on the VM's own node.
    pub same_node: bool,
}

/// A probe of a VM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct VmProbeView {
    /// Its name.
    pub probe: String,
    /// Over which network.
    pub network: String,
    /// Its settings, a JSON object.
    pub settings: String,
    /// Whether it has ever succeeded: only then does its failure count.
    pub proven: bool,
    /// The scope that it is assigned to by an operator; absent: the VM's own file names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "tag:pool=gold")]
    pub scope: Option<String>,
    /// How often it runs, in milliseconds, where that is not as the policies say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long one run may take, in milliseconds, where that is not as the policies say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// A reason or warning: a word for programs, a sentence for people.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReasonView {
    /// The word.
    #[schema(example = "no_quorum")]
    pub code: String,
    /// The sentence.
    pub message: String,
}

impl ReasonView {
    /// Returns the reason of this word and sentence.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// A forced check with what is known after it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckedView {
    /// Who was asked, and who answered.
    pub check: CheckView,
    /// The VM as it is recorded after the check.
    pub vm: VmView,
    /// The evidence after the check; absent when the VM has gone meanwhile.
    pub evidence: Option<EvidenceView>,
}

/// Who is heard by whom.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct HearingView {
    /// The manager that tells it.
    pub manager: String,
    /// Streams of nodes.
    pub nodes: Vec<HeardView>,
    /// Streams of watchers.
    pub watchers: Vec<HeardView>,
}

/// How one manager hears one node or watcher.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct HeardView {
    /// The manager that hears it.
    pub manager: String,
    /// The node or watcher that is heard.
    pub peer: String,
    /// `open`, `closed` or `reset`.
    pub stream: String,
    /// Networks that its open streams run over, as far as they are known.
    pub networks: Vec<String>,
    /// How old its last word is; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// A compute node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its name.
    pub id: String,
    /// Its rack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// How its hypervisor is driven: `qemu` or `local`.
    pub driver: String,
    /// Where its relay listens.
    pub relay: String,
    /// The boot in which it was last heard.
    pub boot: String,
    /// What proves that this boot does not run, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FenceProofView>,
    /// Where the states of its VMs come from now.
    pub source: String,
    /// Since when.
    pub since: TimeView,
    /// What is broken between it and the managers.
    pub faults: Vec<FaultView>,
    /// How many of its VMs are in each state.
    pub vms: BTreeMap<String, u64>,
    /// Watchers that run on it.
    pub watchers: Vec<String>,
    /// How each manager hears it, as far as the answering manager knows.
    pub heard: Vec<HeardView>,
    /// Managers that cannot hear it although others do.
    pub deaf_managers: Vec<String>,
}

/// A watcher.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct WatcherView {
    /// Its id.
    pub id: String,
    /// The node that it runs on.
    pub node: String,
    /// `placed`, `live`, `lost` or `retired`.
    pub life: String,
    /// Log index of its placement.
    pub placed: u64,
    /// Its incarnation, once it has redeemed its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// The VMs that it watches.
    pub vms: Vec<String>,
    /// Generation of that list.
    pub assignment: u64,
    /// How each manager hears it, as far as the answering manager knows.
    pub heard: Vec<HeardView>,
}

/// One event of the replicated log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its position, `INDEX.ORDINAL`: never repeats, and rises.
    #[schema(example = "42.0")]
    pub id: String,
    /// Log index of the command that made it.
    pub index: u64,
    /// Position among the events of that command.
    pub ordinal: u32,
    /// When.
    pub at: TimeView,
    /// What: `vm_state_changed`, `path_recovered` and the like.
    #[schema(example = "vm_state_changed")]
    pub kind: String,
    /// The VM that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<String>,
    /// The node that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The same for people, in one line.
    pub text: String,
    /// Whether somebody is to be woken by it: an incident that opens or closes, or a VM that gets worse or is well again
    /// and that no incident tells.
    #[serde(default)]
    pub notify: bool,
    /// All of it.
    pub detail: serde_json::Value,
}

/// One page of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// What to send as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The control cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// Its id; absent before it is initialised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The manager that answers.
    pub manager: String,
    /// What it is now: `leader`, `follower`, `candidate` or `learner`.
    pub role: String,
    /// The leader, if one is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The current term.
    pub term: u64,
    /// Log index up to which this manager has applied.
    pub applied: u64,
    /// All managers.
    pub members: Vec<MemberView>,
    /// Managers that cannot hear a node which others hear.
    pub notes: Vec<ReasonView>,
    /// The hash of the applied state, here and on the others.
    #[serde(default)]
    pub state: StateHashView,
}

/// One manager of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// Whether it votes.
    pub voter: bool,
    /// Its mutually authenticated port per network.
    pub addresses: BTreeMap<String, String>,
    /// Base URL of its admin API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

/// A manager to add.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// Its id.
    #[schema(example = "m4")]
    pub id: String,
    /// Its mutually authenticated port on the management network.
    #[schema(example = "10.1.0.4:7001")]
    pub management: String,
    /// The same on the service network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Base URL of its admin API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

/// Who is to lead.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// The manager; the best prepared one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Whether a manager may be sent requests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReadyView {
    /// Whether it is ready.
    pub ready: bool,
    /// Why it is not.
    pub reasons: Vec<ReasonView>,
    /// Things worth knowing that do not make it unready.
    pub notes: Vec<ReasonView>,
}

/// The process is alive.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct LiveDocument {
    /// Always `true`.
    pub live: bool,
}
