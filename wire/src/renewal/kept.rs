//! Where a renewed certificate is kept: in files, put in place atomically one by one, or nowhere.
//!
//! The CAs are put in place before the certificate: with the certificate of a CA that is not trusted yet the next start
//! would fail, while one CA more than needed harms nothing. The key's file is never written.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::pki::PeerIdentity;

/// Mode of a file that was not there before.
const FILE_MODE: u32 = 0o600;

/// Where an identity is kept beyond the life of its process.
#[derive(Debug, Clone)]
pub enum Kept {
    /// In the files that it was loaded from.
    Files {
        /// Of the certificate.
        certificate: PathBuf,
        /// Of the CAs.
        ca_certificate: PathBuf,
    },
    /// In memory alone: a watcher has no disk, and the next one has a secret of its own.
    Memory,
}

/// A file could not be put in place.
#[derive(Debug, Error)]
#[error("{}: cannot be {step}", path.display())]
pub struct KeepError {
    path: PathBuf,
    step: &'static str,
    #[source]
    source: io::Error,
}

impl Kept {
    /// Keeps the CAs (PEM).
    ///
    /// # Errors
    /// [`KeepError`] names file and step; what was there is there still.
    pub fn keep_roots(&self, owner: &PeerIdentity, pem: &str) -> Result<(), KeepError> {
        match self {
            Self::Files { ca_certificate, .. } => put(ca_certificate, owner, pem),
            Self::Memory => Ok(()),
        }
    }

    /// Keeps the certificate (PEM).
    ///
    /// # Errors
    /// As for [`Kept::keep_roots`].
    pub fn keep_certificate(&self, owner: &PeerIdentity, pem: &str) -> Result<(), KeepError> {
        match self {
            Self::Files { certificate, .. } => put(certificate, owner, pem),
            Self::Memory => Ok(()),
        }
    }
}

/// Puts a file in place: written beside it, flushed, renamed, and the folder flushed. It keeps its mode. What is beside
/// it has its owner in its name, because parts on one machine may share the file of the CAs.
fn put(path: &Path, owner: &PeerIdentity, text: &str) -> Result<(), KeepError> {
    let at = |path: &Path, step| {
        let path = path.to_owned();
        move |source| KeepError { path, step, source }
    };
    let mut beside: OsString = path.as_os_str().to_owned();
    beside.push(format!(".{owner}.new"));
    let beside = PathBuf::from(beside);
    let mode = fs::metadata(path).map_or(FILE_MODE, |metadata| metadata.permissions().mode() & 0o777);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&beside).map_err(at(&beside, "made"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .map_err(at(&beside, "written"))?;
    fs::rename(&beside, path).map_err(at(path, "put in place"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder, "flushed"))
}

#[cfg(test)]
mod tests {
    use vouch_types::ManagerId;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_also_over_one_that_was_left_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, ca_certificate) = (folder.path().join("m1.pem"), folder.path().join("ca.pem"));
        let owner = PeerIdentity::Manager(ManagerId::new(1));
        fs::write(&certificate, "old and longer").unwrap();
        fs::set_permissions(&certificate, Permissions::from_mode(0o640)).unwrap();
        fs::write(folder.path().join("m1.pem.m1.manager.vouch.new"), "half of what was to be").unwrap();
        let kept = Kept::Files { certificate: certificate.clone(), ca_certificate: ca_certificate.clone() };
        kept.keep_certificate(&owner, "new").unwrap();
        kept.keep_roots(&owner, "roots").unwrap();
        assert_eq!(fs::read_to_string(&certificate).unwrap(), "new");
        assert_eq!(fs::metadata(&certificate).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&ca_certificate).unwrap(), "roots");
        assert_eq!(fs::metadata(&ca_certificate).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside them");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let certificate = folder.path().join("none").join("m1.pem");
        let kept = Kept::Files { certificate, ca_certificate: folder.path().join("ca.pem") };
        let owner = PeerIdentity::Manager(ManagerId::new(1));
        let error = kept.keep_certificate(&owner, "new").unwrap_err().to_string();
        assert!(error.contains("none/m1.pem"), "{error}");
        kept.keep_roots(&owner, "roots").unwrap();
    }
}
