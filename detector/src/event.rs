//! What the detector is told: facts, in the past tense.
//!
//! Every moment in here is on this manager's own monotonic clock. A `begun` is the latest moment at which the check
//! can have begun, found from the tick that its sender echoed; a sender's clock never enters.

use std::net::IpAddr;
use std::time::Duration;

use vouch_types::event::ManagerNote;
use vouch_types::{
    AssignmentGeneration, BootId, BootRecord, FenceProof, Generation, HypervisorState, Incarnation, IncidentScope,
    IncidentWord, LogIndex, ManagerId, Moment, Network, NodeId, NodePath, Nonce, Observation, Operation, Pin, Policy,
    ProbeAssignment, ProbeTimes, Progress, RelayObservation, Sequence, StartId, Statement, Term, Verdict, VmId,
    WatcherHealth, WatcherId, WatcherLife,
};

/// A fact for the detector.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The replicated records changed (or were loaded): the whole of them as they are now.
    InventoryChanged(Inventory),
    /// Some of the replicated records changed.
    RecordsChanged(Records),
    /// This manager became the leader of this term, or stopped to be.
    LeadershipChanged {
        /// The term that it leads in; `None` when it does not lead.
        leads: Option<Term>,
    },
    /// A stream of a node to a manager (this one, or another that told us) opened or was lost.
    NodeStreamChanged {
        /// Which manager's stream.
        manager: ManagerId,
        /// Which node's.
        node: NodeId,
        /// What happened to it.
        change: StreamChange,
    },
    /// A manager heard a node: the age of its word on that path.
    NodeHeard {
        /// Which manager heard it.
        manager: ManagerId,
        /// Which node.
        node: NodeId,
        /// When what it heard began, at the latest.
        begun: Moment,
    },
    /// A manager measured its datagram path to a node, both ways.
    LinkMeasured(LinkMeasure),
    /// Another manager's evidence frame came: it lives, and what it says of its own hearing counts.
    ManagerHeard {
        /// Which manager.
        manager: ManagerId,
        /// When its frame was made, at the latest.
        begun: Moment,
    },
    /// Another manager said whether its disk has room.
    ManagerDiskTold {
        /// Which manager.
        manager: ManagerId,
        /// What it said.
        disk: DiskWord,
    },
    /// A node reported its VMs, to this manager or through another.
    NodeReported(NodeReport),
    /// A signed statement of a node came, carried by a watcher; its signature has been checked.
    StatementReceived {
        /// Who carried it.
        watcher: WatcherId,
        /// What it says.
        statement: Statement,
        /// When the check began that brought it, at the latest.
        begun: Moment,
    },
    /// A stream of a watcher to a manager opened or was lost.
    WatcherStreamChanged {
        /// Which manager's stream.
        manager: ManagerId,
        /// Which watcher's.
        watcher: WatcherId,
        /// Over which network.
        network: Network,
        /// What happened to it.
        change: StreamChange,
    },
    /// A watcher was heard, with its health.
    WatcherHeard {
        /// Which manager heard it.
        manager: ManagerId,
        /// Which watcher.
        watcher: WatcherId,
        /// Over which network.
        network: Network,
        /// Its life.
        incarnation: Incarnation,
        /// When its word began, at the latest.
        begun: Moment,
        /// How it is; `None` when only its stream was heard.
        health: Option<WatcherHealth>,
    },
    /// A watcher's probe came to something.
    Observed(Observation),
    /// A watcher asked a node's relay.
    RelayObserved(RelayObservation),
    /// Everything that a watcher said earlier and has not changed is still so, from checks begun at `begun` or later.
    OthersUnchanged {
        /// Which watcher.
        watcher: WatcherId,
        /// Its assignment generation.
        assignment: AssignmentGeneration,
        /// When the oldest of those checks began, at the latest.
        begun: Moment,
    },
    /// A watcher has said all that it will say to an ask.
    AskAnswered {
        /// Which watcher.
        watcher: WatcherId,
        /// Which ask.
        nonce: Nonce,
    },
    /// An operator wants a fresh look at a VM.
    CheckRequested {
        /// Which VM.
        vm: VmId,
    },
    /// A proposal of this detector was committed, refused or lost.
    ProposalSettled(Settlement),
    /// Time passed.
    Ticked,
}

/// What heartbeats say of the path between a manager and a node: they show one-way loss, and are not stalled by it as
/// streams are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkMeasure {
    /// Who measured.
    pub manager: ManagerId,
    /// The path to which node.
    pub node: NodeId,
    /// Over which network.
    pub network: Network,
    /// When the newest heartbeat of the node came; `None` for none yet.
    pub heard: Option<Moment>,
    /// How old the node's last read of its hypervisor was when that one was sent: a node that lives and reads nothing is
    /// wedged. `None` before the first read.
    pub read_age: Option<Duration>,
    /// When the newest heartbeat of the manager was sent that the node says it has; `None` for none yet.
    pub echoed: Option<Moment>,
    /// Per mille of the node's heartbeats that were lost lately.
    pub loss_in_per_mille: u16,
    /// Per mille of the manager's heartbeats that were lost lately, as the node counted.
    pub loss_out_per_mille: u16,
}

/// Whether a node's hypervisor service answers its agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ServiceWord {
    /// It answers.
    #[default]
    Answering,
    /// It does not answer (libvirtd hangs or restarts).
    Silent,
}

/// What a manager says of the room on its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskWord {
    /// There is enough.
    Enough,
    /// Less than its watermark is free: it takes no entries, and cannot record that itself.
    Low,
}

