//! Why a command changed nothing: part of the log, as the answer of every manager that applied it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::probe_grant::words;
use crate::{
    BootId, CaStage, ClusterId, Digest, JoinRefusal, JoinTokenId, LogIndex, LogName, MaintenanceId, ManagerId, NodeId,
    PolicyError, ProbeInterface, ProbeKeyName, ProbeName, ScopedProbeKey, VmId, VmInTheWay, WatcherId,
};

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
    /// The VM is not recorded.
    #[error("vm {0} is not known")]
    UnknownVm(VmId),
    /// The maintenance window is not recorded, or has ended.
    #[error("maintenance {0} is not known, or has ended")]
    UnknownMaintenance(MaintenanceId),
    /// There is no such join token.
    #[error("join token {0} is not known")]
    UnknownJoinToken(JoinTokenId),
    /// The manager is no member.
    #[error("manager {0} is no member")]
    NotMember(ManagerId),
    /// The manager is recorded with another log.
    #[error("manager {manager} has log {recorded} as recorded, and {told} is another one")]
    OtherLog {
        /// The manager.
        manager: ManagerId,
        /// As recorded.
        recorded: LogName,
        /// As told.
        told: LogName,
    },
    /// Somebody may not join.
    #[error(transparent)]
    JoinRefused(JoinRefusal),
    /// The rotation of the CA stands elsewhere.
    #[error("{0}")]
    CaStage(CaStage),
    /// A setting of a policy breaks a rule.
    #[error(transparent)]
    BadPolicy(PolicyError),
    /// A value breaks a rule.
    #[error("{field}: {value} must be {rule}")]
    BadValue {
        /// Which.
        field: String,
        /// What it was.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// A manager hears the node: it cannot be off.
    #[error("node {0} is heard by a manager: a proof that it does not run cannot be")]
    NodeIsHeard(NodeId),
    /// The node lives: it cannot be removed.
    #[error("node {node} is heard{}: end its agent, and what runs on it, first", through(.watchers))]
    NodeLives {
        /// The node.
        node: NodeId,
        /// Its watchers that are heard; none where the node itself is.
        watchers: Vec<WatcherId>,
    },
    /// VMs that may run are recorded on a node that was to be removed.
    #[error("node {node} has {count} VMs that may run: {}", named(.vms, *.count))]
    NodeHasVms {
        /// The node.
        node: NodeId,
        /// How many there are.
        count: u64,
        /// The first of them, by id; at most [`REMOVAL_VMS_NAMED`](crate::removed_node::REMOVAL_VMS_NAMED).
        vms: Vec<VmInTheWay>,
    },
    /// The node was removed: it is recorded again once it has joined anew.
    #[error("node {0} was removed, and has not joined again")]
    NodeRemoved(NodeId),
    /// The proof speaks of another boot than the recorded one.
    #[error("node {node} was last heard in boot {recorded}, and the proof speaks of {told}")]
    OtherBoot {
        /// The node.
        node: NodeId,
        /// As recorded.
        recorded: BootId,
        /// As the proof says.
        told: BootId,
    },
    /// What is written is not what its writer has seen.
    #[error("what is to be written has another version{}", .current.map_or_else(String::new, |index| format!(": {index}")))]
    VersionMoved {
        /// The version that it has; `None` when it is not there.
        current: Option<LogIndex>,
    },
    /// The key was used for another write.
    #[error("idempotency key {0:?} was used for another request")]
    KeyReused(String),
    /// There is no such probe.
    #[error("probe {0} is not known")]
    UnknownProbe(ProbeName),
    /// No such version of the probe is on its way.
    #[error("no rollout of probe {probe} with sha256 {} is under way", .digest.short())]
    NoRollout {
        /// The probe.
        probe: ProbeName,
        /// The component.
        digest: Digest,
    },
    /// The probe is not assigned to this scope.
    #[error("probe {} is not assigned to {} over the {} network", .0.probe, .0.scope, .0.network)]
    UnknownScopedProbe(ScopedProbeKey),
    /// A component imports what it is not granted.
    #[error("the component imports {}; it is granted {}", list(.imports), list(.granted))]
    NotGranted {
        /// What it imports that has to be granted.
        imports: BTreeSet<ProbeInterface>,
        /// What it is granted.
        granted: BTreeSet<ProbeInterface>,
    },
    /// There is no such trusted key.
    #[error("probe key {0} is not trusted")]
    UnknownProbeKey(ProbeKeyName),
    /// A probe was signed with a key that is not trusted by now.
    #[error("the signature is of key {0}, which is not trusted")]
    SignerNotTrusted(ProbeKeyName),
    /// A probe needs a signature.
    #[error("probe {0} has no signature, and the cluster requires one of a trusted key")]
    SignatureRequired(ProbeName),
    /// The VM belongs to another node.
    #[error("vm {vm} belongs to node {owner}")]
    NotOwner {
        /// The VM.
        vm: VmId,
        /// Its owner.
        owner: NodeId,
    },
}

fn through(watchers: &[WatcherId]) -> String {
    let names: Vec<String> = watchers.iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!(" through {} on it", names.join(", ")) }
}

fn named(vms: &[VmInTheWay], count: u64) -> String {
    let names: Vec<String> = vms.iter().map(ToString::to_string).collect();
    let others = count.saturating_sub(vms.len() as u64);
    let more = if others == 0 { String::new() } else { format!(" and {others} more") };
    format!("{}{more}", names.join(", "))
}

fn list(interfaces: &BTreeSet<ProbeInterface>) -> String {
    if interfaces.is_empty() { "nothing".to_owned() } else { words(interfaces).join(", ") }
}
