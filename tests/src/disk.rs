//! A small disk of its own for one process, which a test can fill. It is a file system in memory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// A mounted file system in memory. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at a folder, which is made.
    ///
    /// # Errors
    /// Fails if the folder can't be made, or the kernel refuses.
    pub fn mount(at: &Path, mib: u64) -> Result<Self> {
        fs::create_dir_all(at).with_context(|| format!("{}", at.display()))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "vouch-test"]).arg(at);
        let done = mount.output().context("mount can't be started")?;
        ensure!(done.status.success(), "mount {}: {}", at.display(), String::from_utf8_lossy(&done.stderr));
        Ok(Self { at: at.to_owned() })
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// Fills it until no more than so many MiB are free.
    ///
    /// # Errors
    /// Fails if it is fuller already, or the kernel refuses.
    pub fn fill(&self, leave_mib: u64) -> Result<()> {
        let now = statvfs(&self.at).context("statvfs")?;
        let fill = (now.f_bavail * now.f_frsize).checked_sub(leave_mib << 20);
        let fill = fill.filter(|bytes| *bytes > 0).with_context(|| format!("{leave_mib} MiB are not free"))?;
        let file = File::create(self.ballast()).context("ballast")?;
        fallocate(&file, FallocateFlags::empty(), 0, fill).context("ballast")
    }

    /// Frees what was filled.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub fn free(&self) -> Result<()> {
        if self.ballast().exists() { fs::remove_file(self.ballast()).context("ballast") } else { Ok(()) }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy: a process that is just ending may have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}
