//! A node's signed word on one of its own VMs: proof, whoever carries it.

use serde::{Deserialize, Serialize};

use crate::{BootId, Generation, HypervisorState, Incarnation, NodeId, Nonce, Progress, Sequence, StartId, VmId};

/// What a node says of one of its VMs. `wire` signs and checks it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// Who says it.
    pub node: NodeId,
    /// The boot of the node in which it is said.
    pub boot: BootId,
    /// The life of the agent that says it.
    pub incarnation: Incarnation,
    /// The VM that it is about.
    pub vm: VmId,
    /// Placement generation as the node was last told.
    pub generation: Generation,
    /// The start of the VM that it speaks of.
    pub start: StartId,
    /// Position among the agent's statements and reports.
    pub sequence: Sequence,
    /// The nonce of the manager's ask that it answers; 0 when nobody asked.
    pub nonce: Nonce,
    /// What the hypervisor says.
    pub state: HypervisorState,
    /// Whether it gets on.
    pub progress: Progress,
}
