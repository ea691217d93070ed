//! What came of a command: the answer of every manager that applied it.

use serde::{Deserialize, Serialize};

use crate::{
    AssignmentGeneration, DenyReason, JoinTokenId, LogIndex, MaintenanceId, NodeId, VmId, WallTime, WatcherId,
};

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
    /// A node was removed.
    NodeRemoved {
        /// Its log index.
        index: LogIndex,
        /// How many VMs were recorded on it.
        vms: u64,
        /// How many watchers were recorded on it.
        watchers: u64,
    },
    /// Watchers were assigned.
    WatchersAssigned {
        /// Its log index.
        index: LogIndex,
        /// Generations after it.
        generations: Vec<(WatcherId, AssignmentGeneration)>,
    },
    /// A maintenance window was begun.
    MaintenanceBegun {
        /// Its log index.
        index: LogIndex,
        /// Its number.
        maintenance: MaintenanceId,
    },
    /// A join token was made.
    JoinTokenCreated {
        /// Its log index.
        index: LogIndex,
        /// Its number.
        token: JoinTokenId,
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
    /// It was done before, under the same key: nothing was changed now.
    Repeated {
        /// When it was done.
        at: WallTime,
        /// What came of it then.
        first: Box<Applied>,
    },
    /// Nothing was changed.
    Denied(DenyReason),
}
