//! What is true of one node of the world and its VM.

use vouch_detector::ServiceWord;
use vouch_types::{HypervisorState, Operation, Progress};

/// What is true of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeTruth {
    /// The agent and each manager hear each other.
    pub paths: [bool; 2],
    /// The agent runs.
    pub agent: bool,
    /// The management uplink carries packets.
    pub uplink: bool,
    /// The node has power.
    pub power: bool,
    /// The VM's process runs.
    pub vm: bool,
    /// The VM's service answers.
    pub rdp: bool,
    /// The VM's cable is in.
    pub cable: bool,
    /// The watcher on the node runs.
    pub watcher: bool,
    /// The watcher is heard; one that runs and is not heard hangs.
    pub watcher_heard: bool,
    /// The uplink to the service network carries packets.
    pub service_uplink: bool,
    /// The hypervisor service answers the agent.
    pub hypervisor: ServiceWord,
    /// What the hypervisor says of the VM; `None`: what follows from `vm`.
    pub word: Option<HypervisorState>,
    /// What the node's counters say of it.
    pub progress: Progress,
    /// An operation on it that is under way.
    pub operation: Option<Operation>,
    /// The guest answers: its service and its agent.
    pub guest: bool,
    /// The guest agent runs.
    pub guest_agent: bool,
    /// The service accepts connections and stays silent.
    pub wedged: bool,
    /// Who answers at the VM's address, where its probe tells that.
    pub who: Option<u64>,
    /// Probes of its VM do not come to an end in time: the machines of the watchers are overloaded.
    pub overstays: bool,
    /// The node also says this of the other node's VM.
    pub claims: Option<HypervisorState>,
    /// Per mille of the heartbeats between the node and each manager that are lost, each way; `None`: none are sent.
    pub beats_lost: Option<u16>,
}

impl NodeTruth {
    pub const WELL: Self = Self {
        paths: [true; 2],
        agent: true,
        uplink: true,
        power: true,
        vm: true,
        rdp: true,
        cable: true,
        watcher: true,
        watcher_heard: true,
        service_uplink: true,
        hypervisor: ServiceWord::Answering,
        word: None,
        progress: Progress::Working,
        operation: None,
        guest: true,
        guest_agent: true,
        wedged: false,
        who: None,
        overstays: false,
        claims: None,
        beats_lost: None,
    };
}
