//! Where a renewed certificate is kept: in files, put in place atomically one by one, or nowhere.
//!
//! The CAs are put in place before the certificate: with the certificate of a CA that is not trusted yet the next start
//! would fail, while one CA more than needed harms nothing. The key's file is never written.

use std::path::PathBuf;

use crate::files::{PutError, Readers, put};
use crate::pki::PeerIdentity;

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

impl Kept {
    /// Keeps the CAs (PEM).
    ///
    /// # Errors
    /// [`PutError`] names file and step; what was there is there still.
    pub fn keep_roots(&self, owner: &PeerIdentity, pem: &str) -> Result<(), PutError> {
        match self {
            Self::Files { ca_certificate, .. } => {
                put(ca_certificate, &beside(owner), Readers::AsBefore, pem.as_bytes())
            }
            Self::Memory => Ok(()),
        }
    }

    /// Keeps the certificate (PEM).
    ///
    /// # Errors
    /// As for [`Kept::keep_roots`].
    pub fn keep_certificate(&self, owner: &PeerIdentity, pem: &str) -> Result<(), PutError> {
        match self {
            Self::Files { certificate, .. } => put(certificate, &beside(owner), Readers::AsBefore, pem.as_bytes()),
            Self::Memory => Ok(()),
        }
    }
}

/// Returns the end of the name of what stands beside its place: parts on one machine may share the file of the CAs.
fn beside(owner: &PeerIdentity) -> String {
    format!(".{owner}.new")
}

#[cfg(test)]
mod tests {
    use vouch_types::ManagerId;

    use super::*;

    #[test]
    fn two_parts_that_share_the_file_of_the_cas_do_not_share_what_stands_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, ca_certificate) = (folder.path().join("m1.pem"), folder.path().join("ca.pem"));
        let (m1, m2) = (PeerIdentity::Manager(ManagerId::new(1)), PeerIdentity::Manager(ManagerId::new(2)));
        // What another part has written and not yet put in place.
        let others = folder.path().join(format!("ca.pem{}", beside(&m2)));
        std::fs::write(&others, "half").unwrap();
        let kept = Kept::Files { certificate: certificate.clone(), ca_certificate: ca_certificate.clone() };
        kept.keep_certificate(&m1, "new").unwrap();
        kept.keep_roots(&m1, "roots").unwrap();
        let text = |path| std::fs::read_to_string(path).unwrap();
        assert_eq!([text(&certificate), text(&ca_certificate), text(&others)], ["new", "roots", "half"]);
        Kept::Memory.keep_certificate(&m1, "nowhere").unwrap();
    }
}
