//! The replicated records: the manager's real state, which applies what the detector proposes; without Raft.
//!
//! Everything that is proposed commits, after [`COMMIT`]. Commands and records are made of proposals and of the state
//! by the very functions of the manager's detector task.

use std::time::Duration;

use vouch_detector::{Event as Fact, Proposal};
use vouch_manager::detect::{commands_of, records_of};
use vouch_manager::store::{Changes, State};
use vouch_types::command::ClusterSecrets;
use vouch_types::{
    Applied, AssignmentGeneration, BootId, ClusterId, Command, Incarnation, LogIndex, ManagerId, Moment, NextCa,
    NodeId, NodePath, NodeRecord, Source, VmId, VmRecord, VmSpec, WallTime, WatcherId,
};

use super::Score;

/// How long a proposal takes to be committed and applied.
pub(crate) const COMMIT: Duration = Duration::from_millis(3);
/// The secret of every watcher: who may redeem one is not what is tested here.
const SECRET_HASH: [u8; 32] = [7; 32];

/// The replicated records.
pub(crate) struct Records {
    own: ManagerId,
    state: State,
    index: LogIndex,
    untold: Changes,
}

fn wall(now: Moment) -> WallTime {
    WallTime::from_unix_millis(now.as_micros() / 1_000)
}

impl Records {
    /// Returns the records of a cluster of one manager.
    pub(crate) fn new(own: ManagerId) -> Self {
        let mut records = Self { own, state: State::default(), index: LogIndex::default(), untold: Changes::default() };
        let secrets = ClusterSecrets {
            ca_certificate: String::new(),
            ca_key: String::new(),
            grant_key: Vec::new(),
            grant_public_key: Vec::new(),
            next_ca: NextCa::None,
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
        self.untold.merge(changes);
        applied
    }

    /// Returns what changed of the records since this was last asked, as the detector is told of it.
    pub(crate) fn news(&mut self) -> Fact {
        let changes = std::mem::take(&mut self.untold);
        Fact::RecordsChanged(records_of(&self.state, self.index, vec![self.own], &changes))
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
            modified: LogIndex::default(),
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
            | Applied::NodeRemoved { .. }
            | Applied::WatchersAssigned { .. }
            | Applied::MaintenanceBegun { .. }
            | Applied::JoinTokenCreated { .. }
            | Applied::Recorded { .. }
            | Applied::Repeated { .. }
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

    /// Returns who rules on a node, as recorded.
    pub(crate) fn source(&self, node: &NodeId) -> Option<Source> {
        self.state.nodes().get(node).map(|node| node.path.source)
    }

    pub(crate) fn index(&self) -> LogIndex {
        self.index
    }

    /// Applies a proposal, in the commands that the manager makes of one; returns the watchers that it calls lost.
    pub(crate) fn record(&mut self, now: Moment, proposal: Proposal, score: &mut Score) -> Vec<WatcherId> {
        score.proposals += 1;
        let lost: Vec<_> = proposal.lost_watchers.iter().map(|(watcher, _)| *watcher).collect();
        score.false_lost_watchers += lost.len() as u64;
        for (watcher, reason) in &proposal.lost_watchers {
            tracing::info!(watcher_id = %watcher, %reason, now = ?now, "a watcher that lives is called lost");
        }
        for change in &proposal.verdicts {
            let from = self.vm(change.vm).map(|vm| vm.verdict.state).unwrap_or(change.verdict.state);
            score.verdict(&format!("{now:?}"), change.vm, from, change.verdict.state, &change.verdict.reason);
        }
        for change in &proposal.paths {
            let known = self.state.nodes().get(&change.node).map(|n| n.path.source);
            if known != Some(change.source) {
                score.path(change.source);
            }
        }
        for command in commands_of(proposal, wall(now)) {
            self.apply(command);
        }
        lost
    }

    /// Returns how many nodes are recorded as heard through watchers alone now.
    pub(crate) fn cut_nodes(&self) -> usize {
        self.state.nodes().values().filter(|n| n.path.source == Source::Watcher).count()
    }
}
