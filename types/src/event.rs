//! Events: what happened, in the past tense, in the order of the log. The replicated story of the cluster.

use serde::{Deserialize, Serialize};

use crate::{
    Advice, Fault, FenceProof, Generation, IncidentId, IncidentScope, IncidentWord, LogIndex, MaintenanceId, ManagerId,
    NodeId, Policy, PolicyScope, ProbeName, Source, Term, VmId, VmState, WallTime, WatcherId,
};

/// A manager that does not hear a node which others hear.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ManagerNote {
    /// The manager that is deaf to it.
    pub manager: ManagerId,
    /// The node that it does not hear.
    pub node: NodeId,
}

/// One event. `(index, ordinal)` is its position and never repeats.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventRecord {
    /// Log index of the command that made it.
    pub index: LogIndex,
    /// Position among the events of that command, from 0.
    pub ordinal: u32,
    /// When, on the wall clock of the leader that proposed the command.
    pub at: WallTime,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EventKind {
    /// The cluster was made.
    ClusterInitialised,
    /// A manager became leader.
    LeaderElected {
        /// Who.
        manager: ManagerId,
        /// In which term.
        term: Term,
    },
    /// A node was heard for the first time.
    NodeJoined {
        /// Which.
        node: NodeId,
    },
    /// A node has a new boot id.
    NodeRebooted {
        /// Which.
        node: NodeId,
    },
    /// A node's agent was started again.
    NodeAgentRestarted {
        /// Which.
        node: NodeId,
    },
    /// A VM was recorded.
    VmRegistered {
        /// Which.
        vm: VmId,
        /// Its owner.
        node: NodeId,
        /// Its generation.
        generation: Generation,
    },
    /// A VM is no longer named by its owner.
    VmRemoved {
        /// Which.
        vm: VmId,
        /// Its last owner.
        node: NodeId,
    },
    /// A VM's state changed.
    VmStateChanged {
        /// Which.
        vm: VmId,
        /// Before.
        from: VmState,
        /// After.
        to: VmState,
        /// Faults after.
        faults: Vec<Fault>,
        /// Advice after.
        advice: Advice,
        /// Why.
        reason: String,
        /// The shared element whose incident tells it already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shared: Option<IncidentScope>,
    },
    /// A VM's faults, notes or advice changed and its state did not.
    VmFaultsChanged {
        /// Which.
        vm: VmId,
        /// The state.
        state: VmState,
        /// Faults after.
        faults: Vec<Fault>,
        /// Notes after.
        notes: Vec<Fault>,
        /// Advice after.
        advice: Advice,
        /// Why.
        reason: String,
        /// Why nothing is said against it, if so.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        suppressed: String,
    },
    /// A VM executes on another node than before: it has migrated.
    VmMoved {
        /// Which.
        vm: VmId,
        /// Its owner before.
        from: NodeId,
        /// Its owner now.
        to: NodeId,
        /// Its generation now.
        generation: Generation,
    },
    /// Whom a VM's probes find behind its addresses was forgotten.
    VmPinsForgotten {
        /// Which.
        vm: VmId,
    },
    /// An incident opened: one notification.
    IncidentOpened {
        /// Its number.
        incident: IncidentId,
        /// Of what.
        scope: IncidentScope,
        /// What it says.
        word: IncidentWord,
    },
    /// An incident says something else: no notification.
    IncidentChanged {
        /// Its number.
        incident: IncidentId,
        /// Of what.
        scope: IncidentScope,
        /// What it says now.
        word: IncidentWord,
    },
    /// An incident closed: one notification.
    IncidentClosed {
        /// Its number.
        incident: IncidentId,
        /// Of what.
        scope: IncidentScope,
    },
    /// A policy was set or removed.
    PolicyChanged {
        /// For whom.
        scope: PolicyScope,
        /// What; an empty one when it was removed.
        policy: Policy,
    },
    /// A maintenance window began.
    MaintenanceBegun {
        /// Its number.
        maintenance: MaintenanceId,
        /// For whom.
        scope: PolicyScope,
        /// Why.
        reason: String,
    },
    /// A maintenance window ended.
    MaintenanceEnded {
        /// Its number.
        maintenance: MaintenanceId,
        /// For whom.
        scope: PolicyScope,
    },
    /// A node is proved not to run.
    FenceProofRecorded {
        /// Which.
        node: NodeId,
        /// How.
        proof: FenceProof,
    },
    /// The proof does not hold any more.
    FenceProofWithdrawn {
        /// Which.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// The paths to a node changed: the source of its VMs, or what is broken.
    PathChanged {
        /// Which node.
        node: NodeId,
        /// Source before.
        from: Source,
        /// Source after.
        to: Source,
        /// Faults after.
        faults: Vec<Fault>,
        /// Why.
        reason: String,
    },
    /// The node's own word rules again: the one event of a heal.
    PathRecovered {
        /// Which node.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// What managers cannot hear changed.
    ManagerNotesChanged {
        /// All notes now.
        notes: Vec<ManagerNote>,
    },
    /// A watcher was placed on a node.
    WatcherPlaced {
        /// Which.
        watcher: WatcherId,
        /// Where.
        node: NodeId,
    },
    /// A watcher redeemed its secret and is heard.
    WatcherLive {
        /// Which.
        watcher: WatcherId,
        /// Where.
        node: NodeId,
    },
    /// A watcher is silent or gone: coverage is thinner until it is replaced.
    WatcherLost {
        /// Which.
        watcher: WatcherId,
        /// Where.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// A watcher is to be destroyed.
    WatcherRetired {
        /// Which.
        watcher: WatcherId,
        /// Where.
        node: NodeId,
    },
    /// A probe was recorded.
    ProbeRecorded {
        /// Which.
        probe: ProbeName,
    },
}
