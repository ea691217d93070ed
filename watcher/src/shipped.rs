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

/// Loads the shipped probes of a folder and runs each once, so that a broken one shows at the start. Never compiles.
///
/// # Errors
/// [`ShippedError`] names the file or the probe.
pub async fn load(host: &ProbeHost, folder: &Path) -> Result<HashMap<Digest, Probe>, ShippedError> {
    let path = folder.join(MANIFEST);
    let text = read(&path)?;
    let shipped: ShippedManifest =
        serde_json::from_slice(&text).map_err(|source| ShippedError::Parse { path, source })?;
    let manifest: Manifest = shipped.probes.iter().map(|probe| probe.native).collect();
    let mut probes = HashMap::new();
    for ShippedProbe { name, component, native: _ } in shipped.probes {
        let code = read(&folder.join(format!("{name}.cwasm")))?;
        let loaded = host.load_native(&code, &manifest);
        let probe = loaded.map_err(|source| ShippedError::Load { name: name.clone(), source })?;
        let described = match probe.describe().await {
            Ok(described) => described.name.clone(),
            Err(source) => return Err(ShippedError::Run { name, source }),
        };
        if described != name {
            return Err(ShippedError::Name { name, described });
        }
        probes.insert(component, probe);
    }
    Ok(probes)
}

fn read(path: &Path) -> Result<Vec<u8>, ShippedError> {
    std::fs::read(path).map_err(|source| ShippedError::Read { path: path.to_owned(), source })
}
