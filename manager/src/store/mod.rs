//! What a manager keeps: the replicated state, the log it is made from, its projection on disk, and snapshots.
//!
//! The log ([`WalLogStore`], [`MemoryLogStore`]) and the last snapshot ([`SnapshotStore`]) are the truth. [`State`] is
//! what they add up to, in memory. A [`StateStore`] holds a projection of it, so that a restart need not replay: it is
//! thrown away whenever it is in doubt, and nothing may depend on it.

mod acknowledged;
mod agreement;
pub mod changes;
pub mod codec;
mod file_snapshot_store;
pub(crate) mod folders;
mod image;
mod log_name;
mod log_store;
mod logged;
mod memory_log_store;
mod memory_snapshot_store;
mod memory_state_store;
mod projection;
mod sled_pending;
mod sled_state_store;
mod snapshot_store;
pub mod state;
mod state_hash;
mod state_store;
mod stores;
mod wal_log_store;
mod wal_records;

pub use agreement::{Missing, Stored};
pub use changes::Changes;
pub use file_snapshot_store::FileSnapshotStore;
pub use image::Image;
pub use log_store::LogStore;
pub use logged::Logged;
pub use memory_log_store::MemoryLogStore;
pub use memory_snapshot_store::MemorySnapshotStore;
pub use memory_state_store::MemoryStateStore;
pub use projection::{Position, Projection};
pub use sled_state_store::SledStateStore;
pub use snapshot_store::{SnapshotError, SnapshotSource, SnapshotStore, StoredSnapshot};
pub use state::{Cluster, State};
pub(crate) use state::{Redemption, redemption};
pub use state_hash::{StateDigest, StateHash};
pub use state_store::{Batch, StateStore, StateStoreError, replace_all};
pub use stores::{OpenError, Stores};
pub use wal_log_store::{WalConfig, WalLogStore, WalOpenError};

#[cfg(test)]
pub(crate) mod tests;
