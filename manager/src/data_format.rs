//! Whose data folder it is, and in which format: one small file at its top, read before anything else is opened.
//!
//! A folder of another manager would let one machine vote for two, one of another cluster would mix two histories, and
//! one of a later format would be misread. Each is refused in one line that says what to do. An older format is brought
//! up to date, one step per version; a step may be cut off and done again, and the file is written after it.
//!
//! | format | what is new |
//! |---|---|
//! | 1 | no label; `log`, `snapshot`, `state`, `blobs`, `incarnation` |
//! | 2 | `format` (this file), and `log/acknowledged` beside the chunks |
//! | 3 | `log/name` beside the chunks |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use vouch_types::{ClusterId, ManagerId};

use crate::data_folder::{self, DataFolderError};
use crate::seams::Rng;
use crate::store::{WalLogStore, WalOpenError};

/// The format that this version writes.
pub const FORMAT: u32 = 3;
const NAME: &str = "format";
const HEAD: &str = "# Whose data folder this is, and in which format. Written by vouch: do not edit.\n";

/// The data folder may not be used.
#[derive(Debug, Error)]
pub enum FormatError {
    /// A file of it cannot be read or put in place.
    #[error(transparent)]
    File(#[from] DataFolderError),
    /// The label cannot be read.
    #[error(
        "data_dir: {path:?} is damaged ({message}); remove the data folder and start this manager again: it rejoins the \
         cluster by itself"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A later version wrote it.
    #[error(
        "data_dir: {folder:?} has format {found}, and this version knows up to {FORMAT}: run the version that wrote it, \
         or a later one"
    )]
    Newer {
        /// Which folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is another manager's.
    #[error(
        "data_dir: {folder:?} is of manager {found}, and id = {wanted}: give each manager a data folder of its own"
    )]
    OtherManager {
        /// Which folder.
        folder: PathBuf,
        /// Whose it is.
        found: ManagerId,
        /// Whose it must be.
        wanted: ManagerId,
    },
    /// It is of another cluster.
    #[error(
        "data_dir: {folder:?} is of cluster {found}, which another CA than tls.ca_certificate stands for: give this \
         manager an empty data folder, or the CA of that cluster"
    )]
    OtherCluster {
        /// Which folder.
        folder: PathBuf,
        /// Its cluster.
        found: ClusterId,
    },
    /// What is stored in it is of another cluster than it says.
    #[error(
        "data_dir: {folder:?} is labelled as of cluster {labelled}, and what is stored in it is of cluster {stored}: \
         remove it and start this manager again: it rejoins its cluster by itself"
    )]
    Mixed {
        /// Which folder.
        folder: PathBuf,
        /// What the label says.
        labelled: ClusterId,
        /// What the state says.
        stored: ClusterId,
    },
    /// The log is gone.
    #[error(
        "data_dir: {folder:?} is of a manager of cluster {cluster}, and its log is gone: remove the folder and start \
         this manager again: it rejoins the cluster by itself"
    )]
    NoLog {
        /// Which folder.
        folder: PathBuf,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// An older format could not be brought up to date.
    #[error("data_dir: {folder:?} could not be brought from format {from} to {}", .from + 1)]
    Upgrade {
        /// Which folder.
        folder: PathBuf,
        /// Its format.
        from: u32,
        /// Why.
        #[source]
        source: WalOpenError,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    format: u32,
    manager: ManagerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterId>,
    /// SHA-256 of the certificates of the CA.
    #[serde(default)]
    ca: Vec<String>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

/// A data folder that is this manager's.
#[derive(Debug)]
pub struct OwnFolder {
    folder: PathBuf,
    label: Label,
}

impl OwnFolder {
    /// Makes sure that a folder is this manager's, of the cluster of this CA, and of the present format.
    ///
    /// # Errors
    /// [`FormatError`] says whose it is, or what failed.
    pub fn claim(folder: &Path, manager: ManagerId, ca_certificates: &str, rng: &dyn Rng) -> Result<Self, FormatError> {
        let mut own = match read(folder)? {
            Some(label) => Self { folder: folder.to_owned(), label },
            None => {
                let format = if log_of(folder).is_dir() { 1 } else { FORMAT };
                Self { folder: folder.to_owned(), label: Label { format, manager, cluster: None, ca: Vec::new() } }
            }
        };
        let found = own.label.manager;
        if found != manager {
            return Err(FormatError::OtherManager { folder: folder.to_owned(), found, wanted: manager });
        }
        let ca = digests(ca_certificates);
        if let Some(cluster) = own.label.cluster {
            if !own.label.ca.iter().any(|known| ca.contains(known)) {
                return Err(FormatError::OtherCluster { folder: folder.to_owned(), found: cluster });
            }
            if !log_of(folder).is_dir() {
                return Err(FormatError::NoLog { folder: folder.to_owned(), cluster });
            }
        }
        own.label.ca = ca;
        while own.label.format < FORMAT {
            own.upgrade(rng)?;
        }
        own.write()?;
        Ok(own)
    }

    /// Brings the folder one format further.
    fn upgrade(&mut self, rng: &dyn Rng) -> Result<(), FormatError> {
        let (from, log) = (self.label.format, log_of(&self.folder));
        let done = if from == 1 { WalLogStore::adopt(&log) } else { WalLogStore::give_name(&log, rng) };
        done.map_err(|source| FormatError::Upgrade { folder: self.folder.clone(), from, source })?;
        self.label.format = from + 1;
        tracing::info!(folder = ?self.folder, from, to = self.label.format, "data folder brought up to date");
        Ok(())
    }

    /// Notes the cluster that the folder is of, as soon as the state says so.
    ///
    /// # Errors
    /// [`FormatError::Mixed`] when it is labelled as of another one.
    pub fn belongs_to(&mut self, stored: ClusterId) -> Result<(), FormatError> {
        match self.label.cluster {
            Some(labelled) if labelled == stored => Ok(()),
            Some(labelled) => Err(FormatError::Mixed { folder: self.folder.clone(), labelled, stored }),
            None => {
                self.label.cluster = Some(stored);
                self.write()
            }
        }
    }

    /// Notes that these CAs stand for its cluster as well: the next start may find any of them in the CA's file.
    ///
    /// # Errors
    /// [`FormatError::File`] when the label cannot be put in place.
    pub fn is_also_of(&mut self, ca_certificates: &str) -> Result<(), FormatError> {
        let new: Vec<String> =
            digests(ca_certificates).into_iter().filter(|digest| !self.label.ca.contains(digest)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.label.ca.extend(new);
        self.write()
    }

    fn write(&self) -> Result<(), FormatError> {
        let text = toml::to_string(&self.label).expect("a flat table of texts and numbers");
        Ok(data_folder::put(&self.folder, NAME, &format!("{HEAD}{text}"))?)
    }
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn read(folder: &Path) -> Result<Option<Label>, FormatError> {
    let path = folder.join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(data_folder::at(&path, "cannot be read")(e).into()),
    };
    let damaged = |e: toml::de::Error| FormatError::Damaged { path: path.clone(), message: e.message().to_owned() };
    // A later format may have a label of another shape: its number is read first.
    let FormatOnly { format } = toml::from_str(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(FormatError::Newer { folder: folder.to_owned(), found: format });
    }
    toml::from_str(&text).map(Some).map_err(damaged)
}

/// Returns the SHA-256 of each certificate of a PEM file, over its text without line breaks.
fn digests(pem: &str) -> Vec<String> {
    pem.split("-----BEGIN CERTIFICATE-----")
        .skip(1)
        .filter_map(|rest| rest.split_once("-----END CERTIFICATE-----"))
        .map(|(body, _)| {
            let body: String = body.split_whitespace().collect();
            hex::encode(Sha256::digest(body))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::seams::SystemRng;
    use crate::store::{LogStore, WalConfig};

    const CA: &str = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n";
    const OTHER_CA: &str = "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n";

    fn m(number: u64) -> ManagerId {
        ManagerId::new(number)
    }

    fn cluster(number: u128) -> ClusterId {
        ClusterId::new(Uuid::from_u128(number))
    }

    fn labelled() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut own = OwnFolder::claim(folder.path(), m(1), CA, &SystemRng).unwrap();
        fs::create_dir(folder.path().join("log")).unwrap();
        own.belongs_to(cluster(7)).unwrap();
        folder
    }

    fn refused(outcome: Result<impl Sized, FormatError>, parts: &[&str]) {
        let text = outcome.err().expect("must be refused").to_string();
        assert!(text.lines().count() == 1 && parts.iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn a_manager_comes_back_to_its_own_folder_also_while_the_ca_is_replaced() {
        let folder = labelled();
        OwnFolder::claim(folder.path(), m(1), CA, &SystemRng).unwrap().belongs_to(cluster(7)).unwrap();
        let both = format!("{CA}{OTHER_CA}");
        OwnFolder::claim(folder.path(), m(1), &both, &SystemRng).unwrap();
        OwnFolder::claim(folder.path(), m(1), OTHER_CA, &SystemRng).unwrap();
    }

    #[test]
    fn a_manager_comes_back_when_the_ca_was_replaced_while_it_ran() {
        let folder = labelled();
        let mut own = OwnFolder::claim(folder.path(), m(1), CA, &SystemRng).unwrap();
        own.is_also_of(&format!("{CA}{OTHER_CA}")).unwrap();
        own.is_also_of(OTHER_CA).unwrap();
        // The file of the CAs held both of them meanwhile, and now it holds the new one.
        OwnFolder::claim(folder.path(), m(1), OTHER_CA, &SystemRng).unwrap().belongs_to(cluster(7)).unwrap();
    }

    #[test]
    fn another_managers_folder_is_refused() {
        let folder = labelled();
        refused(OwnFolder::claim(folder.path(), m(2), CA, &SystemRng), &["m1", "m2", "data_dir"]);
    }

    #[test]
    fn another_clusters_folder_is_refused() {
        let folder = labelled();
        let id = cluster(7).to_string();
        refused(OwnFolder::claim(folder.path(), m(1), OTHER_CA, &SystemRng), &[&id, "tls.ca_certificate"]);
        let mut own = OwnFolder::claim(folder.path(), m(1), CA, &SystemRng).unwrap();
        refused(own.belongs_to(cluster(8)), &[&id, &cluster(8).to_string()]);
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_its_label_says() {
        let folder = labelled();
        fs::write(folder.path().join(NAME), "format = 4\nshape = \"another\"\n").unwrap();
        refused(OwnFolder::claim(folder.path(), m(1), CA, &SystemRng), &["format 4", "up to 3"]);
    }

    #[test]
    fn a_log_of_format_2_is_named_once_also_when_the_step_was_cut_off_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let claim = || OwnFolder::claim(folder.path(), m(1), CA, &SystemRng).unwrap();
        let open = || WalLogStore::open(&log_of(folder.path()), &WalConfig::default(), &SystemRng);
        claim();
        let made = open().unwrap().name();
        let name = log_of(folder.path()).join("name");
        fs::remove_file(&name).unwrap();
        let label = fs::read_to_string(folder.path().join(NAME)).unwrap();
        let older = label.replace("format = 3", "format = 2");
        assert_ne!(older, label);
        fs::write(folder.path().join(NAME), &older).unwrap();
        claim();
        let named = open().unwrap().name();
        assert_ne!(named, made, "a name that is gone is not found again");
        // Named, and ended before the label was written.
        fs::write(folder.path().join(NAME), &older).unwrap();
        claim();
        assert_eq!(open().unwrap().name(), named);
        // From here on a log without its name is one that was tampered with.
        fs::remove_file(&name).unwrap();
        claim();
        assert!(open().is_err());
    }

    #[test]
    fn a_damaged_label_and_a_folder_without_its_log_are_refused() {
        let folder = labelled();
        let label = fs::read_to_string(folder.path().join(NAME)).unwrap();
        fs::remove_dir(folder.path().join("log")).unwrap();
        refused(OwnFolder::claim(folder.path(), m(1), CA, &SystemRng), &["log is gone", "rejoins the cluster"]);
        fs::write(folder.path().join(NAME), label.replace("manager", "manageq")).unwrap();
        refused(OwnFolder::claim(folder.path(), m(1), CA, &SystemRng), &["damaged", "format"]);
    }
}
