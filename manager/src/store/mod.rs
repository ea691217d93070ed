//! What a manager keeps: the replicated state, the log it is made from, its projection on disk, and snapshots.
//!
//! The log ([`LogStore`](openraft::storage::RaftLogStorage): [`WalLogStore`], [`MemoryLogStore`]) and the last snapshot
//! ([`SnapshotStore`]) are the truth. [`State`] is what they add up to, in memory. A [`StateStore`] holds a projection
//! of it, so that a restart need not replay: it is thrown away whenever it is in doubt, and nothing may depend on it.

pub mod changes;
pub mod codec;
pub mod state;

pub use changes::Changes;
pub use state::{Cluster, State};
