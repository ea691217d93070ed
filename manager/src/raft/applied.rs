//! The applied state as the rest of the manager sees it: read it, and be told when it changes.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::{broadcast, watch};
use vouch_types::LogIndex;

use super::checkpoints::Checkpoints;
use crate::store::{Changes, State};

/// How many notices may wait for a reader before it has to start over from the state itself.
pub const NOTICES_MAX: usize = 4_096;

/// What was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Commands up to this index were applied; here is what they touched.
    Changed {
        /// Index of the last of them.
        index: LogIndex,
        /// What they touched.
        changes: Arc<Changes>,
    },
    /// Follow from the state again: it was replaced by a snapshot, or the reader was too slow to be told one by one.
    Replaced,
}

/// Notices, in order, for one reader.
#[derive(Debug)]
pub struct NoticeStream(broadcast::Receiver<Notice>);

impl NoticeStream {
    /// Returns the next notice, or `None` once consensus has been shut down and dropped.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Replaced),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The applied state, shared by the one that applies and those that read.
#[derive(Debug)]
pub(super) struct AppliedState {
    state: RwLock<State>,
    notices: broadcast::Sender<Notice>,
    index: watch::Sender<LogIndex>,
    checkpoints: Mutex<Checkpoints>,
}

impl AppliedState {
    pub(super) fn new(state: State, index: LogIndex) -> Self {
        Self {
            state: RwLock::new(state),
            notices: broadcast::channel(NOTICES_MAX).0,
            index: watch::Sender::new(index),
            checkpoints: Mutex::default(),
        }
    }

    pub(super) fn checkpoints<T>(&self, work: impl FnOnce(&mut Checkpoints) -> T) -> T {
        work(&mut self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        // A reader that panics leaves the state as it was; only `write` could break it, and it applies whole commands.
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn write<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        write(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn subscribe(&self) -> NoticeStream {
        NoticeStream(self.notices.subscribe())
    }

    pub(super) fn index(&self) -> watch::Receiver<LogIndex> {
        self.index.subscribe()
    }

    pub(super) fn publish(&self, index: LogIndex, notice: Option<Notice>) {
        self.index.send_replace(index);
        if let Some(notice) = notice {
            // Nobody listening is no error.
            let _ = self.notices.send(notice);
        }
    }
}
