//! The hypervisor of the drivers `qemu` and `local`: machines are processes of this node that outlive its agent.
//!
//! A machine's life is written to its run folder before and after each step. An agent that is started again adopts
//! what still runs, by pid, start time and (QEMU) UUID, without touching it; what is gone meanwhile is gone for an
//! unknown reason, which is proof for that start. A VM that has ended in this boot of the node is not started again by
//! itself: remove its file, wait for the next scan, and put it back. After a reboot of the node all VMs are started.
//! Watchers are never started again, because their secret can be redeemed only once; managers order new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};
use vouch_types::{BootId, ExitReason, HypervisorState, NodeId, StartId, VmId, WallTime, WatcherId};

use super::guest_agent::GuestAgent;
use super::launcher::Launcher;
use super::local::LocalLauncher;
use super::machine::{MachineStatus, MachineTask};
use super::qemu::{QemuLauncher, error_chain, number_fits_a_mac};
use super::run_dir::{MachineId, MachineLife, MachinePlan, MachineRecord, RunDir};
use super::watcher_plan::WatcherPlan;
use super::{Hypervisor, HypervisorError, MONITOR_TIMEOUT, WatcherOrder};
use crate::config::{Config, DriverKind, WatchersConfig};
use crate::process::{ProcessIdentity, spawn_detached};
use crate::progress::ProgressTrack;
use crate::store::{NodeStore, write_private};
use crate::vm_file::VmFile;

/// How long a read may take before the VM's state counts as old.
pub const READ_EXPECTED: Duration = Duration::from_millis(250);
/// How long a killed process may take to be gone.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(5);

struct Machine {
    record: MachineRecord,
    status: watch::Receiver<MachineStatus>,
    refresh: Arc<Notify>,
    agent: Arc<GuestAgent>,
    /// What its counters came to over the last seconds.
    progress: ProgressTrack,
    /// Whether its file is there (VMs).
    named: bool,
}

struct Inner {
    node: NodeId,
    boot: BootId,
    base: PathBuf,
    watchers: WatchersConfig,
    launcher: Box<dyn Launcher>,
    store: NodeStore,
    machines: Mutex<BTreeMap<MachineId, Machine>>,
    /// Machines whose records are damaged, with the addresses that they may use: nothing is started in their place.
    set_aside: Mutex<BTreeMap<MachineId, Vec<IpAddr>>>,
    /// The last start id that was given out, written down or not.
    last_start: Mutex<StartId>,
    changes: Arc<watch::Sender<u64>>,
    /// The tasks that watch machines.
    watching: Mutex<JoinSet<()>>,
    /// Held by whatever starts, destroys or buries a machine: one such step at a time.
    steps: tokio::sync::Mutex<()>,
}

/// The hypervisor of the drivers `qemu` and `local`.
#[derive(Clone)]
pub struct ProcessHypervisor {
    inner: Arc<Inner>,
}

impl ProcessHypervisor {
    /// Opens the run folder and adopts what runs.
    ///
    /// # Errors
    /// [`HypervisorError`] when the run folder cannot be used. A damaged record in it concerns its machine alone.
    pub async fn open(config: &Config, boot: BootId, store: NodeStore) -> Result<Self, HypervisorError> {
        let launcher: Box<dyn Launcher> = match config.hypervisor.driver {
            DriverKind::Qemu => Box::new(QemuLauncher::new(config)),
            DriverKind::Local => Box::new(LocalLauncher::new(config)?),
        };
        let base = config.run_dir();
        let base = std::path::absolute(&base).map_err(HypervisorError::io(base.display().to_string()))?;
        let hypervisor = Self {
            inner: Arc::new(Inner {
                node: config.id.clone(),
                boot,
                base,
                watchers: config.watchers.clone(),
                launcher,
                set_aside: Mutex::new(BTreeMap::new()),
                last_start: Mutex::new(store.with(|m| m.last_start)),
                store,
                machines: Mutex::new(BTreeMap::new()),
                changes: Arc::new(watch::Sender::new(0)),
                watching: Mutex::new(JoinSet::new()),
                steps: tokio::sync::Mutex::new(()),
            }),
        };
        hypervisor.adopt_all().await?;
        hypervisor.refresh(MONITOR_TIMEOUT).await;
        Ok(hypervisor)
    }

    /// Returns the VMs that are here, running or ended.
    pub fn known_vms(&self) -> BTreeSet<VmId> {
        self.inner
            .machines()
            .keys()
            .filter_map(|id| match id {
                MachineId::Vm(vm) => Some(*vm),
                MachineId::Watcher(_) => None,
            })
            .collect()
    }

    /// Returns the files of those VMs whose file was there at the last [`Hypervisor::set_vms`].
    pub fn known_files(&self) -> Vec<VmFile> {
        let machines = self.inner.machines();
        let named = machines.values().filter(|m| m.named);
        named
            .filter_map(|m| match &m.record.plan {
                MachinePlan::Vm(file) => Some((**file).clone()),
                MachinePlan::Watcher(_) => None,
            })
            .collect()
    }

