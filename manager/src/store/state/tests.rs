//! Each command: what it does, what it refuses, and that doing it again does nothing.

mod ca;
mod fencing;
mod guarded;
mod incidents;
mod inventory;
mod joining;
mod managers;
mod policies;
mod probe_keys;
mod probes;
mod removal;
mod rollouts;
mod scoped_probes;
mod verdicts;
mod watchers;

use vouch_types::{Applied, Command, DenyReason, EventKind, LogIndex, ManagerId, Term, VmState, WatcherId};

use super::super::tests::samples::*;
use super::{EVENTS_MAX, State};
use crate::store::Changes;

/// A state, and the index that the next command gets.
struct Story {
    state: State,
    next: u64,
}

impl Story {
    fn empty() -> Self {
        Self { state: State::default(), next: 1 }
    }

    /// A cluster with the nodes n1 and n2, the VMs 1 and 2 on n1 and 3 on n2.
    fn begun() -> Self {
        let mut story = Self::empty();
        for command in [init(), record_node("n1"), record_node("n2"), record_vms("n1", &[1, 2]), record_vms("n2", &[3])]
        {
            story.tell(command);
        }
        story
    }

    fn apply(&mut self, command: Command) -> (Applied, Changes) {
        let index = LogIndex::new(self.next);
        self.next += 1;
        self.state.apply(index, command)
    }

    /// Applies a command that must be accepted, and returns its events.
    fn tell(&mut self, command: Command) -> Vec<EventKind> {
        let (applied, changes) = self.apply(command);
        assert!(!matches!(applied, Applied::Denied(_)), "{applied:?}");
        changes.events.iter().map(|event| event.kind.clone()).collect()
    }

    /// Applies a command that must change nothing at all, and returns what came of it.
    fn in_vain(&mut self, command: Command) -> Applied {
        let before = self.state.clone();
        let (applied, changes) = self.apply(command);
        assert!(changes.is_empty(), "{changes:?}");
        assert_eq!(self.state, before);
        applied
    }

    fn refused(&mut self, command: Command) -> DenyReason {
        match self.in_vain(command) {
            Applied::Denied(reason) => reason,
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn verdict(&self, vm: u128) -> &vouch_types::Verdict {
        &self.state.vms()[&vm_id(vm)].verdict
    }

    fn path(&self, node: &str) -> &vouch_types::NodePath {
        &self.state.nodes()[&node_id(node)].path
    }

    fn watcher(&self, number: u64) -> &vouch_types::WatcherRecord {
        &self.state.watchers()[&WatcherId::new(number)]
    }
}

/// A state that is written and read as a snapshot and as a projection must be the same again.
fn survives(state: &State) {
    use crate::store::codec::{decode, encode};
    use crate::store::{Image, MemoryStateStore, Position, StateStore, replace_all};
    let bytes = encode("image", &Image::from(state)).unwrap();
    assert_eq!(State::from(decode::<Image>("image", &bytes).unwrap()), *state);
    let store = MemoryStateStore::default();
    replace_all(&store, state, &Position::default()).unwrap();
    assert_eq!(store.load().unwrap().map(|loaded| loaded.state).as_ref(), Some(state));
}

#[test]
fn a_cluster_is_made_once() {
    let mut story = Story::empty();
    assert_eq!(story.tell(init()), [EventKind::ClusterInitialised]);
    assert_eq!(story.state.cluster().unwrap().id, cluster_id());
    assert_eq!(story.refused(init()), DenyReason::AlreadyInitialised(cluster_id()));
}

#[test]
fn before_there_is_a_cluster_only_the_leader_is_recorded() {
    for command in every_command().into_iter().skip(2) {
        assert_eq!(Story::empty().refused(command), DenyReason::NotInitialised);
    }
}

#[test]
fn a_leader_is_recorded_once_per_term() {
    let mut story = Story::empty();
    let lead =
        |manager, term| Command::RecordLeader { manager: ManagerId::new(manager), term: Term::new(term), at: at(5) };
    let elected = EventKind::LeaderElected { manager: ManagerId::new(1), term: Term::new(3) };
    assert_eq!(story.tell(lead(1, 3)), [elected]);
    story.in_vain(lead(1, 3));
    story.in_vain(lead(2, 2));
    assert_eq!(story.tell(lead(2, 4)).len(), 1);
    assert_eq!(story.state.leader().unwrap().manager, ManagerId::new(2));
}

#[test]
fn the_ring_of_events_lets_go_of_the_oldest_and_says_so() {
    let mut story = Story::begun();
    let kept_before = story.state.events().len();
    let mut evicted = Vec::new();
    let flips = EVENTS_MAX - kept_before + 3;
    for flip in 0..flips {
        let state = if flip % 2 == 0 { VmState::Up } else { VmState::Degraded };
        let (_, changes) = story.apply(record_verdict(1, flip as u64, verdict(state), 60));
        evicted.extend(changes.evicted);
    }
    assert_eq!(story.state.events().len(), EVENTS_MAX);
    assert_eq!(evicted, [1, 2, 3].map(|index| (LogIndex::new(index), 0)), "the oldest three");
    let last = story.state.events().next_back().unwrap();
    let before_last = (LogIndex::new(last.index.get() - 1), 0);
    assert_eq!(story.state.events_after(before_last).collect::<Vec<_>>(), [last]);
    assert_eq!(story.state.events_after((LogIndex::default(), 0)).count(), EVENTS_MAX);
    assert_eq!(story.state.trimmed(), Some((LogIndex::new(3), 0)));
}
