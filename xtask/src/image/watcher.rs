//! The watcher VM: a kernel, its modules, the static `vouch-watcher` as PID 1, and the shipped probes, compiled ahead of
//! time by that very binary. No shell and nothing else.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{
    cpio::Archive,
    kernel::{Kernel, MODULES},
    stamp::{self, Stamp},
};
use crate::shell;

/// What the watcher is built for, and with which profile of the root manifest.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
/// See [`TARGET`].
pub(crate) const PROFILE: &str = "image";

/// Builds the image into `target/images/watcher`.
pub(crate) fn build() -> Result<()> {
    let kernel = Kernel::fetch()?;
    shell::run(shell::cargo().args(["build", "--package", "vouch-watcher", "--bin", "vouch-watcher"]).args([
        "--profile",
        PROFILE,
        "--target",
        TARGET,
    ]))?;
    let binary = shell::target().join(TARGET).join(PROFILE).join("vouch-watcher");
    let watcher = fs::read(&binary).with_context(|| format!("can't read {}", binary.display()))?;
    let folder = super::folder().join("watcher");
    let kernel_digest = kernel.digest()?;
    let listed = MODULES.join(" ");
    let inputs = [b"watcher 1".as_slice(), &watcher, listed.as_bytes(), kernel_digest.as_bytes()];
    let stamp = Stamp::of(folder.join("stamp"), inputs);
    if stamp.is_fresh() {
        println!("{} is up to date", folder.display());
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    // The probes stay beside the image as well: a watcher that runs as a process on the host uses the same files.
    let probes = folder.join("probes");
    fs::create_dir_all(&probes).with_context(|| format!("can't make {}", probes.display()))?;
    shell::run(Command::new(&binary).arg("precompile").arg("--out").arg(&probes))?;

    let mut archive = Archive::default();
    let watcher_size = watcher.len();
    let watcher_digest = stamp::sha256(&watcher);
    archive.program("init", watcher);
    let order = kernel.add_modules(MODULES, &mut archive)?;
    let names = add_probes(&probes, &mut archive)?;
    for folder in ["dev", "proc", "run", "sys", "tmp"] {
        archive.folder(folder);
    }
    let bytes = archive.into_bytes();
    fs::write(folder.join("initramfs.cpio"), &bytes).context("can't write the initramfs")?;
    fs::copy(&kernel.vmlinux, folder.join("vmlinux")).context("can't copy the kernel")?;
    let manifest = json!({
        "image": "watcher",
        "kernel": { "release": kernel.release, "sha256": kernel_digest },
        "initramfs": { "size": bytes.len(), "sha256": stamp::sha256(&bytes) },
        "watcher": { "size": watcher_size, "sha256": watcher_digest },
        "modules": order,
        "probes": names,
        "memory_mib": 256,
    });
    fs::write(folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)?)
        .context("can't write the manifest")?;
    stamp.write()?;
    println!(
        "{}: kernel {}, vouch-watcher {} KiB, initramfs {} KiB",
        folder.display(),
        kernel.release,
        watcher_size / 1024,
        bytes.len() / 1024
    );
    Ok(())
}

/// Adds the precompiled probes and the manifest that names their digests; returns the files' names.
fn add_probes(folder: &Path, archive: &mut Archive) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        archive.copy(&format!("probes/{name}"), &entry.path())?;
        names.push(name);
    }
    names.sort();
    if !names.iter().any(|name| name == "manifest.json") || !names.iter().any(|name| name.ends_with(".cwasm")) {
        bail!("`vouch-watcher precompile` left no manifest.json with .cwasm files in {}", folder.display());
    }
    Ok(names)
}
