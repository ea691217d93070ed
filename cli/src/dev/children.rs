//! The processes of the loopback cluster: started with a log each, and ended with everything that they started.
//!
//! Nodes start their VMs and watchers in sessions of their own, so that these outlive an agent. This process makes
//! itself the reaper of all its descendants (PR_SET_CHILD_SUBREAPER), and so finds them at the end by their ancestry:
//! it never ends a process that does not descend from it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long processes have to end by themselves.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// One process that was started here.
pub struct Process {
    /// What it is, as `m1`.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// Its configuration.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `vouch SUBCOMMAND --config CONFIG`, its output in a log.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, subcommand: &str, name: &str, config: &Path, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("{}: cannot be made", log.display()))?;
        let child = Command::new(program)
            .args([subcommand, "--config"])
            .arg(config)
            .env("NO_COLOR", "1")
            .env_remove("VOUCH_DATA_DIR")
            .env_remove("VOUCH_API_LISTEN")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C is this process's to handle: a whole cluster that ends at once in any order would log errors.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} {subcommand}: cannot be started", program.display()))?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { name: name.to_owned(), pid, config: config.to_owned(), log: log.to_owned(), child })
    }

    /// Returns how it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Returns the last lines of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

/// Makes this process the reaper of all its descendants.
///
/// # Errors
/// The operating system's.
pub fn become_reaper() -> anyhow::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("becoming the reaper of all children")
}

/// Returns the pids of all living descendants of this process.
fn descendants() -> Vec<Pid> {
    let mut parents: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // proc(5): "pid (comm) state ppid ..", and comm may hold anything.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let (state, parent) = (fields.next().unwrap_or("Z"), fields.next().and_then(|p| p.parse().ok()));
        if let (false, Some(parent)) = (state == "Z", parent) {
            parents.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![rustix::process::getpid().as_raw_nonzero().get()];
    while let Some(parent) = next.pop() {
        for child in parents.remove(&parent).unwrap_or_default() {
            next.push(child);
            found.extend(Pid::from_raw(child));
        }
    }
    found
}

/// Ends all descendants: politely, then not. Returns when none is left.
pub async fn end_all() {
    for (signal, limit) in [(Signal::TERM, END_TIMEOUT), (Signal::KILL, END_TIMEOUT)] {
        for pid in descendants() {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, signal);
        }
        let gone = async {
            while !descendants().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(limit, gone).await.is_ok() {
            return;
        }
    }
}
