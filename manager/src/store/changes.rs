//! What one command touched: for the projection on disk, and for the parts of the manager that follow the state.

use std::collections::BTreeSet;
use std::sync::Arc;

use vouch_types::{EventRecord, IncidentId, LogIndex, NodeId, ProbeName, VmId, WatcherId};

/// Position of an event: the log index of its command, and its place among that command's events.
pub type EventPosition = (LogIndex, u32);

/// The records that a command put or removed, and the events that it made. Read the records themselves from the state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// Whether the cluster, the leader, the manager notes or the watcher counter changed.
    pub head: bool,
    /// Nodes that were put or removed.
    pub nodes: BTreeSet<NodeId>,
    /// Removed nodes of which it changed whether, and how, they are remembered.
    pub removed: BTreeSet<NodeId>,
    /// VMs that were put or removed.
    pub vms: BTreeSet<VmId>,
    /// VMs of which nothing changed but what is recorded of a boot or of claims: no reader sees that, so nobody waits for it.
    pub unshown: BTreeSet<VmId>,
    /// Watchers that were put or removed.
    pub watchers: BTreeSet<WatcherId>,
    /// Probes that were put.
    pub probes: BTreeSet<ProbeName>,
    /// Incidents that were put or removed.
    pub incidents: BTreeSet<IncidentId>,
    /// Writes that are remembered by their keys from now on, or no longer.
    pub once: BTreeSet<LogIndex>,
    /// Events that were made, in order.
    pub events: Vec<Arc<EventRecord>>,
    /// Events that the ring let go of to make room.
    pub evicted: Vec<EventPosition>,
}

impl Changes {
    /// Returns whether the command changed nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what a later command touched.
    pub fn merge(&mut self, later: Self) {
        self.head |= later.head;
        self.nodes.extend(later.nodes);
        self.removed.extend(later.removed);
        self.vms.extend(later.vms);
        self.unshown.extend(later.unshown);
        self.watchers.extend(later.watchers);
        self.probes.extend(later.probes);
        self.incidents.extend(later.incidents);
        self.once.extend(later.once);
        self.events.extend(later.events);
        self.evicted.extend(later.evicted);
    }
}
