//! The last snapshot in memory, for tests and simulations.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::snapshot_store::{SnapshotError, SnapshotSource, SnapshotStore, StoredSnapshot};
use crate::raft::SnapshotMeta;

/// The last snapshot in memory. Clones share it, so that a simulated manager can be started again on what it left.
#[derive(Clone, Debug, Default)]
pub struct MemorySnapshotStore(Arc<Mutex<Option<StoredSnapshot>>>);

#[async_trait]
impl SnapshotStore for MemorySnapshotStore {
    async fn save(&self, meta: SnapshotMeta, source: SnapshotSource) -> Result<StoredSnapshot, SnapshotError> {
        let snapshot = StoredSnapshot { meta, image: source.into_image()? };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn covers(&self) -> Result<Option<SnapshotMeta>, SnapshotError> {
        Ok(self.load().await?.map(|snapshot| snapshot.meta))
    }

    async fn load(&self) -> Result<Option<StoredSnapshot>, SnapshotError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
