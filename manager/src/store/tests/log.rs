//! The log on disk after it was closed, or cut off, and opened again.

use std::path::Path;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::vote::leader_id_std::CommittedLeaderId;
use vouch_types::{Verdict, VmState};

use super::samples;
use crate::raft::{Entry, LogId, Vote};
use crate::seams::SystemRng;
use crate::store::log_store::APPEND_BYTES;
use crate::store::{LogStore, MemoryLogStore, WalConfig, WalLogStore};

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: id(term, index),
        payload: openraft::EntryPayload::Normal(samples::record_vms("n1", &[index.into()]).into()),
    }
}

fn open(folder: &Path) -> WalLogStore {
    WalLogStore::open(folder, &WalConfig { chunk_bytes: 16 * 1024, ..WalConfig::default() }, &SystemRng).unwrap()
}

async fn entries(log: &mut WalLogStore) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

#[tokio::test]
async fn vote_entries_and_commit_position_survive_a_restart_over_many_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let written: Vec<Entry> = (0..200).map(|index| entry(1, index)).collect();
    let vote = Vote::new_committed(1, 2);
    {
        let mut log = open(folder.path());
        log.save_vote(&vote).await.unwrap();
        log.blocking_append(written.clone()).await.unwrap();
        log.save_committed(Some(id(1, 150))).await.unwrap();
        log.flush().await.unwrap();
    }
    let mut log = open(folder.path());
    assert!(std::fs::read_dir(folder.path()).unwrap().count() > 3, "the log is in several chunks");
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1, 150)));
    assert_eq!(entries(&mut log).await, written);
}

#[tokio::test]
async fn a_truncated_and_purged_log_is_the_same_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut log = open(folder.path());
        log.blocking_append((0..200).map(|index| entry(1, index))).await.unwrap();
        log.truncate_after(Some(id(1, 149))).await.unwrap();
        log.blocking_append([entry(2, 150)]).await.unwrap();
        log.purge(id(1, 100)).await.unwrap();
    }
    let mut log = open(folder.path());
    let state = log.get_log_state().await.unwrap();
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1, 100)), Some(id(2, 150))));
    let kept: Vec<LogId> = entries(&mut log).await.iter().map(|entry| entry.log_id).collect();
    assert_eq!(kept.first(), Some(&id(1, 101)));
    assert_eq!(kept.last(), Some(&id(2, 150)));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_what_was_acknowledged_before_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut log = open(folder.path());
        log.blocking_append((0..9).map(|index| entry(1, index))).await.unwrap();
    }
    let acknowledged = std::fs::read(folder.path().join("acknowledged")).unwrap();
    open(folder.path()).blocking_append([entry(1, 9)]).await.unwrap();
    // As if the power had failed in the middle of that one, before anybody heard that it was kept.
    std::fs::write(folder.path().join("acknowledged"), acknowledged).unwrap();
    let last_chunk = chunks(folder.path()).pop().unwrap();
    let bytes = std::fs::read(&last_chunk).unwrap();
    std::fs::write(&last_chunk, &bytes[..bytes.len() - 5]).unwrap();

    let mut log = open(folder.path());
    let kept = entries(&mut log).await;
    assert_eq!(kept, (0..9).map(|index| entry(1, index)).collect::<Vec<_>>(), "all but the torn one");
    log.blocking_append([entry(1, 9)]).await.unwrap();
    assert_eq!(entries(&mut log).await.len(), 10, "and it goes on from there");
}

#[tokio::test]
async fn damage_before_the_tail_is_refused_with_the_folder_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut log = open(folder.path());
        log.blocking_append((0..200).map(|index| entry(1, index))).await.unwrap();
    }
    let first_chunk = chunks(folder.path()).remove(0);
    let mut bytes = std::fs::read(&first_chunk).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&first_chunk, bytes).unwrap();

    let error =
        WalLogStore::open(folder.path(), &WalConfig::default(), &SystemRng).expect_err("must be refused").to_string();
    assert!(error.contains(folder.path().to_str().unwrap()) && error.contains("join"), "{error}");
}

#[tokio::test]
async fn a_log_that_is_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _log = open(folder.path());
    let error =
        WalLogStore::open(folder.path(), &WalConfig::default(), &SystemRng).expect_err("must be refused").to_string();
    assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
}

fn chunks(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn one_append_carries_so_many_bytes_of_commands_or_one_command() {
    let large = |index: u64, bytes: usize| {
        let reason = "x".repeat(bytes);
        let verdict = Verdict { reason, ..samples::verdict(VmState::Up) };
        Entry {
            payload: openraft::EntryPayload::Normal(samples::record_verdict(1, 0, verdict, 1).into()),
            ..entry(1, index)
        }
    };
    let third = APPEND_BYTES / 3;
    let written =
        [entry(1, 0), large(1, third), large(2, third), large(3, third), large(4, 2 * APPEND_BYTES), entry(1, 5)];
    let folder = tempfile::tempdir().unwrap();
    let mut wal = open(folder.path());
    wal.blocking_append(written.clone()).await.unwrap();
    let mut memory = MemoryLogStore::default();
    memory.blocking_append(written.clone()).await.unwrap();
    for (start, carried) in [(0, 3), (1, 2), (3, 1), (4, 1), (5, 1)] {
        let wanted = &written[start..start + carried];
        assert_eq!(wal.limited_get_log_entries(start as u64, 6).await.unwrap(), wanted, "from {start}");
        assert_eq!(memory.limited_get_log_entries(start as u64, 6).await.unwrap(), wanted, "from {start}");
    }
    assert_eq!(wal.limited_get_log_entries(0, 2).await.unwrap(), written[..2], "and no more than was asked for");
}
