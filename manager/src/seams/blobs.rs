//! Probe components by their SHA-256. The log holds only their digests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use vouch_types::Digest;

/// Why a blob was not stored or read.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The bytes are not those that the digest names.
    #[error("blob {digest}: the bytes have another digest ({found})")]
    Mismatch {
        /// What they should be.
        digest: Digest,
        /// What they are.
        found: Digest,
    },
    /// The file is not what was written.
    #[error("blob {path:?} is damaged: remove it, and push the probe again")]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("blob {path:?}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Keeps blobs under their digest.
pub trait BlobStore: Send + Sync + 'static {
    /// Stores a blob under its digest; one that is there already is kept.
    ///
    /// # Errors
    /// [`BlobError`] when the bytes are others or cannot be kept.
    fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), BlobError>;

    /// Returns a blob, checked against its digest; `None` when it is not there.
    ///
    /// # Errors
    /// [`BlobError`] when it cannot be read or was damaged.
    fn get(&self, digest: Digest) -> Result<Option<Bytes>, BlobError>;
}

/// Returns the SHA-256 of bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::new(Sha256::digest(bytes).into())
}

fn checked(digest: Digest, bytes: &[u8]) -> Result<(), BlobError> {
    let found = digest_of(bytes);
    if found == digest { Ok(()) } else { Err(BlobError::Mismatch { digest, found }) }
}

/// Blobs as files named by their digest.
#[derive(Clone, Debug)]
pub struct FileBlobs {
    folder: PathBuf,
}

impl FileBlobs {
    /// Opens the folder, and makes it when it is not there.
    ///
    /// # Errors
    /// [`BlobError::Io`] when it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        std::fs::create_dir_all(folder).map_err(|source| BlobError::Io { path: folder.to_owned(), source })?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

impl BlobStore for FileBlobs {
    fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), BlobError> {
        checked(digest, bytes)?;
        let path = self.path(digest);
        match self.get(digest) {
            Ok(Some(_)) => return Ok(()),
            // The right bytes are at hand.
            Ok(None) | Err(BlobError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        let temporary = path.with_extension("new");
        let write = || {
            let file = std::fs::File::create(&temporary)?;
            io::Write::write_all(&mut &file, bytes)?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            std::fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(|source| BlobError::Io { path, source })
    }

    fn get(&self, digest: Digest) -> Result<Option<Bytes>, BlobError> {
        let path = self.path(digest);
        match std::fs::read(&path) {
            Ok(bytes) if checked(digest, &bytes).is_err() => Err(BlobError::Damaged { path }),
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }
}

/// Blobs in memory, for simulations.
#[derive(Debug, Default)]
pub struct MemoryBlobs(Mutex<BTreeMap<Digest, Bytes>>);

impl BlobStore for MemoryBlobs {
    fn put(&self, digest: Digest, bytes: &[u8]) -> Result<(), BlobError> {
        checked(digest, bytes)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn get(&self, digest: Digest) -> Result<Option<Bytes>, BlobError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_comes_back_and_a_damaged_one_is_refused_until_it_is_stored_again() {
        let folder = std::env::temp_dir().join(format!("vouch-blobs-{}", std::process::id()));
        let blobs = FileBlobs::open(&folder).unwrap();
        let digest = digest_of(b"probe");
        assert!(matches!(blobs.put(digest, b"other"), Err(BlobError::Mismatch { .. })));
        assert_eq!(blobs.get(digest).unwrap(), None);
        blobs.put(digest, b"probe").unwrap();
        assert_eq!(blobs.get(digest).unwrap().as_deref(), Some(&b"probe"[..]));
        let path = folder.join(digest.to_string());
        for byte in 0..5 {
            let mut bytes = *b"probe";
            bytes[byte] ^= 1 << byte;
            std::fs::write(&path, bytes).unwrap();
            let refused = blobs.get(digest).expect_err("damaged").to_string();
            assert!(refused.contains(path.to_str().unwrap()) && refused.contains("push"), "{refused}");
        }
        blobs.put(digest, b"probe").unwrap();
        assert_eq!(blobs.get(digest).unwrap().as_deref(), Some(&b"probe"[..]), "put right by the right bytes");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
