//! The projection: the same as the state while it is kept in good order, and gone when it is in doubt.

use openraft::vote::leader_id_std::CommittedLeaderId;
use vouch_types::LogIndex;

use super::samples;
use crate::raft::LogId;
use crate::store::{
    Batch, MemoryStateStore, Position, Projection, SledStateStore, State, StateHash, StateStore, replace_all,
};

fn position(index: u64) -> Position {
    Position { applied: Some(LogId::new(CommittedLeaderId::new(1), index)), ..Position::default() }
}

/// Applies every sample to a state and to the store, one batch each.
fn fill(store: &dyn StateStore) -> Projection {
    let mut state = State::default();
    let mut hash = StateHash::default();
    let mut last = 0;
    for (index, command) in (1..).zip(samples::every_command()) {
        let (_, changes) = state.apply(LogIndex::new(index), command);
        store.commit(Batch::of_changes(&state, &changes, &position(index), &mut hash).unwrap()).unwrap();
        last = index;
    }
    Projection { state, position: position(last), digest: Some(hash.digest()), hash }
}

#[test]
fn what_was_closed_in_good_order_comes_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    assert_eq!(store.load().unwrap(), None, "nothing at first");
    let kept = fill(&store);
    store.close().unwrap();
    drop(store);
    assert_eq!(SledStateStore::open(folder.path()).unwrap().load().unwrap(), Some(kept));

    let memory = MemoryStateStore::default();
    let kept = fill(&memory);
    assert_eq!(memory.load().unwrap(), Some(kept));
}

#[test]
fn what_was_not_closed_is_thrown_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    fill(&store);
    drop(store);
    // The writer thread lets go of the files when it has seen that nobody gives orders any more.
    let reopened = (0..200).find_map(|_| {
        SledStateStore::open(folder.path()).map_err(|_| std::thread::sleep(std::time::Duration::from_millis(20))).ok()
    });
    assert_eq!(reopened.expect("opens once the writer is gone").load().unwrap(), None);
}

#[test]
fn what_cannot_be_read_is_thrown_away_and_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    fill(&store);
    store.close().unwrap();
    drop(store);
    let file = folder.path().join("sled").join("db");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();

    let store = SledStateStore::open(folder.path()).unwrap();
    assert_eq!(store.load().unwrap(), None);
    let kept = fill(&store);
    store.close().unwrap();
    drop(store);
    assert_eq!(SledStateStore::open(folder.path()).unwrap().load().unwrap(), Some(kept), "and it works again");
}

#[test]
fn a_batch_that_starts_over_leaves_nothing_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    fill(&store);
    let mut other = State::default();
    other.apply(LogIndex::new(1), samples::init());
    let hash = replace_all(&store, &other, &position(90)).unwrap();
    store.close().unwrap();
    drop(store);
    let loaded = SledStateStore::open(folder.path()).unwrap().load().unwrap();
    assert_eq!(loaded, Some(Projection { state: other, position: position(90), digest: Some(hash.digest()), hash }));
}

#[test]
fn a_state_of_many_pieces_comes_back_whole() {
    let mut state = State::default();
    let numbers: Vec<u128> = (1..=2_500).collect();
    let commands = [samples::init(), samples::record_node("n1"), samples::record_vms("n1", &numbers)];
    for (index, command) in (1..).zip(commands) {
        state.apply(LogIndex::new(index), command);
    }
    assert!(state.vms().len() == 2_500 && state.events().len() > 2_500, "several pieces of VMs and of events");
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    fill(&store);
    let hash = replace_all(&store, &state, &position(90)).unwrap();
    assert_eq!(hash, StateHash::of(&state).unwrap());
    store.close().unwrap();
    drop(store);
    let loaded = SledStateStore::open(folder.path()).unwrap().load().unwrap();
    assert_eq!(loaded, Some(Projection { state, position: position(90), digest: Some(hash.digest()), hash }));
}

#[test]
fn a_wiped_store_holds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    fill(&store);
    store.wipe().unwrap();
    store.close().unwrap();
    drop(store);
    assert_eq!(SledStateStore::open(folder.path()).unwrap().load().unwrap(), None);
}

#[test]
fn a_store_that_was_closed_keeps_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStateStore::open(folder.path()).unwrap();
    store.close().unwrap();
    let error = replace_all(&store, &State::default(), &position(1)).expect_err("must be refused").to_string();
    assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
}
