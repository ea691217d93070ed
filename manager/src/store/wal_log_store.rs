//! The log on disk: vote, entries and commit position in one ordered, checksummed write-ahead log with group commit.
//!
//! raft-log keeps the order of writes and runs the fsyncs on a thread of its own; many appends share one. A torn tail
//! of the last chunk is cut when it is opened; damage anywhere else is an error that names the file, and so is a log that
//! ends below what was acknowledged ([`acknowledged`](super::acknowledged)). Its name stands beside it as well
//! ([`log_name`](super::log_name)).

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{LogIdOptionExt, OptionalSend};
use raft_log::api::raft_log_writer::RaftLogWriter;
use raft_log::{DumpApi, RaftLog};
use thiserror::Error;
use vouch_types::LogName;

use super::LogStore;
use super::acknowledged::{self, Acknowledged, AcknowledgedFile};
use super::folders::make_folder;
use super::log_name;
use super::log_store::for_one_append;
use super::wal_records::{Note, WalCallback, WalLogId, WalPayload, WalTypes, WalVote, failed};
use crate::raft::{Entry, LogId, Types, Vote};
use crate::seams::Rng;

/// The log cannot be opened, or may not be used.
#[derive(Debug, Error)]
pub enum WalOpenError {
    /// It cannot be opened.
    #[error(
        "log {path} cannot be opened; to go on without it, remove this manager's data folder and start it again: it \
         rejoins the cluster by itself"
    )]
    Open {
        /// The damaged file, or the folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What stands beside the log is not there, or not what was written.
    #[error(
        "log {path} cannot be trusted: what this manager acknowledged cannot be read from {path}/acknowledged; to go \
         on without it, remove this manager's data folder and start it again: it rejoins the cluster by itself"
    )]
    Unknown {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its name is not there, or not what was written.
    #[error(
        "log {path} cannot be trusted: its name cannot be read from {path}/name; to go on without it, remove this \
         manager's data folder and start it again: it rejoins the cluster by itself"
    )]
    Unnamed {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It lost its end.
    #[error(
        "log {path} ends at {found}, and this manager acknowledged {acknowledged}: it may not vote on less than it \
         promised; remove its data folder and start it again: it rejoins the cluster by itself"
    )]
    Behind {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What was there.
        acknowledged: String,
    },
}

/// Limits of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalConfig {
    /// Size at which a chunk is closed and the next one begun.
    pub chunk_bytes: usize,
    /// Memory for entries that were written lately.
    pub cache_bytes: usize,
    /// How many entries may be in that memory.
    pub cache_entries: usize,
    /// Memory for reading a chunk when the log is opened.
    pub read_buffer_bytes: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            chunk_bytes: 64 * 1024 * 1024,
            cache_bytes: 32 * 1024 * 1024,
            cache_entries: 100_000,
            read_buffer_bytes: 4 * 1024 * 1024,
        }
    }
}

/// The log on disk. Clones share it.
#[derive(Clone, Debug)]
pub struct WalLogStore {
    log: Arc<Mutex<RaftLog<WalTypes>>>,
    acknowledged: Arc<AcknowledgedFile>,
    name: LogName,
    folder: Arc<Path>,
}

