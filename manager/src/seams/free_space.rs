//! How much room is left where a manager keeps its data.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Says how much room is left.
pub trait FreeSpace: Send + Sync + 'static {
    /// Returns the bytes that this process may still write.
    ///
    /// # Errors
    /// What the system says.
    fn free(&self) -> io::Result<u64>;
}

/// The file system of a folder.
#[derive(Clone, Debug)]
pub struct FolderSpace(pub PathBuf);

impl FreeSpace for FolderSpace {
    fn free(&self) -> io::Result<u64> {
        let of = rustix::fs::statvfs(&self.0)?;
        Ok(of.f_bavail.saturating_mul(of.f_frsize))
    }
}

/// As much as a simulator says.
#[derive(Debug)]
pub struct SimSpace(AtomicU64);

impl Default for SimSpace {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl SimSpace {
    /// Sets how much is left.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl FreeSpace for SimSpace {
    fn free(&self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_system_of_a_folder_has_some_room_and_a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FolderSpace(folder.path().to_owned()).free().unwrap() > 0);
        FolderSpace(folder.path().join("none")).free().expect_err("there is no such folder");
    }
}
