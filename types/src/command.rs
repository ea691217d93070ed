//! Commands: replicated intents, in the imperative; and `Applied`, what came of each.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::ManagerNote;
use crate::{
    AssignmentGeneration, ClusterId, Fault, Generation, Incarnation, LogIndex, ManagerId, NodeId, NodeRecord,
    ProbeAssignment, ProbeRecord, Source, Verdict, VerdictVersion, VmId, VmSpec, WallTime, WatcherId,
};

/// The most changes that one `RecordVerdicts` may carry.
pub const CHANGES_MAX: usize = 10_000;

/// One verdict that replaces another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VerdictChange {
    /// The VM.
    pub vm: VmId,
    /// The placement generation that was judged.
    pub generation: Generation,
    /// The version that is replaced; apply refuses a change whose version is not the recorded one.
    pub replaces: VerdictVersion,
    /// The new verdict; apply sets its version, and its `since` where the state is unchanged.
    pub verdict: Verdict,
}

/// One state of a node's paths that replaces another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathChange {
    /// The node.
    pub node: NodeId,
    /// The version that is replaced.
    pub replaces: VerdictVersion,
    /// The new source.
    pub source: Source,
    /// The new faults.
    pub faults: Vec<Fault>,
    /// Why, for people; at most 256 bytes.
    pub reason: String,
}

/// The private parts of a new cluster, replicated so that any leader can sign.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSecrets {
    /// Certificate of the internal CA, PEM.
    pub ca_certificate: String,
    /// Key of the internal CA, PEM (PKCS #8).
    pub ca_key: String,
    /// Ed25519 key that signs grants, PKCS #8 DER.
    pub grant_key: Vec<u8>,
    /// Ed25519 public key of grants, 32 bytes.
    pub grant_public_key: Vec<u8>,
}

impl std::fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecrets(..)")
    }
}

/// What the cluster is told to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Make the cluster: refused when there is one.
    InitCluster {
        /// Its id.
        cluster: ClusterId,
        /// Its keys.
        secrets: ClusterSecrets,
        /// When.
        at: WallTime,
    },
    /// Record a node, or what has changed of it. Its path state is kept.
    RecordNode {
        /// The node; `path` counts only for a new one.
        node: NodeRecord,
        /// When.
        at: WallTime,
    },
    /// Record the VMs of a node: all of them. VMs that it no longer names are removed if it owns them.
    RecordVms {
        /// The node.
        node: NodeId,
        /// Its VMs.
        vms: Vec<VmSpec>,
        /// When.
        at: WallTime,
    },
    /// Record probes that succeeded for a VM for the first time.
    RecordProven {
        /// Per VM, the probes.
        proven: Vec<(VmId, ProbeAssignment)>,
    },
    /// Record changes of verdicts and of paths, all or those that are not stale.
    RecordVerdicts {
        /// Changed verdicts.
        verdicts: Vec<VerdictChange>,
        /// Changed paths.
        paths: Vec<PathChange>,
        /// Managers that cannot hear what others hear: all notes as they are now, when they changed.
        manager_notes: Option<Vec<ManagerNote>>,
        /// When, on the proposing leader's wall clock.
        at: WallTime,
    },
    /// Create a watcher on a node; the cluster numbers it.
    PlaceWatcher {
        /// Where.
        node: NodeId,
        /// SHA-256 of its one-time secret.
        secret_hash: Vec<u8>,
        /// When.
        at: WallTime,
    },
    /// A watcher redeems its one-time secret.
    RedeemSecret {
        /// The watcher.
        watcher: WatcherId,
        /// SHA-256 of what it showed.
        secret_hash: Vec<u8>,
        /// Its incarnation.
        incarnation: Incarnation,
        /// When.
        at: WallTime,
    },
    /// Set what watchers watch.
    AssignWatchers {
        /// Per watcher, the whole list.
        assignments: Vec<(WatcherId, Vec<VmId>)>,
    },
    /// A watcher is lost: silent or gone.
    LoseWatcher {
        /// The watcher.
        watcher: WatcherId,
        /// Why, for people.
        reason: String,
        /// When.
        at: WallTime,
    },
    /// Have a watcher destroyed by its node.
    RetireWatcher {
        /// The watcher.
        watcher: WatcherId,
        /// When.
        at: WallTime,
    },
    /// A node has destroyed a watcher: forget it.
    ForgetWatcher {
        /// The watcher.
        watcher: WatcherId,
    },
    /// Record a probe component, whose bytes every manager holds or fetches by digest.
    RecordProbe {
        /// The probe.
        probe: ProbeRecord,
        /// When.
        at: WallTime,
    },
    /// Record who leads, once per term.
    RecordLeader {
        /// The leader.
        manager: ManagerId,
        /// Its term.
        term: crate::Term,
        /// When.
        at: WallTime,
    },
}

impl Command {
    /// Returns its name, for logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InitCluster { .. } => "init_cluster",
            Self::RecordNode { .. } => "record_node",
            Self::RecordVms { .. } => "record_vms",
            Self::RecordProven { .. } => "record_proven",
            Self::RecordVerdicts { .. } => "record_verdicts",
            Self::PlaceWatcher { .. } => "place_watcher",
            Self::RedeemSecret { .. } => "redeem_secret",
            Self::AssignWatchers { .. } => "assign_watchers",
            Self::LoseWatcher { .. } => "lose_watcher",
            Self::RetireWatcher { .. } => "retire_watcher",
            Self::ForgetWatcher { .. } => "forget_watcher",
            Self::RecordProbe { .. } => "record_probe",
            Self::RecordLeader { .. } => "record_leader",
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a command changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum DenyReason {
    /// The cluster exists already.
    #[error("the cluster {0} is initialised already")]
    AlreadyInitialised(ClusterId),
    /// The cluster has not been made.
    #[error("the cluster is not initialised")]
    NotInitialised,
    /// The node is not recorded.
    #[error("node {0} is not known")]
    UnknownNode(NodeId),
    /// The watcher is not recorded.
    #[error("watcher {0} is not known")]
    UnknownWatcher(WatcherId),
    /// The secret is wrong or was used before.
    #[error("watcher {0}: the one-time secret is wrong or was redeemed before")]
    BadSecret(WatcherId),
    /// More items than a command may carry.
    #[error("{what}: {count} is more than {limit}")]
    TooMany {
        /// Which items.
        what: String,
        /// How many there were.
        count: u64,
        /// How many there may be.
        limit: u64,
    },
    /// The VM belongs to another node.
    #[error("vm {vm} belongs to node {owner}")]
    NotOwner {
        /// The VM.
        vm: VmId,
        /// Its owner.
        owner: NodeId,
    },
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Applied {
    /// A log entry without a command (blank, membership).
    Nothing,
    /// Done.
    Done {
        /// Its log index.
        index: LogIndex,
    },
    /// A watcher was placed.
    WatcherPlaced {
        /// Its log index.
        index: LogIndex,
        /// Its number.
        watcher: WatcherId,
    },
    /// Watchers were assigned.
    WatchersAssigned {
        /// Its log index.
        index: LogIndex,
        /// Generations after it.
        generations: Vec<(WatcherId, AssignmentGeneration)>,
    },
    /// Changes were recorded, some perhaps refused as stale.
    Recorded {
        /// Its log index.
        index: LogIndex,
        /// Verdicts whose version had moved on.
        stale_vms: Vec<VmId>,
        /// Paths whose version had moved on.
        stale_nodes: Vec<NodeId>,
    },
    /// Nothing was changed.
    Denied(DenyReason),
}
