//! The seam behind which the projection of the state is kept.

use std::path::PathBuf;

use thiserror::Error;

use super::codec::CodecError;
use super::projection::{self, Position, Projection, Write};
use super::state_hash::StateHash;
use super::{Changes, State};

/// Why the projection could not be kept. The manager stops: what it would tell after that could be wrong.
#[derive(Debug, Error)]
pub enum StateStoreError {
    /// A record cannot be written or read.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The store under it failed.
    #[error("state store {path}: {step}")]
    Sled {
        /// Its folder.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What sled says.
        #[source]
        source: sled::Error,
    },
    /// What is on disk cannot even be looked at.
    #[error("state store {path} is damaged")]
    Damaged {
        /// Its folder.
        path: PathBuf,
    },
    /// The folder could not be worked on.
    #[error("state store {path}: {step}")]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        step: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The writer has stopped, after an error that was told before.
    #[error("state store {path}: the writer has stopped")]
    Stopped {
        /// Its folder.
        path: PathBuf,
    },
}

/// What one call of apply changed, or a whole state.
#[derive(Debug)]
pub struct Batch {
    /// What all that a store holds is replaced by, before the writes.
    pub(super) whole: Option<Box<State>>,
    pub(super) writes: Vec<Write>,
}

impl Batch {
    /// Returns the batch that brings a store up to `state`, after `changes`, and brings `hash` up to it as well.
    ///
    /// # Errors
    /// [`CodecError`] when a record cannot be written.
    pub fn of_changes(
        state: &State,
        changes: &Changes,
        position: &Position,
        hash: &mut StateHash,
    ) -> Result<Self, CodecError> {
        let mut writes = projection::changed(state, changes)?;
        hash.put_all(&writes);
        writes.push(projection::position_write(position, &hash.digest())?);
        Ok(Self { whole: None, writes })
    }
}

/// Replaces all that a store holds by `state`, and returns the hash of that. The store takes a view of the state, whose
/// records it writes out when it comes to it: they are not in memory twice, and nobody waits for its disk.
///
/// # Errors
/// [`StateStoreError`] when a record cannot be written, or the store takes no more.
pub fn replace_all(store: &dyn StateStore, state: &State, position: &Position) -> Result<StateHash, StateStoreError> {
    let hash = StateHash::of(state)?;
    let writes = vec![projection::position_write(position, &hash.digest())?];
    store.commit(Batch { whole: Some(Box::new(state.clone())), writes })?;
    Ok(hash)
}

/// Keeps a projection of the state. It need not survive a crash, but must never come back half-written.
pub trait StateStore: std::fmt::Debug + Send + Sync + 'static {
    /// Returns what was kept when the store was closed in good order, `None` when there is nothing or it is in doubt.
    ///
    /// # Errors
    /// [`StateStoreError`] when the store cannot be read.
    fn load(&self) -> Result<Option<Projection>, StateStoreError>;

    /// Keeps a batch after all earlier ones. Returns before it is on disk.
    ///
    /// # Errors
    /// [`StateStoreError`] when this batch, or one before it, cannot be kept.
    fn commit(&self, batch: Batch) -> Result<(), StateStoreError>;

    /// Forgets everything.
    ///
    /// # Errors
    /// [`StateStoreError`] when the store cannot be emptied.
    fn wipe(&self) -> Result<(), StateStoreError>;

    /// Writes out all that was kept, and marks it as closed in good order. Nothing may be kept after that.
    ///
    /// # Errors
    /// [`StateStoreError`] when it cannot be written out; the next start then begins without it.
    fn close(&self) -> Result<(), StateStoreError>;
}
