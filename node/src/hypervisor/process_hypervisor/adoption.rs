//! What an agent that starts makes of the run folders that it finds.
//!
//! A machine whose record is damaged concerns nobody else: it is set aside, and the agent goes on. A VM is taken over
//! when its file says what it is; a watcher stays aside, because its placement is known from its record alone. Nothing
//! may ever be started in the place of a machine that may still run.

use std::net::IpAddr;
use std::path::Path;

use tracing::{error, info, warn};
use vouch_types::{ExitReason, HypervisorState, WatcherBoot};

use super::ProcessHypervisor;
use crate::hypervisor::HypervisorError;
use crate::hypervisor::machine::end_by_file;
use crate::hypervisor::run_dir::{MachineId, MachineLife, MachinePlan, MachineRecord, RunDir};
use crate::process::any_mentions;
use crate::vm_file::VmFile;

impl ProcessHypervisor {
    pub(super) async fn adopt_all(&self) -> Result<(), HypervisorError> {
        let base = &self.inner.base;
        let records = RunDir::read_all(base).map_err(HypervisorError::io(base.display().to_string()))?;
        for (path, record) in records {
            match record {
                Ok(record) => self.adopt(record).await,
                Err(e) => self.set_aside(&path, &e),
            }
        }
        Ok(())
    }

    async fn adopt(&self, mut record: MachineRecord) {
        let inner = &self.inner;
        let id = record.plan.id();
        let dir = RunDir::of(&inner.base, id);
        let is_vm = matches!(id, MachineId::Vm(_));
        if record.boot != inner.boot && is_vm {
            info!(machine = %id, "the node was rebooted: the VM will be started again");
            return remove(&dir, id);
        }
        let found = match &record.life {
            MachineLife::Ended(state) => Err(*state),
            _ if record.boot != inner.boot => Err(HypervisorState::Gone(ExitReason::Unknown)),
            MachineLife::Running(process) if process.is_alive() => Ok(*process),
            MachineLife::Running(_) => Err(end_by_file(&dir.file("exit"), ExitReason::Unknown)),
            MachineLife::Starting => match dir.process_by_pid_file() {
                Some(process) => Ok(process),
                None => {
                    // It was never seen to run, so starting it is still owed.
                    inner.launcher.clean_up(&record.plan).await;
                    return remove(&dir, id);
                }
            },
        };
        match found {
            Ok(process) => {
                info!(machine = %id, pid = process.pid, start = record.start.get(), "machine adopted");
                record.life = MachineLife::Running(process);
                self.watch(record, process, true);
            }
            Err(state) => {
                if !matches!(record.life, MachineLife::Ended(_)) {
                    warn!(machine = %id, ?state, "machine is gone, and the agent did not see how");
                    record.life = MachineLife::Ended(state);
                    write(&dir, &record);
                    inner.launcher.clean_up(&record.plan).await;
                }
                inner.insert_ended(record, state, true);
            }
        }
    }

    fn set_aside(&self, path: &Path, error: &std::io::Error) {
        let record = path.join("state.json");
        error!(path = %record.display(), %error, "record of a machine is damaged: it is set aside");
        let Some(id) = MachineId::of_folder(path) else { return };
        let addresses = match id {
            MachineId::Vm(_) => Vec::new(),
            MachineId::Watcher(_) if !any_mentions(path) => {
                // No process of it is left, so there is nothing to be careful with.
                return remove(&RunDir::of(&self.inner.base, id), id);
            }
            MachineId::Watcher(_) => watcher_addresses(&path.join("boot.json")),
        };
        self.inner.set_aside().insert(id, addresses);
    }

    /// Refuses an order on a watcher that was set aside.
    pub(super) fn refuse_set_aside(&self, id: MachineId) -> Result<(), HypervisorError> {
        if !self.inner.set_aside().contains_key(&id) {
            return Ok(());
        }
        let path = RunDir::of(&self.inner.base, id).file("state.json");
        Err(HypervisorError::Refused(format!(
            "{}: damaged: end the process of {id}, remove its folder and start the agent again",
            path.display()
        )))
    }

    /// Makes a VM that was set aside a machine again, now that its file says what it is; returns the file when it was
    /// not set aside. What runs of it goes on under a new start id, because the record alone knew the former one.
    pub(super) async fn take_over(&self, file: VmFile) -> Option<VmFile> {
        let inner = &self.inner;
        let id = MachineId::Vm(file.id);
        if inner.set_aside().remove(&id).is_none() {
            return Some(file);
        }
        let dir = RunDir::of(&inner.base, id);
        let plan = MachinePlan::Vm(Box::new(file));
        let (start, written) = self.take_start().await;
        if let Err(error) = written {
            error!(machine = %id, %error, "start id not written");
        }
        let record = |life| MachineRecord { boot: inner.boot, start, life, plan: plan.clone() };
        if let Some(process) = dir.process_by_pid_file() {
            info!(machine = %id, pid = process.pid, start = start.get(), "machine taken over");
            let record = record(MachineLife::Running(process));
            write(&dir, &record);
            self.watch(record, process, true);
            return None;
        }
        // A process that belongs to the folder and is not the one in the pid file: nobody can say what it is.
        let state = if any_mentions(dir.path()) {
            HypervisorState::Unknown
        } else {
            inner.launcher.clean_up(&plan).await;
            HypervisorState::Gone(ExitReason::Unknown)
        };
        warn!(machine = %id, ?state, "VM not taken over; put its file back after making sure that it does not run");
        let record = record(MachineLife::Ended(state));
        write(&dir, &record);
        inner.insert_ended(record, state, true);
        None
    }
}

fn watcher_addresses(boot: &Path) -> Vec<IpAddr> {
    let read =
        std::fs::read(boot).and_then(|b| serde_json::from_slice::<WatcherBoot>(&b).map_err(std::io::Error::other));
    match read {
        Ok(boot) => boot.legs.iter().map(|leg| leg.address).collect(),
        Err(error) => {
            warn!(path = %boot.display(), %error, "the addresses of a watcher are not known");
            Vec::new()
        }
    }
}

fn write(dir: &RunDir, record: &MachineRecord) {
    if let Err(error) = dir.write(record) {
        error!(path = %dir.path().display(), %error, "record not written");
    }
}

fn remove(dir: &RunDir, id: MachineId) {
    if let Err(error) = dir.remove() {
        warn!(machine = %id, path = %dir.path().display(), %error, "run folder not removed");
    }
}
