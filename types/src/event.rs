//! Events: what happened, in the past tense, in the order of the log. The replicated story of the cluster.

use serde::{Deserialize, Serialize};

use crate::{
    Advice, CaStage, Cause, Digest, Fault, FenceProof, Generation, IncidentId, IncidentScope, IncidentWord, JoinFor,
    JoinTokenId, Joiner, LogIndex, MaintenanceId, ManagerId, NodeId, Policy, PolicyScope, ProbeGrant, ProbeKeyName,
    ProbeName, ProbePublicKey, ProbeRefusal, ProbeSigner, ReturnEnd, ScopedProbe, ScopedProbeKey, SignatureRule,
    Source, Term, VmId, VmState, WallTime, WatcherId,
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
    /// The rotation of the CA went on.
    CaRotated {
        /// To where: a second CA is trusted, signs, or is the only one.
        to: CaStage,
    },
    /// A manager became leader.
    LeaderElected {
        /// Who.
        manager: ManagerId,
        /// In which term.
        term: Term,
    },
    /// A manager has lost its log: it is removed, added again, and gets back what it had.
    ManagerLogLost {
        /// Who.
        manager: ManagerId,
    },
    /// A manager that had lost its log is what it was before, or was removed meanwhile.
    ManagerReturnEnded {
        /// Who.
        manager: ManagerId,
        /// How.
        end: ReturnEnd,
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
    /// An operator removed a node: what follows in the same command went with it.
    NodeRemoved {
        /// Which.
        node: NodeId,
        /// How many VMs were recorded on it, which nobody knows any more.
        vms: u64,
        /// How many watchers were recorded on it.
        watchers: u64,
        /// The proof that it did not run, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fence: Option<FenceProof>,
        /// Who removed it, as far as is known.
        by: String,
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
        /// Faults before that are gone now.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cleared: Vec<Fault>,
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
    /// A join token was made.
    JoinTokenCreated {
        /// Its number.
        token: JoinTokenId,
        /// Whom it lets in.
        allows: JoinFor,
        /// How often it may be used.
        uses: u32,
        /// From when on it is worth nothing.
        expires: WallTime,
    },
    /// Somebody joined by a token and got a certificate.
    JoinTokenUsed {
        /// Its number.
        token: JoinTokenId,
        /// Who.
        joiner: Joiner,
    },
    /// A join token was taken back.
    JoinTokenRevoked {
        /// Its number.
        token: JoinTokenId,
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
        /// SHA-256 of its component; absent in an event of an earlier version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<Digest>,
        /// Who uploaded it, as far as is known; empty for one that comes with vouch.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
        /// Whose signature it came with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signer: Option<ProbeSigner>,
    },
    /// The upload of a probe was refused.
    ProbeRefused {
        /// What, and why.
        refusal: ProbeRefusal,
    },
    /// A key is trusted for signatures under probes.
    ProbeKeyAdded {
        /// What it is called.
        key: ProbeKeyName,
        /// The key.
        public_key: ProbePublicKey,
        /// Who added it, as far as is known.
        by: String,
    },
    /// A key is trusted no more.
    ProbeKeyRemoved {
        /// What it was called.
        key: ProbeKeyName,
        /// The key.
        public_key: ProbePublicKey,
        /// Who removed it, as far as is known.
        by: String,
    },
    /// Whether a probe is taken without a signature changed.
    SignatureRuleChanged {
        /// Whether it is now.
        signatures: SignatureRule,
        /// Who changed it, as far as is known.
        by: String,
    },
    /// An uploaded probe was granted something else.
    ProbeGranted {
        /// Which.
        probe: ProbeName,
        /// What it may do now.
        grant: ProbeGrant,
        /// Who granted it, as far as is known.
        by: String,
    },
    /// Another version of a probe is on its way to all watchers.
    ProbeRolloutBegun {
        /// Of which probe.
        probe: ProbeName,
        /// Its version.
        version: String,
        /// SHA-256 of its component.
        digest: Digest,
        /// Who ordered it, as far as is known.
        by: String,
    },
    /// A watcher runs it before the others.
    ProbeCanaryChosen {
        /// Of which probe.
        probe: ProbeName,
        /// SHA-256 of its component.
        digest: Digest,
        /// Which watcher.
        watcher: WatcherId,
    },
    /// It is recorded for all watchers.
    ProbeRolledOut {
        /// Of which probe.
        probe: ProbeName,
        /// SHA-256 of its component.
        digest: Digest,
        /// Why.
        reason: String,
        /// Who ordered it, as far as is known; empty when it has shown what it had to.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
    },
    /// It is taken back: all watchers run the version before.
    ProbeTakenBack {
        /// Of which probe.
        probe: ProbeName,
        /// SHA-256 of its component.
        digest: Digest,
        /// Why.
        reason: String,
        /// Who ordered it, as far as is known; empty when it has not shown what it had to.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
    },
    /// A probe was assigned to the VMs of a scope, or otherwise than before.
    ProbeAssigned {
        /// What, to which VMs, and by whom.
        assigned: ScopedProbe,
    },
    /// A probe is assigned to the VMs of a scope no more.
    ProbeUnassigned {
        /// Which.
        key: ScopedProbeKey,
        /// Who ordered it, as far as is known.
        by: String,
    },
}

impl EventKind {
    /// Returns whether somebody is to be woken by it: what is wrong, and that it is over, each told once.
    ///
    /// These are notifications: an incident that opens or closes; a VM that gets `down`, `lost`, `hung`, `conflict`,
    /// `degraded`, or paused on an I/O error (`storage`); and a VM that is `up` again after one of those. A change that
    /// an incident tells (`shared`) is none of its own, in either direction. Everything else is a line of the story and
    /// no more: what changes of paths alone, of notes and advice, of watchers, policies and leaders.
    pub fn is_notification(&self) -> bool {
        match self {
            Self::IncidentOpened { .. } | Self::IncidentClosed { .. } => true,
            Self::VmStateChanged { from, to, faults, cleared, shared: None, .. } => {
                is_alarm(*to, faults) || (*to == VmState::Up && is_alarm(*from, cleared))
            }
            Self::VmStateChanged { shared: Some(_), .. }
            | Self::ClusterInitialised
            | Self::CaRotated { .. }
            | Self::LeaderElected { .. }
            | Self::ManagerLogLost { .. }
            | Self::ManagerReturnEnded { .. }
            | Self::NodeJoined { .. }
            | Self::NodeRebooted { .. }
            | Self::NodeAgentRestarted { .. }
            | Self::NodeRemoved { .. }
            | Self::VmRegistered { .. }
            | Self::VmRemoved { .. }
            | Self::VmFaultsChanged { .. }
            | Self::VmMoved { .. }
            | Self::VmPinsForgotten { .. }
            | Self::IncidentChanged { .. }
            | Self::PolicyChanged { .. }
            | Self::MaintenanceBegun { .. }
            | Self::MaintenanceEnded { .. }
            | Self::JoinTokenCreated { .. }
            | Self::JoinTokenUsed { .. }
            | Self::JoinTokenRevoked { .. }
            | Self::FenceProofRecorded { .. }
            | Self::FenceProofWithdrawn { .. }
            | Self::PathChanged { .. }
            | Self::PathRecovered { .. }
            | Self::ManagerNotesChanged { .. }
            | Self::WatcherPlaced { .. }
            | Self::WatcherLive { .. }
            | Self::WatcherLost { .. }
            | Self::WatcherRetired { .. }
            | Self::ProbeRecorded { .. }
            | Self::ProbeGranted { .. }
            | Self::ProbeRolloutBegun { .. }
            | Self::ProbeCanaryChosen { .. }
            | Self::ProbeRolledOut { .. }
            | Self::ProbeTakenBack { .. }
            | Self::ProbeAssigned { .. }
            | Self::ProbeUnassigned { .. }
            | Self::ProbeRefused { .. }
            | Self::ProbeKeyAdded { .. }
            | Self::ProbeKeyRemoved { .. }
            | Self::SignatureRuleChanged { .. } => false,
        }
    }
}

/// Whether a state is one that somebody is to be woken for. An operator's pause has no fault of the storage.
fn is_alarm(state: VmState, faults: &[Fault]) -> bool {
    match state {
        VmState::Down | VmState::Lost | VmState::Hung | VmState::Conflict | VmState::Degraded => true,
        VmState::Paused => faults.iter().any(|fault| *fault.top() == Cause::Storage),
        VmState::Up | VmState::Rebooting | VmState::Stopped | VmState::Unknown => false,
    }
}

#[cfg(test)]
mod tests;