impl WalLogStore {
    /// Opens the log in this folder, which is made, and named, if it is missing.
    ///
    /// # Errors
    /// [`WalOpenError`] when it is damaged, in use, cannot be read, or ends below what was acknowledged.
    pub fn open(folder: &Path, config: &WalConfig, rng: &dyn Rng) -> Result<Self, WalOpenError> {
        let refused = |source| WalOpenError::Open { path: folder.to_owned(), source };
        let unnamed = |source| WalOpenError::Unnamed { path: folder.to_owned(), source };
        let unknown = |source| WalOpenError::Unknown { path: folder.to_owned(), source };
        make_folder(folder).map_err(refused)?;
        let (name, acknowledged) = match AcknowledgedFile::open(folder).map_err(|e| unknown(io::Error::other(e)))? {
            Some(file) => {
                let name = log_name::read(folder).map_err(|e| unnamed(io::Error::other(e)))?;
                (name.ok_or_else(|| unnamed(io::ErrorKind::NotFound.into()))?, file)
            }
            None if has_chunks(folder).map_err(refused)? => return Err(unknown(io::ErrorKind::NotFound.into())),
            // Before the first chunk, so that a log is never without them. A name that stands there alone is of a log
            // that is gone, or of one that never was.
            None => {
                let name = log_name::make(folder, rng).map_err(|e| refused(io::Error::other(e)))?;
                let made = AcknowledgedFile::create(folder, Acknowledged::default());
                (name, made.map_err(|e| refused(io::Error::other(e)))?)
            }
        };
        let log = open_log(folder, config)?;
        let found = found_in(&log);
        let promised = acknowledged.get();
        if found.vote < promised.vote || found.last < promised.last {
            let (found, acknowledged) = (said(&found), said(&promised));
            return Err(WalOpenError::Behind { path: folder.to_owned(), found, acknowledged });
        }
        Ok(Self { log: Arc::new(Mutex::new(log)), acknowledged: Arc::new(acknowledged), name, folder: folder.into() })
    }

    /// Takes a log of format version 1, which has nothing beside it, as it stands: what it holds is what was
    /// acknowledged. Does nothing where there is no log, or that was done before.
    ///
    /// # Errors
    /// [`WalOpenError`] when it is damaged, in use, or cannot be read.
    pub fn adopt(folder: &Path) -> Result<(), WalOpenError> {
        let refused = |source| WalOpenError::Open { path: folder.to_owned(), source };
        let there = folder.is_dir() && has_chunks(folder).map_err(refused)?;
        if !there || folder.join(acknowledged::NAME).exists() {
            return Ok(());
        }
        let found = found_in(&open_log(folder, &WalConfig::default())?);
        AcknowledgedFile::create(folder, found).map(drop).map_err(|e| refused(io::Error::other(e)))
    }

    /// Names a log of format version 2, which has no name. Does nothing where there is no log, or that was done before.
    ///
    /// # Errors
    /// [`WalOpenError`] when it cannot be written.
    pub fn give_name(folder: &Path, rng: &dyn Rng) -> Result<(), WalOpenError> {
        let refused = |source| WalOpenError::Unnamed { path: folder.to_owned(), source };
        if !folder.join(acknowledged::NAME).exists() || folder.join(log_name::NAME).exists() {
            return Ok(());
        }
        log_name::make(folder, rng).map(drop).map_err(|e| refused(io::Error::other(e)))
    }

    fn log<T>(&self, work: impl FnOnce(&mut RaftLog<WalTypes>) -> T) -> T {
        work(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes to the log; an error says which log, and what failed first: later ones say no more than that it did.
    fn write(&self, write: impl FnOnce(&mut RaftLog<WalTypes>) -> io::Result<()>) -> io::Result<()> {
        self.log(|log| write(log).map_err(|e| log.wait_worker_idle().err().unwrap_or(e)))
            .map_err(failed(&self.folder, "could not be written"))
    }

    /// Writes, and waits until it is durable; other writers may be waiting for the same fsync.
    async fn write_through(&self, write: impl FnOnce(&mut RaftLog<WalTypes>) -> io::Result<()>) -> io::Result<()> {
        let (flushed, wait) = tokio::sync::oneshot::channel();
        self.write(|log| {
            write(log)?;
            log.flush(true, Some(WalCallback::waiting(&self.folder, flushed)))
        })?;
        wait.await.map_err(|_| io::Error::other("the log's flusher has stopped"))?
    }
}

impl LogStore for WalLogStore {
    fn name(&self) -> LogName {
        self.name
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let log = self.clone();
        async move {
            log.write_through(|_| Ok(())).await?;
            log.acknowledged.catch_up()
        }
    }
}

impl RaftLogReader<Types> for WalLogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.log(|log| log.read(from, to).map(|read| read.map(entry_of)).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.log(|log| for_one_append(log.read(start, end).map(|read| read.map(entry_of))))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log(|log| log.log_state().vote().map(|vote| vote.0)))
    }
}

