//! The stores opened again after every kind of write: what was durable is there, in the order in which it was written.

use std::path::Path;

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::vote::leader_id_std::CommittedLeaderId;

use super::samples;
use crate::raft::{Entry, LogId, Vote};
use crate::seams::SystemRng;
use crate::store::{WalConfig, WalLogStore};

const CHUNK_BYTES: usize = 2 * 1024;

/// One kind of write to the log.
#[derive(Clone, Copy, Debug)]
enum Write {
    Vote(u64),
    Append { term: u64, from: u64, count: u64 },
    Truncate(u64, u64),
    Purge(u64, u64),
    Committed(u64, u64),
}

/// What the log must hold.
#[derive(Clone, PartialEq, Debug, Default)]
struct Model {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = openraft::EntryPayload::Normal(samples::record_vms("n1", &[index.into()]).into());
    Entry { log_id: id(term, index), payload }
}

fn open(folder: &Path) -> WalLogStore {
    WalLogStore::open(folder, &WalConfig { chunk_bytes: CHUNK_BYTES, ..WalConfig::default() }, &SystemRng).unwrap()
}

impl Model {
    async fn write(&mut self, log: &mut WalLogStore, write: Write) {
        match write {
            Write::Vote(term) => {
                let vote = Vote::new(term, 2);
                log.save_vote(&vote).await.unwrap();
                self.vote = Some(vote);
            }
            Write::Append { term, from, count } => {
                let entries: Vec<Entry> = (from..from + count).map(|index| entry(term, index)).collect();
                log.blocking_append(entries.clone()).await.unwrap();
                self.entries.extend(entries);
            }
            Write::Truncate(term, index) => {
                log.truncate_after(Some(id(term, index))).await.unwrap();
                self.entries.retain(|entry| entry.log_id.index <= index);
            }
            Write::Purge(term, index) => {
                log.purge(id(term, index)).await.unwrap();
                self.purged = Some(id(term, index));
                self.entries.retain(|entry| entry.log_id.index > index);
            }
            Write::Committed(term, index) => {
                log.save_committed(Some(id(term, index))).await.unwrap();
                self.committed = Some(id(term, index));
            }
        }
    }

    async fn read(log: &mut WalLogStore) -> Self {
        Self {
            vote: log.read_vote().await.unwrap(),
            committed: log.read_committed().await.unwrap(),
            purged: log.get_log_state().await.unwrap().last_purged_log_id,
            entries: log.try_get_log_entries(..).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn the_log_is_the_same_when_it_is_opened_again_after_every_kind_of_write() {
    use Write::{Append, Committed, Purge, Truncate, Vote};
    let script = [
        Vote(1),
        Append { term: 1, from: 0, count: 1 },
        Append { term: 1, from: 1, count: 40 },
        Committed(1, 20),
        Truncate(1, 30),
        Vote(2),
        Append { term: 2, from: 31, count: 40 },
        Committed(2, 60),
        Purge(1, 25),
        Vote(3),
        Truncate(2, 65),
        Append { term: 3, from: 66, count: 1 },
        Purge(3, 66),
        Append { term: 3, from: 67, count: 30 },
        // Beyond the end of the log, as after a snapshot that was received.
        Purge(4, 200),
        Append { term: 4, from: 201, count: 5 },
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    for (step, write) in script.into_iter().enumerate() {
        let mut log = open(folder.path());
        model.write(&mut log, write).await;
        drop(log);
        let kept = Model::read(&mut open(folder.path())).await;
        assert_eq!(kept, model, "after step {step}: {write:?}");
    }
}

#[tokio::test]
async fn a_chunk_that_was_begun_and_not_written_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    let mut log = open(folder.path());
    model.write(&mut log, Write::Append { term: 1, from: 0, count: 30 }).await;
    drop(log);
    let chunks = super::damage::chunks(folder.path());
    let end = chunks.iter().map(|chunk| std::fs::metadata(chunk).unwrap().len()).sum::<u64>();
    let digits = format!("{end:020}");
    let name = format!(
        "r-{}_{}_{}_{}_{}_{}_{}.wal",
        &digits[..2],
        &digits[2..5],
        &digits[5..8],
        &digits[8..11],
        &digits[11..14],
        &digits[14..17],
        &digits[17..]
    );
    for torn in [&b""[..], &[0; 300], &[0, 0, 0, 5, 1]] {
        std::fs::write(folder.path().join(&name), torn).unwrap();
        assert_eq!(Model::read(&mut open(folder.path())).await, model, "with {} bytes of it", torn.len());
    }
}
