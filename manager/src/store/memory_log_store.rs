//! The log in memory, for tests and simulations: durable as soon as it is written, and in no thread of its own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::RangeBounds;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{LogIdOptionExt, OptionalSend};

use uuid::Uuid;
use vouch_types::LogName;

use super::LogStore;
use super::log_store::for_one_append;
use crate::raft::{Entry, LogId, Types, Vote};

/// How many logs were made in this process.
static MADE: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, Default)]
struct Log {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

/// The log in memory. Clones share it, so that a simulated manager can be started again on what it left.
#[derive(Clone, Debug)]
pub struct MemoryLogStore {
    log: Arc<Mutex<Log>>,
    name: LogName,
}

impl Default for MemoryLogStore {
    fn default() -> Self {
        // A count is as good as random bits within one process, and moves no seed.
        let number = MADE.fetch_add(1, Ordering::Relaxed) + 1;
        Self { log: Arc::default(), name: LogName::new(Uuid::from_u128(number.into())) }
    }
}

impl MemoryLogStore {
    /// Returns the index of the last entry that was purged.
    #[cfg(test)]
    pub(crate) fn purged(&self) -> Option<u64> {
        self.log(|log| log.purged.map(|id| id.index))
    }

    fn log<T>(&self, work: impl FnOnce(&mut Log) -> T) -> T {
        work(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogStore for MemoryLogStore {
    fn name(&self) -> LogName {
        self.name
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send + 'static {
        std::future::ready(Ok(()))
    }
}

impl RaftLogReader<Types> for MemoryLogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.log(|log| log.entries.range(range).map(|(_, entry)| entry.clone()).collect()))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.log(|log| for_one_append(log.entries.range(start..end).map(|(_, entry)| Ok(entry.clone()))))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log(|log| log.vote))
    }
}

impl RaftLogStorage<Types> for MemoryLogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(self.log(|log| {
            let last = log.entries.last_key_value().map(|(_, entry)| entry.log_id);
            LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) }
        }))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log(|log| log.vote = Some(*vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log(|log| log.committed = committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log(|log| log.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log(|log| log.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry))));
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log(|log| drop(log.entries.split_off(&last_log_id.next_index())));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log(|log| {
            log.entries = log.entries.split_off(&(log_id.index + 1));
            log.purged = log.purged.max(Some(log_id));
        });
        Ok(())
    }
}