impl RaftLogStorage<Types> for WalLogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        Ok(self.log(|log| {
            let state = log.log_state();
            LogState { last_purged_log_id: state.purged().map(|id| id.0), last_log_id: state.last().map(|id| id.0) }
        }))
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write_through(|log| log.save_vote(WalVote(*vote)).map(drop)).await?;
        self.acknowledged.voted(*vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        // No fsync of its own: it becomes durable with the next append, and what is lost is learnt again.
        self.write(|log| match committed.map(WalLogId) {
            Some(id) if log.log_state().last() >= Some(&id) && log.log_state().committed() < Some(&id) => {
                log.commit(id).map(drop)
            }
            // Ahead of the log only after a snapshot, which says the same by itself.
            Some(_) | None => Ok(()),
        })
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log(|log| log.log_state().committed().map(|id| id.0)))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        for entry in entries {
            records.push((WalLogId(entry.log_id), WalPayload::new(entry.payload)?));
        }
        let note = records.last().map(|(id, _)| Note {
            last: id.0,
            truncations: self.acknowledged.truncations(),
            file: Arc::clone(&self.acknowledged),
        });
        self.write(|log| {
            log.append(records)?;
            log.flush(true, Some(WalCallback::appended(&self.folder, callback, note)))
        })
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let next = last_log_id.next_index();
        self.acknowledged.lower(last_log_id)?;
        self.write_through(|log| {
            if log.log_state().last().is_some_and(|last| next <= last.0.index) {
                log.truncate(next)?;
            }
            Ok(())
        })
        .await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        // The flush lets raft-log delete the chunks that are no longer needed.
        self.write_through(|log| log.purge(WalLogId(log_id)).map(drop)).await
    }
}

fn entry_of((id, logged): (WalLogId, WalPayload)) -> Entry {
    Entry { log_id: id.0, payload: (*logged.payload).clone() }
}

fn open_log(folder: &Path, config: &WalConfig) -> Result<RaftLog<WalTypes>, WalOpenError> {
    let refused = |source| WalOpenError::Open { path: folder.to_owned(), source };
    let dir = folder.to_str().ok_or_else(|| refused(io::Error::other("its path is not UTF-8")))?;
    let config = raft_log::Config {
        wal: raft_log::chunked_wal::Config {
            read_buffer_size: Some(config.read_buffer_bytes),
            chunk_max_size: Some(config.chunk_bytes),
            truncate_incomplete_record: Some(true),
            // Proposals come in groups already: the flusher gains nothing by waiting for more.
            flush_batch_wait: Some(Duration::ZERO),
            ..raft_log::chunked_wal::Config::new(dir)
        },
        log_cache_max_items: Some(config.cache_entries),
        log_cache_capacity: Some(config.cache_bytes),
    };
    let config = Arc::new(config);
    RaftLog::open(Arc::clone(&config)).map_err(|source| {
        let path = damaged_chunk(&config).map_or_else(|| folder.to_owned(), PathBuf::from);
        WalOpenError::Open { path, source }
    })
}

/// Returns the first chunk with a record that cannot be read; `None` when the log is in use, or they all can.
fn damaged_chunk(config: &Arc<raft_log::Config>) -> Option<String> {
    let mut damaged = None;
    let dump = raft_log::Dump::<WalTypes>::new(Arc::clone(config)).ok()?;
    let _ = dump.write_with(|chunk, _, record| {
        if record.is_err() && damaged.is_none() {
            damaged = Some(config.wal.chunk_path(chunk));
        }
        Ok(())
    });
    damaged
}

fn found_in(log: &RaftLog<WalTypes>) -> Acknowledged {
    let state = log.log_state();
    Acknowledged { vote: state.vote().map(|vote| vote.0), last: state.last().map(|id| id.0) }
}

fn said(of: &Acknowledged) -> String {
    let vote = of.vote.map_or_else(|| "no vote".to_owned(), |vote| format!("vote {vote}"));
    let last = of.last.map_or_else(|| "no entry".to_owned(), |id| format!("entry {id}"));
    format!("{last} and {vote}")
}

fn has_chunks(folder: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        if entry?.path().extension().is_some_and(|extension| extension == "wal") {
            return Ok(true);
        }
    }
    Ok(false)
}
