//! The seam behind which the log is kept: openraft's own trait, and a way to end in good order.

use std::future::Future;
use std::io;

use openraft::storage::RaftLogStorage;
use vouch_types::LogName;

use crate::raft::Types;

/// Keeps the log. Clones share it.
///
/// As openraft asks: `append` returns once the entries can be read, and tells its callback once they are durable;
/// vote, append, truncate and purge stay in order; `save_committed` has no fsync of its own.
pub trait LogStore: RaftLogStorage<Types> + Clone {
    /// Returns the name of the log, drawn when it was made: one that was lost and made anew has another.
    fn name(&self) -> LogName;

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// What the disk says.
    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send + 'static;
}
