//! The seam behind which the log is kept: openraft's own trait, and a way to end in good order.

use std::future::Future;
use std::io;

use openraft::storage::RaftLogStorage;
use vouch_types::LogName;

use crate::raft::{Entry, Payload, Types};

/// How many bytes of commands go in one append, where it is not one command alone: the links take messages of 16 MiB
/// ([`PEER_MESSAGE_MAX`](vouch_wire::grpc::PEER_MESSAGE_MAX)), and one command may have several.
pub const APPEND_BYTES: usize = 4 * 1024 * 1024;

/// Returns as many of the first entries as one append carries: one at least.
///
/// # Errors
/// That of an entry among them.
pub(super) fn for_one_append(entries: impl Iterator<Item = io::Result<Entry>>) -> io::Result<Vec<Entry>> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        let entry = entry?;
        if let Payload::Normal(logged) = &entry.payload {
            bytes += logged.text().len();
        }
        if bytes > APPEND_BYTES && !taken.is_empty() {
            break;
        }
        taken.push(entry);
    }
    Ok(taken)
}

/// Keeps the log. Clones share it.
///
/// As openraft asks: `append` returns once the entries can be read, and tells its callback once they are durable;
/// vote, append, truncate and purge stay in order; `save_committed` has no fsync of its own; `limited_get_log_entries`
/// returns no more than one append carries.
pub trait LogStore: RaftLogStorage<Types> + Clone {
    /// Returns the name of the log, drawn when it was made: one that was lost and made anew has another.
    fn name(&self) -> LogName;

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// What the disk says.
    fn flush(&self) -> impl Future<Output = io::Result<()>> + Send + 'static;
}
