//! Backups: the whole replicated state as one checksummed file, and a new cluster out of it.
//!
//! A backup is what a snapshot holds, at one point of the log, with the probe components that operators uploaded. It
//! holds the keys of the cluster, as every manager's data folder does: who may read it may pass for any member.
//!
//! ```text
//!  cluster -- GET /v1/cluster/backup --> file -- vouch cluster restore --> empty data folder --> cluster
//! ```

mod file;
mod restore;

pub use file::{Backup, BackupError, BackupHead, FORMAT};
pub use restore::{RestoreError, Restored, Target, restore};

#[cfg(test)]
mod tests;
