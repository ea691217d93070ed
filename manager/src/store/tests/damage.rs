//! Bits that rotted in any file of the data folder: the manager either does not start, and names the file and the way
//! out, or makes again what was damaged. It never starts with less than it acknowledged.

use std::path::{Path, PathBuf};

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::vote::leader_id_std::CommittedLeaderId;
use vouch_types::LogIndex;

use super::samples;
use crate::raft::{Entry, LogId, SnapshotMeta, Vote};
use crate::seams::SystemRng;
use crate::store::{
    Batch, FileSnapshotStore, Position, Projection, SledStateStore, SnapshotSource, SnapshotStore, State, StateHash,
    StateStore, WalConfig, WalLogStore, WalOpenError,
};

const ENTRIES: u64 = 60;

pub(super) fn chunks(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "wal")).collect();
    paths.sort();
    paths
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1), index)
}

fn open(folder: &Path) -> Result<WalLogStore, WalOpenError> {
    WalLogStore::open(folder, &WalConfig { chunk_bytes: 4 * 1024, ..WalConfig::default() }, &SystemRng)
}

async fn written(folder: &Path) -> Vec<Entry> {
    let entries: Vec<Entry> = (0..ENTRIES)
        .map(|index| Entry {
            log_id: id(index),
            payload: openraft::EntryPayload::Normal(samples::record_vms("n1", &[index.into()]).into()),
        })
        .collect();
    let mut log = open(folder).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for entry in &entries {
        log.blocking_append([entry.clone()]).await.unwrap();
    }
    entries
}

/// Puts a folder back as it was, but for one bit of one file.
struct Rot {
    files: Vec<(PathBuf, Vec<u8>)>,
    folder: PathBuf,
}

impl Rot {
    fn of(folder: &Path) -> Self {
        let mut files = Vec::new();
        collect(folder, &mut files);
        Self { files, folder: folder.to_owned() }
    }

    fn flip(&self, file: &Path, byte: usize) {
        std::fs::remove_dir_all(&self.folder).unwrap();
        for (path, bytes) in &self.files {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut bytes = bytes.clone();
            if path == file {
                bytes[byte] ^= 1 << (byte % 8);
            }
            std::fs::write(path, bytes).unwrap();
        }
    }

    fn len(&self, file: &Path) -> usize {
        self.files.iter().find(|(path, _)| path == file).unwrap().1.len()
    }
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push((path.clone(), std::fs::read(&path).unwrap())) }
    }
}

#[tokio::test]
async fn no_bit_of_any_chunk_can_rot_without_the_log_being_refused_or_whole() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("log");
    let entries = written(&folder).await;
    let rot = Rot::of(&folder);
    let chunks = chunks(&folder);
    assert!(chunks.len() >= 3, "first, middle and last");
    let (mut refused, mut named) = (0, 0);
    for chunk in [&chunks[0], &chunks[chunks.len() / 2], chunks.last().unwrap()] {
        // Every byte of the first records and of the last ones, and a sample of what lies between.
        let len = rot.len(chunk);
        for byte in (0..len).filter(|byte| *byte < 160 || *byte + 160 > len || byte % 61 == 0) {
            rot.flip(chunk, byte);
            match open(&folder) {
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(folder.to_str().unwrap()) && text.contains("rejoins the cluster"), "{text}");
                    refused += 1;
                    named += u32::from(text.contains(chunk.to_str().unwrap()));
                }
                Ok(mut log) => {
                    assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)), "byte {byte}");
                    let kept = log.try_get_log_entries(..).await.unwrap();
                    assert!(kept == entries, "byte {byte} of {chunk:?} was believed");
                }
            }
        }
    }
    assert!(refused > 500 && named * 10 > refused * 9, "{refused} refused, {named} with the file");
}

