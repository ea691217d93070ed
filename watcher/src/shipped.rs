//! The shipped probes as files: native code that `precompile` made, and the manifest that vouches for it.
//!
//! The files lie in the image beside the binary that made them. Only code whose SHA-256 stands in the manifest is loaded,
//! and the engine refuses code that another version, configuration or processor target made.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use vouch_probe_host::{LoadError, Manifest, Probe, ProbeHost, RunFault};
use vouch_types::Digest;

/// Name of the manifest's file.
pub const MANIFEST: &str = "manifest.json";

/// One precompiled probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippedProbe {
    /// Its name.
    pub name: String,
    /// SHA-256 of the component that it was compiled from.
    pub component: Digest,
    /// SHA-256 of the native code in `NAME.cwasm`.
    pub native: Digest,
}

/// What `manifest.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippedManifest {
    /// All precompiled probes.
    pub probes: Vec<ShippedProbe>,
}

/// Why shipped probes cannot be used.
#[derive(Debug, Error)]
pub enum ShippedError {
    /// A file cannot be read.
    #[error("shipped probes: {path}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The manifest is malformed.
    #[error("shipped probes: {path}: malformed")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The code is not loaded.
    #[error("shipped probe {name}")]
    Load {
        /// The probe.
        name: String,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// The probe does not run.
    #[error("shipped probe {name} does not run")]
    Run {
        /// The probe.
        name: String,
        /// Why.
        #[source]
        source: RunFault,
    },
    /// The probe is another one than the manifest says.
    #[error("shipped probe {name} says that it is {described:?}")]
    Name {
        /// The probe.
        name: String,
        /// What it says.
        described: String,
    },
}

/// The shipped probes of a folder. Each is loaded when it is asked for: one that no VM ever had takes no memory.
pub struct Shipped {
    folder: PathBuf,
    manifest: Manifest,
    names: HashMap<Digest, String>,
}

impl Shipped {
    /// Opens the shipped probes of a folder, and runs each once, so that a broken one shows at the start. Never compiles.
    ///
    /// # Errors
    /// [`ShippedError`] names the file or the probe.
    pub async fn open(host: &ProbeHost, folder: &Path) -> Result<Self, ShippedError> {
        let path = folder.join(MANIFEST);
        let text = read(&path)?;
        let listed: ShippedManifest =
            serde_json::from_slice(&text).map_err(|source| ShippedError::Parse { path, source })?;
        let manifest = listed.probes.iter().map(|probe| probe.native).collect();
        let names = listed.probes.into_iter().map(|probe| (probe.component, probe.name)).collect();
        let shipped = Self { folder: folder.to_owned(), manifest, names };
        for name in shipped.names.values() {
            let described = match shipped.load_named(host, name)?.describe().await {
                Ok(described) => described.name.clone(),
                Err(source) => return Err(ShippedError::Run { name: name.clone(), source }),
            };
            if described != *name {
                return Err(ShippedError::Name { name: name.clone(), described });
            }
        }
        Ok(shipped)
    }

    /// Returns none, for tests that fetch all of theirs.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { folder: PathBuf::new(), manifest: [].into_iter().collect(), names: HashMap::new() }
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Returns whether this component is one of theirs.
    pub fn contains(&self, component: &Digest) -> bool {
        self.names.contains_key(component)
    }

    /// Returns the probe that was compiled from this component; `None` if it is not a shipped one.
    pub fn load(&self, host: &ProbeHost, component: &Digest) -> Option<Result<Probe, ShippedError>> {
        self.names.get(component).map(|name| self.load_named(host, name))
    }

    fn load_named(&self, host: &ProbeHost, name: &str) -> Result<Probe, ShippedError> {
        let code = read(&self.folder.join(format!("{name}.cwasm")))?;
        let loaded = host.load_native(&code, &self.manifest);
        loaded.map_err(|source| ShippedError::Load { name: name.to_owned(), source })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ShippedError> {
    std::fs::read(path).map_err(|source| ShippedError::Read { path: path.to_owned(), source })
}
