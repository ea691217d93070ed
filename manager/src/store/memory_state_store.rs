//! A projection in memory, for tests and simulations: kept as long as its handles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::projection::{self, Projection};
use super::state_store::{Batch, StateStore, StateStoreError};

/// A projection in memory. Clones share it, so that a simulated manager can be started again on what it left.
#[derive(Clone, Debug, Default)]
pub struct MemoryStateStore(Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>);

impl MemoryStateStore {
    fn map<T>(&self, work: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StateStore for MemoryStateStore {
    fn load(&self) -> Result<Option<Projection>, StateStoreError> {
        self.map(|map| {
            if map.is_empty() {
                return Ok(None);
            }
            let mut projection = Projection::default();
            for (key, value) in map.iter() {
                projection.take_in(key, value)?;
            }
            Ok(projection.checked()?)
        })
    }

    fn commit(&self, batch: Batch) -> Result<(), StateStoreError> {
        self.map(|map| {
            if let Some(whole) = batch.whole {
                map.clear();
                map.extend(projection::records(&whole).collect::<Result<Vec<_>, _>>()?);
            }
            for (key, value) in batch.writes {
                match value {
                    Some(value) => map.insert(key, value),
                    None => map.remove(&key),
                };
            }
            Ok(())
        })
    }

    fn wipe(&self) -> Result<(), StateStoreError> {
        self.map(BTreeMap::clear);
        Ok(())
    }

    fn close(&self) -> Result<(), StateStoreError> {
        Ok(())
    }
}