#[tokio::test]
async fn a_log_whose_end_is_gone_is_refused_with_what_was_there() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("log");
    written(&folder).await;
    let last = chunks(&folder).pop().unwrap();
    let rot = Rot::of(&folder);
    let len = rot.len(&last);
    for cut in [1, 100, len / 2, len - 1, len] {
        rot.flip(&last, 0);
        let bytes = &rot.files.iter().find(|(path, _)| *path == last).unwrap().1;
        std::fs::write(&last, &bytes[..len - cut]).unwrap();
        let error = open(&folder).expect_err("must be refused");
        assert!(matches!(error, WalOpenError::Behind { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("{}", id(ENTRIES - 1))) && text.contains("rejoins the cluster"), "{text}");
    }
}

#[tokio::test]
async fn a_log_whose_chunks_are_gone_is_refused_and_so_is_one_without_what_stands_beside_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("log");
    written(&folder).await;
    let beside = std::fs::read(folder.join("acknowledged")).unwrap();
    std::fs::remove_file(folder.join("acknowledged")).unwrap();
    let error = open(&folder).expect_err("must be refused").to_string();
    assert!(error.contains("acknowledged") && error.contains("rejoins the cluster"), "{error}");

    std::fs::write(folder.join("acknowledged"), beside).unwrap();
    let name = std::fs::read(folder.join("name")).unwrap();
    for bad in [None, Some(&name[1..])] {
        std::fs::remove_file(folder.join("name")).unwrap();
        if let Some(bytes) = bad {
            std::fs::write(folder.join("name"), bytes).unwrap();
        }
        let error = open(&folder).expect_err("must be refused").to_string();
        assert!(error.contains("/name") && error.contains("rejoins the cluster"), "{error}");
        std::fs::write(folder.join("name"), &name).unwrap();
    }

    for chunk in chunks(&folder) {
        std::fs::remove_file(chunk).unwrap();
    }
    assert!(matches!(open(&folder), Err(WalOpenError::Behind { .. })), "the chunks are gone");
}

#[tokio::test]
async fn no_bit_of_a_snapshot_can_rot_without_its_being_refused_with_its_path() {
    let home = tempfile::tempdir().unwrap();
    let store = FileSnapshotStore::open(home.path()).unwrap();
    let mut state = State::default();
    for (index, command) in (1..).zip(samples::every_command()) {
        state.apply(LogIndex::new(index), command);
    }
    store.save(SnapshotMeta::default(), SnapshotSource::View(Box::new(state))).await.unwrap();
    let path = home.path().join("snapshot");
    let rot = Rot::of(home.path());
    for byte in (0..rot.len(&path)).step_by(13) {
        rot.flip(&path, byte);
        let error = store.load().await.expect_err("must be refused").to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains("rejoins the cluster"), "{error}");
    }
}

#[test]
fn a_projection_with_a_bit_that_rotted_is_gone_or_what_it_was_at_some_time() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("state");
    let store = SledStateStore::open(&folder).unwrap();
    let mut state = State::default();
    let mut hash = StateHash::default();
    let mut position = Position::default();
    let mut went_through = Vec::new();
    for (index, command) in (1..).zip(samples::every_command()) {
        let (_, changes) = state.apply(LogIndex::new(index), command);
        position.applied = Some(id(index));
        store.commit(Batch::of_changes(&state, &changes, &position, &mut hash).unwrap()).unwrap();
        let (state, position, digest) = (state.clone(), position.clone(), Some(hash.digest()));
        went_through.push(Projection { state, position, digest, hash: hash.clone() });
    }
    store.close().unwrap();
    drop(store);
    let rot = Rot::of(&folder);
    let files: Vec<PathBuf> = rot.files.iter().map(|(path, _)| path.clone()).collect();
    let mut gone = 0;
    for file in files {
        let len = rot.len(&file);
        for byte in (0..len).step_by(len / 25 + 1) {
            rot.flip(&file, byte);
            let store = SledStateStore::open(&folder).unwrap();
            match store.load().unwrap() {
                None => gone += 1,
                // An earlier one, with its position: the log makes up for the rest.
                Some(loaded) => assert!(went_through.contains(&loaded), "byte {byte} of {file:?} was believed"),
            }
            store.close().unwrap();
        }
    }
    assert!(gone > 10, "{gone}");
}