    /// Registers a running machine and starts its task.
    fn watch(&self, record: MachineRecord, process: ProcessIdentity, named: bool) {
        let inner = &self.inner;
        let id = record.plan.id();
        let dir = RunDir::of(&inner.base, id);
        let (sender, status) = watch::channel(MachineStatus::unread());
        let refresh = Arc::new(Notify::new());
        let task = MachineTask {
            id,
            process,
            monitor: inner.launcher.monitor(&record.plan, &dir),
            status: sender,
            refresh: Arc::clone(&refresh),
            changes: Arc::clone(&inner.changes),
        };
        let agent = Arc::new(GuestAgent::new(dir.file("ga.sock")));
        let start = record.start;
        inner
            .machines()
            .insert(id, Machine { record, status, refresh, agent, progress: ProgressTrack::default(), named });
        inner.changes.send_modify(|c| *c += 1);
        let this = self.clone();
        let mut watching = inner.watching.lock().unwrap_or_else(PoisonError::into_inner);
        while watching.try_join_next().is_some() {}
        watching.spawn(async move {
            let state = task.run().await;
            let _step = this.inner.steps.lock().await;
            this.inner.bury(id, start, state).await;
        });
    }

    /// Stops watching machines, and leaves them as they are: what the end of an agent does.
    pub async fn let_go(&self) {
        let mut watching = std::mem::take(&mut *self.inner.watching.lock().unwrap_or_else(PoisonError::into_inner));
        watching.shutdown().await;
    }

    /// Takes an id for a start that is about to be tried. When it could not be written down nothing may be started
    /// under it, but it is not given out again in this life either, so that it can name the start that failed.
    async fn take_start(&self) -> (StartId, Result<(), HypervisorError>) {
        let taken = {
            let mut last = self.inner.last_start.lock().unwrap_or_else(PoisonError::into_inner);
            *last = last.next();
            *last
        };
        let written = crate::agent::update(&self.inner.store, move |m| m.last_start = m.last_start.max(taken)).await;
        (taken, written.map_err(|e| HypervisorError::io("node.json")(std::io::Error::other(error_chain(&e)))))
    }

    /// Starts a machine: the record is written first, so that a process is never running unknown.
    async fn start(&self, start: StartId, plan: MachinePlan) -> Result<(), HypervisorError> {
        let inner = &self.inner;
        let id = plan.id();
        let dir = RunDir::of(&inner.base, id);
        let in_dir = || HypervisorError::io(dir.path().display().to_string());
        dir.create().map_err(in_dir())?;
        dir.clear_sockets();
        let mut record = MachineRecord { boot: inner.boot, start, life: MachineLife::Starting, plan };
        dir.write(&record).map_err(in_dir())?;
        inner.launcher.prepare(&record.plan).await?;
        let launch = inner.launcher.launch(&record.plan, &dir);
        let process = spawn_detached(&launch, dir.path())
            .map_err(HypervisorError::io(format!("starting {}", launch.program.display())))?;
        record.life = MachineLife::Running(process);
        // The process runs, so it is watched even if this cannot be written: the pid file finds it as well.
        if let Err(e) = dir.write(&record) {
            error!(machine = %id, error = %e, "record not written");
        }
        info!(machine = %id, pid = process.pid, start = start.get(), "machine started");
        self.watch(record, process, true);
        Ok(())
    }

    async fn start_vm(&self, file: VmFile) {
        let id = MachineId::Vm(file.id);
        let plan = MachinePlan::Vm(Box::new(file));
        let (start, written) = self.take_start().await;
        let started = match written {
            Ok(()) => self.start(start, plan.clone()).await,
            Err(e) => Err(e),
        };
        if let Err(e) = started {
            error!(machine = %id, error = %error_chain(&e), "VM not started; put its file back after the cause is gone");
            self.inner.launcher.clean_up(&plan).await;
            let state = HypervisorState::Gone(ExitReason::Process);
            let record = MachineRecord { boot: self.inner.boot, start, life: MachineLife::Ended(state), plan };
            let dir = RunDir::of(&self.inner.base, id);
            if let Err(e) = dir.create().and_then(|()| dir.write(&record)) {
                error!(machine = %id, error = %e, "record not written");
            }
            self.inner.insert_ended(record, state, true);
        }
    }

