//! The three stores of one manager, as one value to start consensus with.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use super::wal_log_store::WalOpenError;
use super::{
    FileSnapshotStore, MemoryLogStore, MemorySnapshotStore, MemoryStateStore, SledStateStore, SnapshotError,
    SnapshotStore, StateStore, StateStoreError, WalConfig, WalLogStore,
};
use crate::seams::Rng;

/// Why the stores cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The log.
    #[error(transparent)]
    Log(#[from] WalOpenError),
    /// The projection of the state.
    #[error(transparent)]
    State(#[from] StateStoreError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// The three stores of one manager. Clones share them.
#[derive(Clone, Debug)]
pub struct Stores<L> {
    /// The log.
    pub log: L,
    /// The projection of the state.
    pub state: Arc<dyn StateStore>,
    /// The last snapshot.
    pub snapshots: Arc<dyn SnapshotStore>,
}

impl Stores<WalLogStore> {
    /// Opens the stores of a manager: `log`, `state` and `snapshot` below its data folder. A new log is named by `rng`.
    ///
    /// # Errors
    /// [`OpenError`] names the file or folder.
    pub fn open(data: &Path, rng: &dyn Rng) -> Result<Self, OpenError> {
        Ok(Self {
            log: WalLogStore::open(&data.join("log"), &WalConfig::default(), rng)?,
            state: Arc::new(SledStateStore::open(&data.join("state"))?),
            snapshots: Arc::new(FileSnapshotStore::open(&data.join("snapshot"))?),
        })
    }
}

impl Stores<MemoryLogStore> {
    /// Returns empty stores in memory. Clone them to start a manager again on what it left.
    pub fn memory() -> Self {
        Self {
            log: MemoryLogStore::default(),
            state: Arc::new(MemoryStateStore::default()),
            snapshots: Arc::new(MemorySnapshotStore::default()),
        }
    }
}
