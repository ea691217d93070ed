//! [`SimNode`]: the truth of a compute node, its VMs and watchers. What its agent says is in `agent`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::AbortHandle;
use vouch_manager::seams::{Followed, Follower};
use vouch_types::{
    AssignmentGeneration, BootId, ClusterId, ExitReason, Generation, Grant, HypervisorState, ManagerId, NodeId, VmId,
    WatcherId,
};
use vouch_wire::sign::StatementSigner;

use super::guest::{Run, SimVm};
use super::host::{Host, NodeNo, RackNo, VmNo};
use super::network::SimNetwork;

/// What a node's agent does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentState {
    /// It reports and serves its relay.
    Running,
    /// Its process is gone.
    Killed,
    /// Its streams stand, and nothing that it says is new.
    Wedged,
}

/// A watcher VM on a node.
pub struct WatcherVm {
    /// As its hypervisor sees it.
    pub state: HypervisorState,
    /// Ends its behaviour.
    pub running: Option<AbortHandle>,
}

/// What a node has in memory, and what is true of it.
pub struct NodeState {
    /// It has power.
    pub power: bool,
    /// Number of its boot.
    pub boot: u64,
    /// Number of its agent's life.
    pub incarnation: u64,
    /// What its agent does.
    pub agent: AgentState,
    /// Its hypervisor service answers.
    pub hypervisor_answers: bool,
    /// Its VMs.
    pub vms: BTreeMap<VmNo, SimVm>,
    /// Its watchers.
    pub watchers: BTreeMap<WatcherId, WatcherVm>,
    /// Generations of its VMs, as managers told it.
    pub generations: BTreeMap<VmId, Generation>,
    /// Position of the last report or statement.
    pub sequence: u64,
    /// The cluster and the key of its grants, as managers told it.
    pub cluster: Option<(ClusterId, Vec<u8>)>,
    /// Highest generation of each watcher's grants.
    pub grants: BTreeMap<WatcherId, AssignmentGeneration>,
    /// Signatures of grants that were checked.
    pub checked: BTreeMap<Vec<u8>, Grant>,
    /// Managers that the agent hears.
    pub hears: BTreeSet<ManagerId>,
    /// What its agent runs.
    pub tasks: Vec<AbortHandle>,
}

/// A compute node.
pub struct SimNode {
    /// Its number.
    pub no: NodeNo,
    /// Its name.
    pub id: NodeId,
    /// Its rack.
    pub rack: RackNo,
    /// The network.
    pub network: Arc<SimNetwork>,
    /// Its key.
    pub signer: StatementSigner,
    state: Mutex<NodeState>,
    changed: Followed<u64>,
    version: Arc<AtomicU64>,
}

/// Returns the key of a node. Making keys is slow, and which key it is decides nothing: nodes of one number share theirs
/// over all simulations of a process.
fn signer(no: NodeNo) -> StatementSigner {
    static KEYS: OnceLock<Mutex<BTreeMap<NodeNo, Vec<u8>>>> = OnceLock::new();
    let mut keys = KEYS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let pkcs8 = keys.entry(no).or_insert_with(|| {
        let made = StatementSigner::generate(&ring::rand::SystemRandom::new());
        made.expect("the operating system has random numbers").pkcs8().to_vec()
    });
    StatementSigner::from_pkcs8(pkcs8).expect("it was made a line above")
}

impl SimNode {
    /// Returns a node that runs these VMs; its agent is still to be started.
    pub fn new(
        no: NodeNo,
        rack: RackNo,
        network: &Arc<SimNetwork>,
        vms: Vec<SimVm>,
        version: Arc<AtomicU64>,
    ) -> Arc<Self> {
        for vm in &vms {
            network.place(Host::Vm(vm.no), no);
        }
        Arc::new(Self {
            no,
            id: no.id(),
            rack,
            network: Arc::clone(network),
            signer: signer(no),
            state: Mutex::new(NodeState {
                power: true,
                boot: 1,
                incarnation: 1,
                agent: AgentState::Running,
                hypervisor_answers: true,
                vms: vms.into_iter().map(|vm| (vm.no, vm)).collect(),
                watchers: BTreeMap::new(),
                generations: BTreeMap::new(),
                sequence: 0,
                cluster: None,
                grants: BTreeMap::new(),
                checked: BTreeMap::new(),
                hears: BTreeSet::new(),
                tasks: Vec::new(),
            }),
            changed: Followed::new(0),
            version,
        })
    }

    /// Returns its end of links.
    pub fn host(&self) -> Host {
        Host::Node(self.no)
    }

    /// Reads what is true of it.
    pub fn read<T>(&self, read: impl FnOnce(&NodeState) -> T) -> T {
        read(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes memory that says nothing of the truth.
    pub(crate) fn note<T>(&self, note: impl FnOnce(&mut NodeState) -> T) -> T {
        note(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is true of it; its agent sees that at once.
    pub fn change<T>(&self, change: impl FnOnce(&mut NodeState) -> T) -> T {
        let out = self.note(change);
        self.version.fetch_add(1, Ordering::Relaxed);
        self.changed.send_if_modified(|n| {
            *n += 1;
            true
        });
        out
    }

    /// Follows changes of the truth.
    pub(crate) fn follow(&self) -> Follower<u64> {
        self.changed.follow()
    }

    /// Returns the id of its boot.
    pub fn boot(&self) -> BootId {
        self.read(|state| BootId::new(uuid::Uuid::from_u128(u128::from(self.no.0) << 64 | u128::from(state.boot))))
    }

    /// Returns the watchers that run on it.
    pub fn running_watchers(&self) -> Vec<WatcherId> {
        self.read(|state| {
            let running = state.watchers.iter().filter(|(_, w)| w.state == HypervisorState::Running);
            running.map(|(id, _)| *id).collect()
        })
    }

    /// Kills the process of a watcher.
    pub fn kill_watcher(&self, watcher: WatcherId) {
        self.change(|state| {
            if let Some(vm) = state.watchers.get_mut(&watcher) {
                vm.state = HypervisorState::Gone(ExitReason::Process);
                if let Some(running) = vm.running.take() {
                    running.abort();
                }
            }
        });
        // The kernel of a VM does not outlive its process: nobody is told.
        self.network.power_lost(Host::Watcher(watcher));
    }

    /// Kills its agent; VMs and watchers go on.
    pub fn kill_agent(&self) {
        self.change(|state| {
            state.agent = AgentState::Killed;
            state.hears.clear();
            state.tasks.drain(..).for_each(|task| task.abort());
        });
        self.network.process_died(self.host());
    }

    /// Cuts its power: everything on it is gone.
    pub fn power_off(&self) {
        let (vms, watchers) = self.change(|state| {
            state.power = false;
            state.agent = AgentState::Killed;
            state.hears.clear();
            state.tasks.drain(..).for_each(|task| task.abort());
            for vm in state.vms.values_mut() {
                vm.run = Run::Dead(ExitReason::Unknown);
            }
            let watchers = std::mem::take(&mut state.watchers);
            for vm in watchers.values() {
                if let Some(running) = &vm.running {
                    running.abort();
                }
            }
            (state.vms.keys().copied().collect::<Vec<_>>(), watchers.into_keys().collect::<Vec<_>>())
        });
        self.network.power_lost(self.host());
        watchers.into_iter().for_each(|watcher| self.network.power_lost(Host::Watcher(watcher)));
        vms.into_iter().for_each(|vm| self.network.power_lost(Host::Vm(vm)));
    }
}
