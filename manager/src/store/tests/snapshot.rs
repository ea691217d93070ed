//! Snapshots: one whole file, or an error that names it.

use vouch_types::LogIndex;

use super::samples;
use crate::raft::SnapshotMeta;
use crate::store::codec::decode;
use crate::store::{FileSnapshotStore, Image, SnapshotSource, SnapshotStore, State};

fn state() -> State {
    let mut state = State::default();
    for (index, command) in (1..).zip(samples::every_command()) {
        state.apply(LogIndex::new(index), command);
    }
    state
}

#[tokio::test]
async fn a_snapshot_comes_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSnapshotStore::open(folder.path()).unwrap();
    assert_eq!(store.load().await.unwrap(), None);
    let state = state();
    let saved = store.save(SnapshotMeta::default(), SnapshotSource::View(Box::new(state.clone()))).await.unwrap();

    let loaded = FileSnapshotStore::open(folder.path()).unwrap().load().await.unwrap().unwrap();
    assert_eq!(loaded, saved);
    let image: Image = decode("image", &loaded.image).unwrap();
    assert_eq!(State::from(image), state);
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSnapshotStore::open(folder.path()).unwrap();
    store.save(SnapshotMeta::default(), SnapshotSource::View(Box::new(state()))).await.unwrap();
    let path = folder.path().join("snapshot");
    let whole = std::fs::read(&path).unwrap();

    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [flipped, whole[..whole.len() - 1].to_vec(), whole[..10].to_vec(), Vec::new()] {
        std::fs::write(&path, damaged).unwrap();
        let error = store.load().await.expect_err("must be refused").to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("damaged"), "{error}");
    }
}

#[tokio::test]
async fn a_snapshot_that_was_cut_off_while_written_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileSnapshotStore::open(folder.path()).unwrap();
    let saved = store.save(SnapshotMeta::default(), SnapshotSource::View(Box::new(state()))).await.unwrap();
    let beside = folder.path().join("snapshot.new");
    std::fs::write(&beside, b"VOUCHSN1 half of").unwrap();
    assert_eq!(store.load().await.unwrap().as_ref(), Some(&saved));
    let store = FileSnapshotStore::open(folder.path()).unwrap();
    assert!(!beside.exists(), "it takes no room after the next start");
    assert_eq!(store.load().await.unwrap(), Some(saved));
}

#[tokio::test]
async fn a_snapshot_is_its_owners_alone_even_over_a_half_written_one_that_was_not() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let beside = folder.path().join("snapshot.new");
    let store = FileSnapshotStore::open(folder.path()).unwrap();
    std::fs::write(&beside, b"half of").unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644)).unwrap();
    store.save(SnapshotMeta::default(), SnapshotSource::View(Box::new(state()))).await.unwrap();
    let mode = std::fs::metadata(folder.path().join("snapshot")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
