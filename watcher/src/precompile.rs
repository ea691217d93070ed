//! `vouch-watcher precompile`: compiles the bundled probes ahead of time, for the image or a folder of a node.

use std::path::Path;

use anyhow::{Context, Result};
use tracing::info;
use vouch_probe_host::{ProbeHost, digest_of};

use crate::driver::host_limits;
use crate::logic::RunLimit;
use crate::shipped::{MANIFEST, ShippedManifest, ShippedProbe};

/// Writes every bundled probe as `NAME.cwasm`, and the manifest, into a folder, which is made when absent.
///
/// # Errors
/// Names the probe or the file.
pub fn precompile(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let host = ProbeHost::new(host_limits(RunLimit::LEAST))?;
    let mut probes = Vec::new();
    for probe in vouch_probe_bundle::all() {
        let native = host.precompile(probe.bytes).with_context(|| format!("compile probe {}", probe.name))?;
        write(&out.join(format!("{}.cwasm", probe.name)), &native)?;
        info!(probe = probe.name, bytes = native.len(), "probe compiled");
        probes.push(ShippedProbe {
            name: probe.name.to_owned(),
            component: probe.digest(),
            native: digest_of(&native),
        });
    }
    let manifest = serde_json::to_vec_pretty(&ShippedManifest { probes })?;
    write(&out.join(MANIFEST), &manifest)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}
