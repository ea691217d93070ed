//! The run folder of one machine: its sockets, its log, and `state.json`, from which an agent that is started again
//! knows what it left running.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vouch_types::{BootId, HypervisorState, StartId, VmId, WatcherId};

use super::watcher_plan::WatcherPlan;
use crate::local_word;
use crate::process::ProcessIdentity;
use crate::store::{make_private_dir, write_private};
use crate::vm_file::VmFile;

/// A machine on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MachineId {
    Vm(VmId),
    Watcher(WatcherId),
}

impl MachineId {
    /// Returns the machine whose folder this is, by its name: the reverse of [`RunDir::of`].
    pub(crate) fn of_folder(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let vm = name.parse().ok().map(Self::Vm);
        vm.or_else(|| Some(Self::Watcher(name.parse().ok()?)))
    }
}

impl std::fmt::Display for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vm(id) => write!(f, "vm {id}"),
            Self::Watcher(id) => write!(f, "watcher {id}"),
        }
    }
}

/// What a machine was started from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MachinePlan {
    Vm(Box<VmFile>),
    Watcher(WatcherPlan),
}

impl MachinePlan {
    pub(crate) fn id(&self) -> MachineId {
        match self {
            Self::Vm(file) => MachineId::Vm(file.id),
            Self::Watcher(plan) => MachineId::Watcher(plan.watcher),
        }
    }
}

/// Where a machine is in its life, as far as this node has seen.
///
/// ```text
/// Starting --> Running --> Ended
///     |                      ^
///     +----------------------+
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MachineLife {
    /// Its process is about to be started, or was, and the agent ended before it could say.
    Starting,
    /// This process.
    Running(ProcessIdentity),
    /// How it ended.
    Ended(HypervisorState),
}

/// The content of `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MachineRecord {
    pub(crate) boot: BootId,
    pub(crate) start: StartId,
    pub(crate) life: MachineLife,
    pub(crate) plan: MachinePlan,
}

/// The folder of one machine.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Returns the folder of a machine below `base`. Names are short because Unix socket paths are.
    pub(crate) fn of(base: &Path, id: MachineId) -> Self {
        let name = match id {
            MachineId::Vm(id) => id.get().simple().to_string(),
            MachineId::Watcher(id) => id.to_string(),
        };
        Self { path: base.join(name) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        make_private_dir(&self.path)
    }

    /// Removes what a former start has left, but the record.
    pub(crate) fn clear_sockets(&self) {
        let sockets = ["qmp.sock", "ga.sock", "control.sock"];
        let files = ["pid", "exit", local_word::FILE, "console.log", "output.log"];
        for name in sockets.into_iter().chain(files) {
            let _ = std::fs::remove_file(self.file(name));
        }
    }

    pub(crate) fn write(&self, record: &MachineRecord) -> io::Result<()> {
        let bytes = serde_json::to_vec_pretty(record).map_err(io::Error::other)?;
        write_private(&self.file("state.json"), &bytes)
    }

    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the live process that `pid` names, if its command line shows that it belongs to this folder: the way
    /// to find a process that was started by an agent which ended before it could write it down.
    pub(crate) fn process_by_pid_file(&self) -> Option<ProcessIdentity> {
        let pid = std::fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok()?;
        ProcessIdentity::of(pid).filter(|p| p.mentions(&self.path))
    }

    /// Returns all records below `base`, by machine; what cannot be read is named.
    pub(crate) fn read_all(base: &Path) -> io::Result<Vec<(PathBuf, io::Result<MachineRecord>)>> {
        make_private_dir(base)?;
        let mut records = Vec::new();
        for entry in std::fs::read_dir(base)? {
            let path = entry?.path();
            match std::fs::read(path.join("state.json")) {
                Ok(bytes) => {
                    let record = serde_json::from_slice(&bytes).map_err(io::Error::other);
                    records.push((path, record));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound || e.kind() == io::ErrorKind::NotADirectory => {}
                Err(e) => records.push((path, Err(e))),
            }
        }
        records.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(records)
    }
}

/// Returns the processes of machines that run from this run folder, with their names, as `watcher w3` or `vm 6f1c...`: for
/// whoever has to end them after the node's end, because they outlive its agent.
///
/// # Errors
/// What the system said of the folder.
pub fn running_machines(run_dir: &Path) -> io::Result<Vec<(String, ProcessIdentity)>> {
    let process = |record: &MachineRecord| match &record.life {
        MachineLife::Running(process) => Some(*process).filter(ProcessIdentity::is_alive),
        MachineLife::Starting => RunDir::of(run_dir, record.plan.id()).process_by_pid_file(),
        MachineLife::Ended(_) => None,
    };
    let records = RunDir::read_all(run_dir)?.into_iter().filter_map(|(_, record)| record.ok());
    Ok(records.filter_map(|r| Some((r.plan.id().to_string(), process(&r)?))).collect())
}
