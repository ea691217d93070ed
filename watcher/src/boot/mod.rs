//! Brings a watcher up: what its node handed to it, its machine when it is PID 1, its identity.

mod files;
mod identity;
mod netlink;
pub mod pid1;
mod start;

use std::path::{Path, PathBuf};

use thiserror::Error;
use vouch_types::WatcherBoot;

pub use files::allow_files_of;
pub use identity::EnrolError;
pub use start::{Folders, StartError, start};

/// Why there is no boot configuration.
#[derive(Debug, Error)]
pub enum BootError {
    /// The file cannot be read.
    #[error("boot configuration {path}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file does not hold one.
    #[error("boot configuration {path}: malformed")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// Where and why; never the secret itself.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads what the node handed to this watcher.
///
/// # Errors
/// [`BootError`] names the file.
pub fn read_boot(path: &Path) -> Result<WatcherBoot, BootError> {
    let text = std::fs::read(path).map_err(|source| BootError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| BootError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_boot_file_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, r#"{"watcher": "w1", "unknown_key": 1}"#).unwrap();
        let error = read_boot(file.path()).expect_err("must be refused");
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("unknown_key"));
    }
}
