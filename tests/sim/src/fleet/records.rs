//! The replicated records: the manager's real state, which applies what the detector proposes; without Raft.
//!
//! Everything that is proposed commits, after [`COMMIT`]. The inventory is what the manager's own detector task would
//! make of the state; only what a command touched is made anew.

use std::time::Duration;

use vouch_detector::{Inventory, NodeEntry, OpenIncident, Proposal, VmEntry, WatcherEntry};
use vouch_manager::store::{Changes, State};
use vouch_types::command::{CHANGES_MAX, ClusterSecrets};
use vouch_types::{
    Applied, AssignmentGeneration, BootId, ClusterId, Command, Incarnation, LogIndex, ManagerId, Moment, NodeId,
    NodePath, NodeRecord, Source, VmId, VmRecord, VmSpec, WallTime, WatcherId, WatcherRecord,
};

use super::Score;

/// How long a proposal takes to be committed and applied.
pub(crate) const COMMIT: Duration = Duration::from_millis(3);
/// The secret of every watcher: who may redeem one is not what is tested here.
const SECRET_HASH: [u8; 32] = [7; 32];

/// The replicated records.
pub(crate) struct Records {
    state: State,
    index: LogIndex,
    inventory: Inventory,
}

fn wall(now: Moment) -> WallTime {
    WallTime::from_unix_millis(now.as_micros() / 1_000)
}

impl Records {
    /// Returns the records of a cluster of one manager.
    pub(crate) fn new(own: ManagerId) -> Self {
        let inventory = Inventory { managers: vec![own], ..Inventory::default() };
        let mut records = Self { state: State::default(), index: LogIndex::default(), inventory };
        let secrets = ClusterSecrets {
            ca_certificate: String::new(),
            ca_key: String::new(),
            grant_key: Vec::new(),
            grant_public_key: Vec::new(),
        };
        let cluster = ClusterId::new(uuid::Uuid::from_u128(1));
        records.apply(Command::InitCluster { cluster, secrets, at: WallTime::default() });
        records
    }

    fn apply(&mut self, command: Command) -> Applied {
        self.index = self.index.next();
        let name = command.name();
        let (applied, changes) = self.state.apply(self.index, command);
        if let Applied::Denied(reason) = &applied {
            tracing::warn!(command = name, %reason, "refused");
        }
        self.show(&changes);
        applied
    }

    /// Brings the inventory up to the state.
    fn show(&mut self, changes: &Changes) {
        let Self { state, index, inventory } = self;
        inventory.index = *index;
        if changes.head {
            inventory.manager_notes = state.manager_notes().to_vec();
        }
        for id in &changes.nodes {
            let entry = state.nodes().get(id).map(|n| node_entry(n));
            put(&mut inventory.nodes, entry, |known| known.node.cmp(id));
        }
        for id in &changes.vms {
            let entry = state.vms().get(id).map(|vm| vm_entry(state, vm));
            put(&mut inventory.vms, entry, |known| known.vm.cmp(id));
        }
        for id in &changes.watchers {
            let entry = state.watchers().get(id).map(|w| watcher_entry(w));
            put(&mut inventory.watchers, entry, |known| known.watcher.cmp(id));
        }
        if !changes.incidents.is_empty() {
            let open = state.open_incidents();
            inventory.incidents = open.map(|i| OpenIncident { scope: i.scope.clone(), word: i.word.clone() }).collect();
        }
    }

    /// Returns the records as the detector is told of them.
    pub(crate) fn inventory(&self) -> Inventory {
        self.inventory.clone()
    }

    pub(crate) fn record_node(&mut self, id: NodeId, boot: BootId) {
        let node = NodeRecord {
            id,
            rack: None,
            relay: ([127, 0, 0, 1], 7443).into(),
            statement_key: vec![0; 32],
            boot,
            incarnation: Incarnation::new(1),
            driver: "local".to_owned(),
            hosts_watchers: true,
            path: NodePath::direct(WallTime::default()),
            fence: None,
        };
        self.apply(Command::RecordNode { node, at: WallTime::default() });
    }

    pub(crate) fn record_vms(&mut self, node: NodeId, vms: Vec<VmSpec>) {
        self.apply(Command::RecordVms { node, vms, at: WallTime::default() });
    }

    /// Places a watcher on a node; returns its number.
    pub(crate) fn place_watcher(&mut self, node: NodeId, now: Moment) -> Option<WatcherId> {
        let command = Command::PlaceWatcher { node, secret_hash: SECRET_HASH.to_vec(), at: wall(now) };
        match self.apply(command) {
            Applied::WatcherPlaced { watcher, .. } => Some(watcher),
            Applied::Nothing
            | Applied::Done { .. }
            | Applied::WatchersAssigned { .. }
            | Applied::MaintenanceBegun { .. }
            | Applied::Recorded { .. }
            | Applied::Denied(_) => None,
        }
    }

