//! The images of the virtual machines: a kernel and an initramfs each, in `target/images/NAME`.
//!
//! Everything comes from Debian packages that are unpacked below `target/` and from our own binaries; nothing is
//! installed into the host. What was made is kept as long as its inputs stay the same (a stamp with their digest), so
//! that a second call costs nothing. The kernel package is fetched once: delete `target/images/kernel` for a newer one.

mod cpio;
mod debian;
mod elf;
mod guest;
mod kernel;
mod lz4;
mod stamp;
pub(crate) mod watcher;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;

use crate::{prerequisites, shell};

/// Which image to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// The watcher VM: a kernel and `vouch-watcher` as PID 1
    Watcher,
    /// A first VM to watch: busybox, xrdp and the QEMU guest agent
    Guest,
}

/// Builds one image, installing the tools for it if they are missing.
pub(crate) fn build(which: Which) -> Result<()> {
    prerequisites::ensure(prerequisites::BUILD)?;
    prerequisites::ensure(prerequisites::IMAGE)?;
    prerequisites::ensure_rust_targets()?;
    match which {
        Which::Watcher => watcher::build(),
        Which::Guest => guest::build(),
    }
}

/// Returns the folder of all images.
fn folder() -> PathBuf {
    shell::target().join("images")
}
