//! The replicated state: what every manager knows once it has applied the same log.
//!
//! Pure: no clock, no random number, no I/O. `apply` is the only way to change it, is the same on every manager, and
//! every rule that protects the cluster from a confused leader (stale verdicts, another node's VMs, a secret redeemed
//! twice) is enforced here and nowhere else. Records sit behind `Arc`, so that the view which a snapshot is made from
//! costs pointers, not copies.

mod apply;
mod ca;
mod fencing;
mod guarded;
mod incidents;
mod inventory;
mod joining;
mod managers;
mod marks;
mod policies;
mod probe_keys;
mod probes;
mod removal;
mod rollouts;
mod scoped_probes;
#[cfg(test)]
mod tests;
mod verdicts;
mod vm_table;
mod watchers;

pub use guarded::{ONCE_KEPT, ONCE_MAX, OnceRecord};
pub use marks::{Marks, Subject};
pub(super) use vm_table::VmTable;
pub(crate) use watchers::{Redemption, redemption};

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vouch_types::command::ClusterSecrets;
use vouch_types::event::ManagerNote;
use vouch_types::{
    ClusterId, EventRecord, IncidentId, IncidentRecord, JoinTokenRecord, LogIndex, MaintenanceRecord, ManagerId,
    ManagerRecord, NodeId, NodeRecord, Policy, PolicyScope, ProbeName, ProbeRecord, ProbeTrust, RemovedNode,
    ScopedProbe, Term, VmId, VmRecord, WatcherId, WatcherRecord,
};

use super::changes::EventPosition;

/// How many events are kept; older ones leave as new ones come.
pub const EVENTS_MAX: usize = 100_000;

/// The cluster, once it is made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Its id.
    pub id: ClusterId,
    /// Its keys.
    pub secrets: ClusterSecrets,
}

/// Who led last, and in which term.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leadership {
    /// The leader.
    pub manager: ManagerId,
    /// Its term.
    pub term: Term,
}

/// The small things of which there is one each.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Head {
    /// The cluster, once it is made.
    pub cluster: Option<Cluster>,
    /// Who led last.
    pub leader: Option<Leadership>,
    /// Managers that cannot hear what others hear, sorted.
    pub manager_notes: Vec<ManagerNote>,
    /// How many watchers were ever placed: numbers are never used again.
    pub watchers_placed: u64,
    /// How many placements of VMs there ever were: each has a generation of its own, so that an old one cannot name a
    /// VM that was removed and added again.
    #[serde(default)]
    pub vms_placed: u64,
    /// How many incidents were ever opened: numbers are never used again.
    #[serde(default)]
    pub incidents_opened: u64,
    /// How many maintenance windows were ever begun.
    #[serde(default)]
    pub maintenances_begun: u64,
    /// Policies, the widest scope first.
    #[serde(default)]
    pub policies: Vec<(PolicyScope, Policy)>,
    /// Where in the log each of them was set.
    #[serde(default)]
    pub policies_set: Vec<(PolicyScope, LogIndex)>,
    /// Maintenance windows that hold, oldest first.
    #[serde(default)]
    pub maintenances: Vec<MaintenanceRecord>,
    /// How many join tokens were ever made: numbers are never used again.
    #[serde(default)]
    pub join_tokens_made: u64,
    /// Join tokens, oldest first.
    #[serde(default)]
    pub join_tokens: Vec<JoinTokenRecord>,
    /// What is remembered of managers, by id. Left out while there is nothing: the hash of a state is then what an earlier
    /// version makes of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub managers: Vec<ManagerRecord>,
    /// Which signatures under probes are trusted, and whether one is wanted. Left out while nothing is set, as above.
    #[serde(default, skip_serializing_if = "ProbeTrust::is_unset")]
    pub probe_trust: ProbeTrust,
    /// Probes that operators assign by scope, in the order of their keys. Left out while there are none, as above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scoped_probes: Vec<ScopedProbe>,
}

/// The replicated state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub(super) head: Head,
    pub(super) nodes: BTreeMap<NodeId, Arc<NodeRecord>>,
    pub(super) removed: BTreeMap<NodeId, Arc<RemovedNode>>,
    pub(super) vms: VmTable,
    pub(super) watchers: BTreeMap<WatcherId, Arc<WatcherRecord>>,
    pub(super) probes: BTreeMap<ProbeName, Arc<ProbeRecord>>,
    pub(super) incidents: BTreeMap<IncidentId, Arc<IncidentRecord>>,
    pub(super) events: VecDeque<Arc<EventRecord>>,
    pub(super) once: VecDeque<Arc<OnceRecord>>,
    pub(super) marks: Marks,
}

impl State {
    /// Returns the cluster, once it is made.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.head.cluster.as_ref()
    }

    /// Returns who led last, as the log says.
    pub fn leader(&self) -> Option<Leadership> {
        self.head.leader
    }

    /// Returns what managers cannot hear, sorted.
    pub fn manager_notes(&self) -> &[ManagerNote] {
        &self.head.manager_notes
    }

    /// Returns all nodes by name.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Arc<NodeRecord>> {
        &self.nodes
    }

    /// Returns all VMs by id.
    pub fn vms(&self) -> &BTreeMap<VmId, Arc<VmRecord>> {
        self.vms.all()
    }

    /// Returns the VMs that this node owns, by id.
    pub fn vms_of<'a>(&'a self, node: &NodeId) -> impl Iterator<Item = (&'a VmId, &'a Arc<VmRecord>)> + use<'a> {
        self.vms.of(node)
    }

    /// Returns all watchers by number.
    pub fn watchers(&self) -> &BTreeMap<WatcherId, Arc<WatcherRecord>> {
        &self.watchers
    }

    /// Returns how many watchers were ever placed: the next one has the number after it.
    pub fn watchers_placed(&self) -> u64 {
        self.head.watchers_placed
    }

    /// Returns all probes by name.
    pub fn probes(&self) -> &BTreeMap<ProbeName, Arc<ProbeRecord>> {
        &self.probes
    }

    /// Returns all kept incidents by number: the open ones, and the last ones that closed.
    pub fn incidents(&self) -> &BTreeMap<IncidentId, Arc<IncidentRecord>> {
        &self.incidents
    }

    /// Returns the kept events, oldest first; at most [`EVENTS_MAX`].
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Arc<EventRecord>> + ExactSizeIterator {
        self.events.iter()
    }

    /// Returns the kept events after this position, oldest first.
    pub fn events_after(&self, position: EventPosition) -> impl DoubleEndedIterator<Item = &Arc<EventRecord>> {
        let from = self.events.partition_point(|e| (e.index, e.ordinal) <= position);
        self.events.range(from..)
    }
}
