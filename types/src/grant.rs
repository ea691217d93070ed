//! A watcher's right to use a node's relay, signed by the cluster and checked by the node offline.

use serde::{Deserialize, Serialize};

use crate::{AssignmentGeneration, ClusterId, NodeId, VmId, WatcherId};

/// The most VMs that one grant may name.
pub const GRANT_VMS_MAX: usize = 1_000;

/// Who may ask which node about which VMs. A node refuses a generation lower than the highest it has seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// The cluster that gives it.
    pub cluster: ClusterId,
    /// The watcher that may ask.
    pub watcher: WatcherId,
    /// The node whose relay it may ask.
    pub node: NodeId,
    /// The VMs that it may ask about, at most [`GRANT_VMS_MAX`].
    pub vms: Vec<VmId>,
    /// Generation of the assignment that it came with.
    pub generation: AssignmentGeneration,
}
