//! A component as a file of its author, compiled and ready to run.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use vouch_probe_host::limits::COMPONENT_MAX;
use vouch_probe_host::{LoadError, Probe, ProbeHost, digest_of};
use vouch_types::Digest;

/// Why a file is not a probe.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {
    /// It cannot be read.
    #[error("component {path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It is no component that fits the contract.
    #[error("component {path}: is not a probe")]
    Load {
        /// The file.
        path: PathBuf,
        /// Which rule it breaks.
        source: LoadError,
    },
}

/// A component that was read from a file and compiled.
#[derive(Clone)]
pub struct ProbeFile {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its SHA-256.
    pub digest: Digest,
    /// The probe, ready to run.
    pub probe: Probe,
}

impl ProbeFile {
    /// Reads and compiles a component; costs the compiler's time.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read, or is not a component that fits the contract.
    pub fn open(host: &ProbeHost, path: &Path) -> Result<Self, OpenError> {
        let bytes = read(path).map_err(|source| OpenError::Read { path: path.to_owned(), source })?;
        let load = |source| OpenError::Load { path: path.to_owned(), source };
        let probe = host.compile(&bytes).map_err(load)?;
        Ok(Self { path: path.to_owned(), digest: digest_of(&bytes), bytes, probe })
    }

    /// Returns whether the component imports an interface of ours, by its name without package and version.
    pub fn imports(&self, interface: &str) -> bool {
        let own = |name: &String| {
            let name = name.strip_prefix("vouch:probe/").and_then(|rest| rest.split('@').next());
            name == Some(interface)
        };
        self.probe.imports().interfaces.iter().any(own)
    }
}

/// Reads a file up to one byte more than a component may have: the host then names the rule.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(COMPONENT_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
