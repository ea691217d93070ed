//! The trait's side of the process hypervisor: what the agent and the relay call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{error, info, warn};
use vouch_types::{AgentQuestion, HypervisorState, VmId, WatcherId, WatcherLegs};

use super::ProcessHypervisor;
use super::view::Packets;
use crate::hypervisor::machine::MachineStatus;
use crate::hypervisor::run_dir::{MachineId, MachineLife, MachinePlan, RunDir};
use crate::hypervisor::{
    AgentReply, Hypervisor, HypervisorError, ServiceState, View, VmView, WatcherOrder, WatcherView, interfaces,
};
use crate::vm_file::VmFile;

/// Returns whether nothing newer than `since` is to be waited for.
fn is_settled(status: &MachineStatus, since: Instant) -> bool {
    let wedged = status.known && status.state == HypervisorState::Unknown;
    status.ended || wedged || (status.known && status.read_begun >= since)
}

#[async_trait]
impl Hypervisor for ProcessHypervisor {
    fn driver(&self) -> &'static str {
        self.inner.launcher.driver()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    fn service(&self) -> ServiceState {
        self.inner.launcher.service()
    }

    fn view(&self) -> View {
        let packets = match self.inner.launcher.driver() {
            "qemu" => interfaces::packets(),
            _ => Packets::new(),
        };
        let mut view = View::default();
        // Something of them runs, and nobody can say what it does.
        let aside = self.inner.set_aside().keys().copied().collect::<Vec<_>>();
        view.watchers.extend(aside.into_iter().filter_map(|id| match id {
            MachineId::Watcher(watcher) => {
                Some(WatcherView { watcher, state: HypervisorState::Unknown, legs: WatcherLegs::new() })
            }
            MachineId::Vm(_) => None,
        }));
        for machine in self.inner.machines().values_mut() {
            self.inner.note_progress(machine, &packets);
            match &machine.record.plan {
                MachinePlan::Vm(file) => view.vms.push(self.inner.vm_view(machine, file, &packets)),
                MachinePlan::Watcher(plan) => {
                    let status = machine.status.borrow();
                    // Its process stands; that its monitor was not heard yet is nothing to worry anybody with.
                    let state = if status.known { status.state } else { HypervisorState::Running };
                    view.watchers.push(WatcherView { watcher: plan.watcher, state, legs: plan.own_legs() });
                }
            }
        }
        view.watchers.sort_by_key(|w| w.watcher);
        if self.service() == ServiceState::Silent {
            view.vms.iter_mut().for_each(|vm| vm.overdue = true);
        }
        view
    }

    async fn refresh(&self, budget: Duration) {
        if self.service() == ServiceState::Silent {
            return;
        }
        let since = Instant::now();
        let mut waits: Vec<watch::Receiver<MachineStatus>> = Vec::new();
        for machine in self.inner.machines().values() {
            machine.refresh.notify_one();
            waits.push(machine.status.clone());
        }
        for mut status in waits {
            // A sender that is gone has told its last.
            let _ = timeout_at(since + budget, status.wait_for(|s| is_settled(s, since))).await;
        }
    }

    async fn read_vm(&self, vm: VmId, max_age: Duration, budget: Duration) -> Option<VmView> {
        if self.service() == ServiceState::Silent {
            return None;
        }
        let id = MachineId::Vm(vm);
        let now = Instant::now();
        let since = now.checked_sub(max_age).unwrap_or(now);
        let mut status = {
            let machines = self.inner.machines();
            let machine = machines.get(&id)?;
            if !is_settled(&machine.status.borrow(), since) {
                machine.refresh.notify_one();
            }
            machine.status.clone()
        };
        let in_time = timeout_at(now + budget, status.wait_for(|s| is_settled(s, since))).await.is_ok();
        let packets = Packets::new();
        let machines = self.inner.machines();
        let machine = machines.get(&id)?;
        let MachinePlan::Vm(file) = &machine.record.plan else { return None };
        in_time.then(|| self.inner.vm_view(machine, file, &packets))
    }

    async fn set_vms(&self, files: Vec<VmFile>) {
        let _step = self.inner.steps.lock().await;
        let named: BTreeSet<VmId> = files.iter().map(|f| f.id).collect();
        let mut forget = Vec::new();
        for (id, machine) in &mut *self.inner.machines() {
            let MachineId::Vm(vm) = id else { continue };
            if machine.named && !named.contains(vm) {
                machine.named = false;
                if matches!(machine.record.life, MachineLife::Running(_)) {
                    warn!(machine = %id, "its file is gone; it runs on and is reported until it ends");
                }
            }
            if !machine.named && matches!(machine.record.life, MachineLife::Ended(_)) {
                forget.push(*id);
            }
        }
        forget.retain(|id| !matches!(id, MachineId::Vm(vm) if named.contains(vm)));
        forget.into_iter().for_each(|id| self.inner.forget(id));
        for file in files {
            let id = MachineId::Vm(file.id);
            let update = {
                let mut machines = self.inner.machines();
                machines.get_mut(&id).map(|machine| {
                    machine.named = true;
                    let changed = !matches!(&machine.record.plan, MachinePlan::Vm(known) if **known == file);
                    changed.then(|| {
                        // A running machine stays as it was made; what is told of it follows the file.
                        machine.record.plan = MachinePlan::Vm(Box::new(file.clone()));
                        machine.record.clone()
                    })
                })
            };
            match update {
                None => {
                    if let Some(file) = self.take_over(file).await {
                        self.start_vm(file).await;
                    }
                }
                Some(Some(record)) => {
                    info!(machine = %id, "description changed");
                    if let Err(e) = RunDir::of(&self.inner.base, id).write(&record) {
                        error!(machine = %id, error = %e, "record not written");
                    }
                    self.inner.changes.send_modify(|c| *c += 1);
                }
                Some(None) => {}
            }
        }
    }

    async fn guest_agent(&self, vm: VmId, question: AgentQuestion, timeout: Duration) -> AgentReply {
        let agent = self.inner.machines().get(&MachineId::Vm(vm)).map(|m| Arc::clone(&m.agent));
        match agent {
            Some(agent) => agent.ask(question, timeout).await,
            None => AgentReply::NotPut(format!("vm {vm} is not on this node")),
        }
    }

    async fn create_watcher(&self, order: WatcherOrder) -> Result<(), HypervisorError> {
        self.create(&order).await
    }

    async fn destroy_watcher(&self, watcher: WatcherId) -> Result<(), HypervisorError> {
        self.destroy(watcher).await
    }
}
