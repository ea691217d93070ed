//! A hypervisor for simulations and tests: its VMs are what the test says they are, and no process is started.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;
use vouch_types::{AgentQuestion, HypervisorState, LogIndex, Network, Operation, Progress, StartId, VmId, WatcherId};

use super::{AgentReply, Counters, Hypervisor, HypervisorError, ServiceState, View, VmView, WatcherOrder, WatcherView};
use crate::vm_file::VmFile;

#[derive(Debug, Default)]
struct World {
    vms: BTreeMap<VmId, VmView>,
    watchers: BTreeMap<WatcherId, (LogIndex, HypervisorState)>,
    orders: Vec<WatcherOrder>,
    agents: BTreeMap<VmId, AgentReply>,
    reads: Vec<Duration>,
    service: ServiceState,
}

/// A hypervisor whose VMs do what a test says.
#[derive(Debug)]
pub struct SimHypervisor {
    world: Mutex<World>,
    changes: watch::Sender<u64>,
}

impl Default for SimHypervisor {
    fn default() -> Self {
        Self { world: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl SimHypervisor {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) {
        self.changes.send_modify(|c| *c += 1);
    }

    /// Makes a VM do something, and tells so, as a hypervisor's event does.
    pub fn set_state(&self, vm: VmId, state: HypervisorState) {
        if let Some(view) = self.world().vms.get_mut(&vm) {
            view.state = state;
            view.read_begun = Instant::now();
        }
        self.change();
    }

    /// Sets what is known of a VM's inside; the beat tells it, as it does of counters.
    pub fn set_progress(&self, vm: VmId, progress: Progress) {
        if let Some(view) = self.world().vms.get_mut(&vm) {
            view.progress = progress;
        }
    }

    /// Begins or ends an operation on a VM, and tells so.
    pub fn set_operation(&self, vm: VmId, operation: Option<Operation>) {
        if let Some(view) = self.world().vms.get_mut(&vm) {
            view.operation = operation;
        }
        self.change();
    }

    /// Lets the hypervisor's own service fall silent or answer again. While it is silent nothing is read.
    pub fn set_service(&self, service: ServiceState) {
        {
            let mut world = self.world();
            world.service = service;
            world.vms.values_mut().for_each(|vm| vm.overdue = service == ServiceState::Silent);
        }
        self.change();
    }

    /// Removes a VM, as if its file were gone and its process as well.
    pub fn remove(&self, vm: VmId) {
        self.world().vms.remove(&vm);
        self.change();
    }

    /// Lets a watcher's process do something.
    pub fn set_watcher_state(&self, watcher: WatcherId, state: HypervisorState) {
        if let Some(known) = self.world().watchers.get_mut(&watcher) {
            known.1 = state;
        }
        self.change();
    }

    /// Sets what a VM's guest agent answers.
    pub fn set_agent(&self, vm: VmId, reply: AgentReply) {
        self.world().agents.insert(vm, reply);
    }

    /// Returns how old each read of one VM was allowed to be, in order.
    pub fn read_ages(&self) -> Vec<Duration> {
        self.world().reads.clone()
    }

    /// Returns the orders that created watchers, in order.
    pub fn orders(&self) -> Vec<WatcherOrder> {
        self.world().orders.clone()
    }
}

/// Returns the view of a watcher, with a leg at an address that its number makes.
fn watcher_view(watcher: WatcherId, state: HypervisorState) -> WatcherView {
    let [.., low] = watcher.get().to_be_bytes();
    WatcherView { watcher, state, legs: [(Network::Management, [10, 1, 9, low].into())].into() }
}

#[async_trait]
impl Hypervisor for SimHypervisor {
    fn driver(&self) -> &'static str {
        "local"
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn service(&self) -> ServiceState {
        self.world().service
    }

    fn view(&self) -> View {
        let world = self.world();
        View {
            vms: world.vms.values().cloned().collect(),
            watchers: world.watchers.iter().map(|(w, (_, s))| watcher_view(*w, *s)).collect(),
        }
    }

    async fn refresh(&self, _budget: Duration) {
        let now = Instant::now();
        let mut world = self.world();
        if world.service == ServiceState::Answering {
            world.vms.values_mut().for_each(|vm| vm.read_begun = now);
        }
    }

    async fn read_vm(&self, vm: VmId, max_age: Duration, _budget: Duration) -> Option<VmView> {
        let mut world = self.world();
        world.reads.push(max_age);
        let answers = world.service == ServiceState::Answering;
        let view = world.vms.get_mut(&vm).filter(|_| answers)?;
        view.read_begun = Instant::now();
        Some(view.clone())
    }

    async fn set_vms(&self, files: Vec<VmFile>) {
        for file in files {
            let spec = file.spec();
            self.world().vms.entry(spec.id).and_modify(|v| v.spec = spec.clone()).or_insert_with(|| VmView {
                spec: spec.clone(),
                start: StartId::new(1),
                state: HypervisorState::Running,
                progress: Progress::Unknown,
                operation: None,
                read_begun: Instant::now(),
                overdue: false,
                counters: Counters::default(),
                links: Vec::new(),
            });
        }
        self.change();
    }

    async fn guest_agent(&self, vm: VmId, _question: AgentQuestion, _timeout: Duration) -> AgentReply {
        self.world().agents.get(&vm).cloned().unwrap_or(AgentReply::Silent)
    }

    async fn create_watcher(&self, order: WatcherOrder) -> Result<(), HypervisorError> {
        {
            let mut world = self.world();
            match world.watchers.get(&order.watcher) {
                Some((placed, _)) if *placed == order.placed => return Ok(()),
                Some((here, _)) => {
                    let (watcher, here) = (order.watcher, *here);
                    return Err(HypervisorError::OtherPlacement { watcher, here, ordered: order.placed });
                }
                None => {}
            }
            world.watchers.insert(order.watcher, (order.placed, HypervisorState::Running));
            world.orders.push(order);
        }
        self.change();
        Ok(())
    }

    async fn destroy_watcher(&self, watcher: WatcherId) -> Result<(), HypervisorError> {
        self.world().watchers.remove(&watcher);
        self.change();
        Ok(())
    }
}