/// What happened to a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamChange {
    /// It opened.
    Opened,
    /// It ended in good order.
    Closed,
    /// It was reset: suspicion begins at once.
    Reset,
}

/// What became of a proposal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// It was committed and applied at this log index: the detector proposes again once it has an inventory of that
    /// index or a later one.
    Committed(LogIndex),
    /// It was not; whatever still holds is to be proposed again.
    Failed,
}

/// A node's report on its VMs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeReport {
    /// The manager that heard it first hand.
    pub manager: ManagerId,
    /// The node.
    pub node: NodeId,
    /// The boot of the node.
    pub boot: BootId,
    /// The life of its agent.
    pub incarnation: Incarnation,
    /// Position among the agent's reports: lower ones of the same incarnation are stale.
    pub sequence: Sequence,
    /// When the hypervisor was read, at the latest.
    pub begun: Moment,
    /// Whether the node's hypervisor service answers it.
    pub hypervisor: ServiceWord,
    /// All VMs are in `vms`; else only changed ones.
    pub full: bool,
    /// The node's word on its VMs.
    pub vms: Vec<VmWord>,
    /// Hypervisor states of the watcher VMs on the node, all of them.
    pub watchers: Vec<(WatcherId, HypervisorState)>,
}

/// A node's word on one VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmWord {
    /// The VM.
    pub vm: VmId,
    /// Placement generation as the node was told; 0 when it was not.
    pub generation: Generation,
    /// The start that it speaks of.
    pub start: StartId,
    /// The hypervisor's word.
    pub state: HypervisorState,
    /// Whether it gets on.
    pub progress: Progress,
    /// An operation on it that is under way.
    pub operation: Option<Operation>,
    /// Ports of the VM that have no link or carrier.
    pub links_down: Vec<Network>,
}

/// The replicated records that the detector judges by, in id order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inventory {
    /// The log index that it shows.
    pub index: LogIndex,
    /// All managers of the membership.
    pub managers: Vec<ManagerId>,
    /// Nodes.
    pub nodes: Vec<NodeEntry>,
    /// VMs.
    pub vms: Vec<VmEntry>,
    /// Watchers.
    pub watchers: Vec<WatcherEntry>,
    /// What managers cannot hear, as recorded.
    pub manager_notes: Vec<ManagerNote>,
    /// The incidents that are open.
    pub incidents: Vec<OpenIncident>,
}

/// What changed of the replicated records, in id order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Records {
    /// The log index that they show.
    pub index: LogIndex,
    /// All managers of the membership, when it changed.
    pub managers: Option<Vec<ManagerId>>,
    /// Nodes that were put.
    pub nodes: Vec<NodeEntry>,
    /// Nodes that are gone.
    pub removed_nodes: Vec<NodeId>,
    /// VMs that were put.
    pub vms: Vec<VmEntry>,
    /// VMs that are gone.
    pub removed_vms: Vec<VmId>,
    /// Watchers that were put.
    pub watchers: Vec<WatcherEntry>,
    /// Watchers that are gone.
    pub removed_watchers: Vec<WatcherId>,
    /// What managers cannot hear, when that changed.
    pub manager_notes: Option<Vec<ManagerNote>>,
    /// All open incidents, when any changed.
    pub incidents: Option<Vec<OpenIncident>>,
}

/// An incident that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenIncident {
    /// Of what.
    pub scope: IncidentScope,
    /// What it says as recorded.
    pub word: IncidentWord,
}

/// A node as the detector needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEntry {
    /// Its name.
    pub node: NodeId,
    /// Its boot as recorded.
    pub boot: BootId,
    /// Its rack, if it is known.
    pub rack: Option<String>,
    /// The proof that it does not run, if there is one.
    pub fence: Option<FenceProof>,
    /// Its paths as recorded.
    pub path: NodePath,
}

/// A VM as the detector needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmEntry {
    /// Its id.
    pub vm: VmId,
    /// Its owner.
    pub node: NodeId,
    /// Its placement generation.
    pub generation: Generation,
    /// Its addresses, to tell who shares one.
    pub addresses: Vec<IpAddr>,
    /// The store of its disks, if it is known.
    pub datastore: Option<String>,
    /// Why maintenance holds for it; empty when none does.
    pub maintenance: String,
    /// What all policies together say of it.
    pub policy: Policy,
    /// Its probes.
    pub probes: Vec<ProbeAssignment>,
    /// Those that run at other times than the policy says.
    pub probe_times: Vec<ProbeTimes>,
    /// Whom they are to find.
    pub pins: Vec<Pin>,
    /// Those that have ever succeeded.
    pub proven: Vec<ProbeAssignment>,
    /// The boot of its guest as recorded, while one is under way.
    pub boot: Option<BootRecord>,
    /// Other nodes that executed it by the last that was heard of them, as recorded.
    pub claimed_by: Vec<NodeId>,
    /// Its verdict as recorded, with the version that a change replaces.
    pub verdict: Verdict,
}

/// A watcher as the detector needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatcherEntry {
    /// Its number.
    pub watcher: WatcherId,
    /// The node that it runs on.
    pub node: NodeId,
    /// Where it is in its life.
    pub life: WatcherLife,
    /// Its incarnation, once it is known.
    pub incarnation: Option<Incarnation>,
    /// What it watches.
    pub vms: Vec<VmId>,
    /// Generation of that.
    pub assignment: AssignmentGeneration,
}
