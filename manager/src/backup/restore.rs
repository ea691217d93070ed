//! A new cluster out of a backup: fills the empty data folder of one of its first managers.
//!
//! The other members start with empty folders, vote for the one that has something, and get the state from it as a
//! snapshot. Nothing of the old cluster may run any more, and nothing is written before everything was checked.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use openraft::storage::RaftLogStorage;
use thiserror::Error;
use vouch_types::{ClusterId, LogIndex, ManagerId, ManagerNode, Term};

use super::file::{Backup, BackupError};
use crate::data_folder::{self, DataFolderError};
use crate::raft::restored_position;
use crate::seams::{BlobError, BlobStore, FileBlobs, SystemRng};
use crate::store::folders::sync_folder;
use crate::store::{
    FileSnapshotStore, LogStore, SnapshotError, SnapshotSource, SnapshotStore, WalConfig, WalLogStore, WalOpenError,
};

/// How many terms the new cluster begins above the backup: nodes and watchers keep the highest term whose orders they
/// took, and the old cluster may have gone on for some after it was backed up.
const TERMS_ABOVE: u64 = 1_000;

/// Why nothing was restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The file cannot be read.
    #[error("backup {path:?} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no backup that can be used.
    #[error("backup {path:?} {source}")]
    Backup {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: BackupError,
    },
    /// There is something in the data folder.
    #[error(
        "data_dir: {path:?} is not empty (it holds {found:?}): restore into an empty folder, or move what is there away"
    )]
    NotEmpty {
        /// The data folder.
        path: PathBuf,
        /// The first thing in it.
        found: String,
    },
    /// The data folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// A component cannot be kept.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The log cannot be begun.
    #[error(transparent)]
    Log(#[from] WalOpenError),
    /// The log cannot be written.
    #[error("log {path:?} cannot be written: empty the data folder and restore again")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state cannot be kept.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// The data folder: absent or empty, but for the API's token.
    pub data_dir: PathBuf,
    /// The API's token, which may be in the data folder already.
    pub token_file: PathBuf,
    /// The manager whose folder it is.
    pub manager: ManagerId,
    /// The members of the new cluster, this manager included.
    pub members: BTreeMap<ManagerId, ManagerNode>,
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The cluster.
    pub cluster: ClusterId,
    /// The log index up to which the backup holds everything.
    pub index: LogIndex,
    /// The term that the new cluster begins after.
    pub term: Term,
    /// How many VMs it knows.
    pub vms: usize,
}

/// Fills an empty data folder from a backup.
///
/// # Errors
/// [`RestoreError`] says what is wrong and what to do. Where the file or the folder is, nothing was written.
pub async fn restore(file: &Path, target: &Target) -> Result<Restored, RestoreError> {
    let bytes = fs::read(file).map_err(|source| RestoreError::Read { path: file.to_owned(), source })?;
    let refuse = |source| RestoreError::Backup { path: file.to_owned(), source };
    let backup = Backup::parse(&bytes.into()).map_err(refuse)?;
    let mut state = backup.state().map_err(refuse)?;
    check_empty(target)?;

    data_folder::prepare(&target.data_dir)?;
    let blobs = FileBlobs::open(&target.data_dir.join("blobs"))?;
    for (digest, blob) in &backup.blobs {
        blobs.put(*digest, blob)?;
    }
    let term = Term::new(backup.head.term.get() + TERMS_ABOVE);
    let (vote, meta) = restored_position(target.manager, term, backup.head.index, target.members.clone());
    let path = target.data_dir.join("log");
    let mut log = WalLogStore::open(&path, &WalConfig::default(), &SystemRng)?;
    let write = |source| RestoreError::Write { path: path.clone(), source };
    log.save_vote(&vote).await.map_err(write)?;
    log.flush().await.map_err(write)?;
    drop(log);
    // Last, and whole or not at all: without it there is no state to begin from.
    let snapshots = FileSnapshotStore::open(&target.data_dir.join("snapshot"))?;
    // The managers of the new cluster have other logs.
    state.forget_managers();
    let vms = state.vms().len();
    snapshots.save(meta, SnapshotSource::View(Box::new(state))).await?;
    sync_folder(&target.data_dir).map_err(write)?;
    Ok(Restored { cluster: backup.head.cluster, index: backup.head.index, term, vms })
}

fn check_empty(target: &Target) -> Result<(), RestoreError> {
    let path = || target.data_dir.clone();
    let entries = match fs::read_dir(&target.data_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RestoreError::Read { path: path(), source }),
    };
    for entry in entries {
        let entry = entry.map_err(|source| RestoreError::Read { path: path(), source })?;
        if entry.path() != target.token_file {
            let found = entry.file_name().to_string_lossy().into_owned();
            return Err(RestoreError::NotEmpty { path: path(), found });
        }
    }
    Ok(())
}
