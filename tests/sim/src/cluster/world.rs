//! [`World`]: everything of a simulation that has a truth, apart from the managers: the network and the nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vouch_types::{ManagerId, Timing, VmId};

use super::guest::SimVm;
use super::host::{NodeNo, RackNo, VmNo};
use super::network::SimNetwork;
use super::node::SimNode;

/// How large a cluster is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Managers.
    pub managers: u64,
    /// Compute nodes.
    pub nodes: u16,
    /// Racks that the nodes are spread over.
    pub racks: u16,
    /// VMs per node.
    pub vms_per_node: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { managers: 3, nodes: 4, racks: 2, vms_per_node: 3 }
    }
}

impl Size {
    /// Returns the rack of a node: the first nodes are in the first rack.
    pub fn rack_of(&self, node: NodeNo) -> RackNo {
        let per_rack = self.nodes.div_ceil(self.racks.max(1)).max(1);
        RackNo((node.0 - 1) / per_rack + 1)
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeNo> + use<> {
        (1..=self.nodes).map(NodeNo)
    }

    /// Returns the managers.
    pub fn managers(&self) -> impl Iterator<Item = ManagerId> + use<> {
        (1..=self.managers).map(ManagerId::new)
    }

    /// Returns the VMs that a node has at first.
    pub fn vms_of(&self, node: NodeNo) -> impl Iterator<Item = VmNo> + use<> {
        let first = u32::from(node.0 - 1) * self.vms_per_node + 1;
        (first..first + self.vms_per_node).map(VmNo)
    }

    /// Returns how many VMs there are.
    pub fn vms(&self) -> u32 {
        u32::from(self.nodes) * self.vms_per_node
    }
}

/// The network and the nodes.
pub struct World {
    /// How large it is.
    pub size: Size,
    /// Timing of the cluster.
    pub timing: Timing,
    /// The network.
    pub network: Arc<SimNetwork>,
    /// The nodes.
    pub nodes: BTreeMap<NodeNo, Arc<SimNode>>,
    version: Arc<AtomicU64>,
    homes: Mutex<BTreeMap<VmNo, NodeNo>>,
}

impl World {
    /// Returns a world in which everything is well; nobody talks yet.
    pub fn new(seed: u64, size: Size, timing: Timing) -> Arc<Self> {
        let network = SimNetwork::new(seed);
        let version = Arc::new(AtomicU64::new(0));
        let mut nodes = BTreeMap::new();
        let mut homes = BTreeMap::new();
        for no in size.nodes() {
            let rack = size.rack_of(no);
            network.place_node(no, rack);
            let store = format!("store-{}", rack.0);
            let vms: Vec<SimVm> = size.vms_of(no).map(|vm| SimVm::new(vm, &store)).collect();
            homes.extend(vms.iter().map(|vm| (vm.no, no)));
            nodes.insert(no, SimNode::new(no, rack, &network, vms, Arc::clone(&version)));
        }
        Arc::new(Self { size, timing, network, nodes, version, homes: Mutex::new(homes) })
    }

    /// Returns a number that rises whenever the truth changes.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Says that the truth changed.
    pub fn touch(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the node of this number.
    ///
    /// # Panics
    /// When there is none: schedules are checked before they are played.
    pub fn node(&self, no: NodeNo) -> &Arc<SimNode> {
        self.nodes.get(&no).expect("schedules name nodes of this world")
    }

    /// Returns the node on which a VM is in truth.
    pub fn home(&self, vm: VmNo) -> Option<NodeNo> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).get(&vm).copied()
    }

    /// Moves a VM in truth.
    pub fn set_home(&self, vm: VmNo, node: NodeNo) {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner).insert(vm, node);
        self.touch();
    }

    /// Reads a VM where it is in truth.
    pub fn vm<T>(&self, vm: VmNo, read: impl FnOnce(&SimVm) -> T) -> Option<T> {
        let node = self.nodes.get(&self.home(vm)?)?;
        node.read(|state| state.vms.get(&vm).map(read))
    }

    /// Changes a VM where it is in truth.
    pub fn change_vm(&self, vm: VmNo, change: impl FnOnce(&mut SimVm)) {
        if let Some(node) = self.home(vm).and_then(|no| self.nodes.get(&no)) {
            node.change(|state| {
                if let Some(vm) = state.vms.get_mut(&vm) {
                    change(vm);
                }
            });
        }
    }

    /// Reads a VM where a watcher would find it by its id.
    pub fn vm_by_id<T>(&self, vm: VmId, read: impl FnOnce(&SimVm) -> T) -> Option<T> {
        self.vm(VmNo::of(vm), read)
    }
}