    /// A placed watcher comes to life; returns the generation of its assignment.
    pub(crate) fn enliven_watcher(
        &mut self,
        watcher: WatcherId,
        incarnation: Incarnation,
        vms: Vec<VmId>,
        now: Moment,
    ) -> AssignmentGeneration {
        let (secret_hash, at) = (SECRET_HASH.to_vec(), wall(now));
        self.apply(Command::RedeemSecret { watcher, secret_hash, incarnation, at });
        self.apply(Command::AssignWatchers { assignments: vec![(watcher, vms)] });
        self.state.watchers().get(&watcher).map(|w| w.assignment).unwrap_or_default()
    }

    /// A watcher that was called lost is destroyed.
    pub(crate) fn retire_watcher(&mut self, watcher: WatcherId, now: Moment) {
        self.apply(Command::RetireWatcher { watcher, at: wall(now) });
        self.apply(Command::ForgetWatcher { watcher });
    }

    pub(crate) fn vm(&self, id: VmId) -> Option<&VmRecord> {
        self.state.vms().get(&id).map(|vm| &**vm)
    }

    pub(crate) fn index(&self) -> LogIndex {
        self.index
    }

    /// Applies a proposal, in the commands that the manager makes of one; returns the watchers that it calls lost.
    pub(crate) fn record(&mut self, now: Moment, proposal: Proposal, score: &mut Score) -> Vec<WatcherId> {
        let at = wall(now);
        let Proposal {
            mut verdicts,
            mut paths,
            mut manager_notes,
            proven,
            pins,
            mut incidents,
            mut placements,
            withdrawn,
            lost_watchers,
        } = proposal;
        score.proposals += 1;
        if !proven.is_empty() || !pins.is_empty() {
            self.apply(Command::RecordProven { proven, pins });
        }
        for (node, reason) in withdrawn {
            self.apply(Command::WithdrawFenceProof { node, reason, at });
        }
        let lost: Vec<_> = lost_watchers.iter().map(|(watcher, _)| *watcher).collect();
        score.false_lost_watchers += lost.len() as u64;
        for (watcher, reason) in lost_watchers {
            tracing::info!(watcher_id = %watcher, %reason, now = ?now, "a watcher that lives is called lost");
            self.apply(Command::LoseWatcher { watcher, reason, at });
        }
        for change in &verdicts {
            let from = self.vm(change.vm).map(|vm| vm.verdict.state).unwrap_or(change.verdict.state);
            score.verdict(&format!("{now:?}"), change.vm, from, change.verdict.state, &change.verdict.reason);
        }
        for change in &paths {
            let known = self.state.nodes().get(&change.node).map(|n| n.path.source);
            if known != Some(change.source) {
                score.path(change.source);
            }
        }
        while !(paths.is_empty() && verdicts.is_empty() && incidents.is_empty() && placements.is_empty())
            || manager_notes.is_some()
        {
            let mut room = CHANGES_MAX;
            let command = Command::RecordVerdicts {
                incidents: take(&mut incidents, &mut room),
                paths: take(&mut paths, &mut room),
                placements: take(&mut placements, &mut room),
                verdicts: take(&mut verdicts, &mut room),
                manager_notes: manager_notes.take(),
                at,
            };
            self.apply(command);
        }
        lost
    }

    /// Returns how many nodes are recorded as heard through watchers alone now.
    pub(crate) fn cut_nodes(&self) -> usize {
        self.state.nodes().values().filter(|n| n.path.source == Source::Watcher).count()
    }
}

/// Takes as many as there is room for, from the first.
fn take<T>(from: &mut Vec<T>, room: &mut usize) -> Vec<T> {
    let some: Vec<_> = from.drain(..from.len().min(*room)).collect();
    *room -= some.len();
    some
}

/// Puts an entry into its place in the order, or removes it.
fn put<T>(list: &mut Vec<T>, entry: Option<T>, order: impl FnMut(&T) -> std::cmp::Ordering) {
    match (list.binary_search_by(order), entry) {
        (Ok(i), Some(entry)) => list[i] = entry,
        (Err(i), Some(entry)) => list.insert(i, entry),
        (Ok(i), None) => drop(list.remove(i)),
        (Err(_), None) => {}
    }
}

fn node_entry(n: &NodeRecord) -> NodeEntry {
    NodeEntry { node: n.id.clone(), boot: n.boot, rack: n.rack.clone(), fence: n.fence.clone(), path: n.path.clone() }
}

fn vm_entry(state: &State, vm: &VmRecord) -> VmEntry {
    VmEntry {
        vm: vm.spec.id,
        node: vm.node.clone(),
        generation: vm.generation,
        addresses: vm.spec.addresses.values().flatten().copied().collect(),
        datastore: vm.spec.datastore.clone(),
        maintenance: state.maintenance_of(vm),
        policy: state.policy_of(vm),
        probes: vm.spec.probes.clone(),
        pins: vm.pins.clone(),
        proven: vm.proven.clone(),
        verdict: vm.verdict.clone(),
    }
}

fn watcher_entry(w: &WatcherRecord) -> WatcherEntry {
    WatcherEntry {
        watcher: w.id,
        node: w.node.clone(),
        life: w.life,
        incarnation: w.incarnation,
        vms: w.vms.clone(),
        assignment: w.assignment,
    }
}
