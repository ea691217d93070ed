//! The seam behind which the last snapshot is kept.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use super::codec::{CodecError, encode};
use super::{Image, State};
use crate::raft::SnapshotMeta;

/// Why a snapshot could not be kept or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The state cannot be written as bytes.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The file could not be worked on.
    #[error("snapshot {path}: {step}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error(
        "snapshot {path} is damaged: {what}; to go on without it, remove this manager's data folder and start it \
         again: it rejoins the cluster by itself"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The work was cut off by a shutdown.
    #[error("snapshot was cut off by a shutdown")]
    CutOff,
}

impl From<SnapshotError> for io::Error {
    fn from(e: SnapshotError) -> Self {
        Self::other(e)
    }
}

/// A snapshot: what it covers, and the state as the bytes of an [`Image`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSnapshot {
    /// What it covers.
    pub meta: SnapshotMeta,
    /// The bytes of an [`Image`].
    pub image: Bytes,
}

/// Where the bytes of a new snapshot come from.
#[derive(Debug)]
pub enum SnapshotSource {
    /// A view of the state, taken in step with apply and not yet written out.
    View(Box<State>),
    /// Bytes that another manager sent.
    Received(Bytes),
}

impl SnapshotSource {
    pub(super) fn into_image(self) -> Result<Bytes, CodecError> {
        match self {
            Self::View(state) => Ok(encode("snapshot", &Image::from(&*state))?.into()),
            Self::Received(bytes) => Ok(bytes),
        }
    }
}

/// Keeps the last snapshot. The log is purged only up to a snapshot that `save` has returned.
#[async_trait]
pub trait SnapshotStore: std::fmt::Debug + Send + Sync + 'static {
    /// Keeps a snapshot instead of the one before; it is durable when this returns.
    ///
    /// # Errors
    /// [`SnapshotError`] when it cannot be kept; the one before is then still there.
    async fn save(&self, meta: SnapshotMeta, source: SnapshotSource) -> Result<StoredSnapshot, SnapshotError>;

    /// Returns what the last snapshot covers, if there is one, without reading the whole of it.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when its head cannot be read.
    async fn covers(&self) -> Result<Option<SnapshotMeta>, SnapshotError>;

    /// Returns the last snapshot, if there is one.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`] when there is one and it is not what was written.
    async fn load(&self) -> Result<Option<StoredSnapshot>, SnapshotError>;
}