    async fn create(&self, order: &WatcherOrder) -> Result<(), HypervisorError> {
        let inner = &self.inner;
        let id = MachineId::Watcher(order.watcher);
        let _step = inner.steps.lock().await;
        self.refuse_set_aside(id)?;
        let here = inner.machines().get(&id).and_then(|m| match &m.record.plan {
            MachinePlan::Watcher(plan) => Some(plan.placed),
            MachinePlan::Vm(_) => None,
        });
        match here {
            Some(placed) if placed == order.placed => return Ok(()),
            Some(here) => {
                return Err(HypervisorError::OtherPlacement { watcher: order.watcher, here, ordered: order.placed });
            }
            None => {}
        }
        if !inner.watchers.enabled {
            return Err(HypervisorError::Refused("watchers.enabled = false on this node".to_owned()));
        }
        if !number_fits_a_mac(order.watcher) {
            return Err(HypervisorError::Refused(format!("{}: its number does not fit into a MAC", order.watcher)));
        }
        let plan = WatcherPlan::new(order, &inner.watchers, &inner.taken_addresses())?;
        let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stamp = WallTime::from_unix_millis(u64::try_from(stamp.as_millis()).unwrap_or(u64::MAX));
        let boot = plan.boot(order, &inner.node, stamp);
        let dir = RunDir::of(&inner.base, id);
        let plan = MachinePlan::Watcher(plan);
        let work = async {
            let in_dir = || HypervisorError::io(dir.path().display().to_string());
            dir.create().map_err(in_dir())?;
            let bytes = serde_json::to_vec(&boot).map_err(|e| in_dir()(e.into()))?;
            write_private(&dir.file("boot.json"), &bytes).map_err(in_dir())?;
            let (start, written) = self.take_start().await;
            written?;
            self.start(start, plan.clone()).await
        };
        if let Err(e) = work.await {
            inner.launcher.clean_up(&plan).await;
            if let Err(e) = dir.remove() {
                warn!(machine = %id, error = %e, "run folder not removed");
            }
            return Err(e);
        }
        Ok(())
    }

    async fn destroy(&self, watcher: WatcherId) -> Result<(), HypervisorError> {
        let inner = &self.inner;
        let id = MachineId::Watcher(watcher);
        let _step = inner.steps.lock().await;
        self.refuse_set_aside(id)?;
        let Some(life) = inner.machines().get(&id).map(|m| m.record.life.clone()) else { return Ok(()) };
        if let MachineLife::Running(process) = life {
            process.kill().map_err(HypervisorError::io(format!("killing {id} (pid {})", process.pid)))?;
            match timeout(KILL_TIMEOUT, process.exited()).await {
                Ok(result) => result.map_err(HypervisorError::io(format!("waiting for the end of {id}")))?,
                Err(_) => {
                    return Err(HypervisorError::io(format!("waiting for the end of {id}"))(
                        std::io::ErrorKind::TimedOut.into(),
                    ));
                }
            }
        }
        let machine = inner.machines().remove(&id);
        if let Some(machine) = machine {
            if matches!(machine.record.life, MachineLife::Running(_)) {
                inner.launcher.clean_up(&machine.record.plan).await;
            }
            let dir = RunDir::of(&inner.base, id);
            dir.remove().map_err(HypervisorError::io(dir.path().display().to_string()))?;
            info!(machine = %id, "machine destroyed");
            inner.changes.send_modify(|c| *c += 1);
        }
        Ok(())
    }
}

impl Inner {
    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineId, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert_ended(&self, record: MachineRecord, state: HypervisorState, named: bool) {
        let id = record.plan.id();
        let (_, status) = watch::channel(MachineStatus::ended(state));
        let agent = Arc::new(GuestAgent::new(RunDir::of(&self.base, id).file("ga.sock")));
        let (refresh, progress) = (Arc::new(Notify::new()), ProgressTrack::default());
        self.machines().insert(id, Machine { record, status, refresh, agent, progress, named });
        self.changes.send_modify(|c| *c += 1);
    }

    fn set_aside(&self) -> MutexGuard<'_, BTreeMap<MachineId, Vec<IpAddr>>> {
        self.set_aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken_addresses(&self) -> BTreeSet<IpAddr> {
        let aside: Vec<IpAddr> = self.set_aside().values().flatten().copied().collect();
        let machines = self.machines();
        let plans = machines.values().filter_map(|m| match &m.record.plan {
            MachinePlan::Watcher(plan) => Some(plan),
            MachinePlan::Vm(_) => None,
        });
        plans.flat_map(|p| p.legs.iter().map(|l| l.address)).chain(aside).collect()
    }

    /// Notes that a machine has ended, unless it was destroyed or started again meanwhile.
    async fn bury(&self, id: MachineId, start: StartId, state: HypervisorState) {
        let (record, named) = {
            let mut machines = self.machines();
            let Some(machine) = machines.get_mut(&id).filter(|m| m.record.start == start) else { return };
            machine.record.life = MachineLife::Ended(state);
            (machine.record.clone(), machine.named)
        };
        self.launcher.clean_up(&record.plan).await;
        if named {
            if let Err(e) = RunDir::of(&self.base, id).write(&record) {
                error!(machine = %id, error = %e, "record not written");
            }
        } else {
            self.forget(id);
        }
    }

    fn forget(&self, id: MachineId) {
        self.machines().remove(&id);
        if let Err(e) = RunDir::of(&self.base, id).remove() {
            warn!(machine = %id, error = %e, "run folder not removed");
        }
        info!(machine = %id, "machine forgotten");
        self.changes.send_modify(|c| *c += 1);
    }
}

mod adoption;
mod service;
mod view;

#[cfg(test)]
mod tests;
