//! Processes that end with their owner, and free ports for them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts a process whose output goes to a file.
    ///
    /// # Errors
    /// When the file cannot be made or the program cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = std::fs::File::create(log).with_context(|| format!("{} cannot be made", log.display()))?;
        let error = file.try_clone().context("a log file cannot be shared")?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(error).spawn();
        child.map(Self).with_context(|| format!("{} cannot be started", command.get_program().display()))
    }

    /// Returns the memory that it has resident, in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        resident_kib(self.0.id())
    }
}

/// Returns the memory that a process has resident, in KiB.
pub fn resident_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Returns the bytes of the files below a folder.
pub fn size_of_folder(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of_folder(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns addresses on loopback that nobody listens on now.
///
/// # Errors
/// When the system has no free port.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port");
    let listeners: Vec<TcpListener> = (0..count).map(bind).collect::<Result<_>>()?;
    listeners.iter().map(|listener| listener.local_addr().context("a port without an address")).collect()
}
