//! The replicated records as the detector needs them.

use vouch_detector::{Inventory, NodeEntry, OpenIncident, VmEntry, WatcherEntry};
use vouch_types::{LogIndex, ManagerId};

use crate::store::{Changes, State};

/// Returns the inventory of this state.
pub(super) fn inventory_of(state: &State, index: LogIndex, managers: Vec<ManagerId>) -> Inventory {
    Inventory {
        index,
        managers,
        nodes: state
            .nodes()
            .values()
            .map(|n| NodeEntry {
                node: n.id.clone(),
                boot: n.boot,
                rack: n.rack.clone(),
                fence: n.fence.clone(),
                path: n.path.clone(),
            })
            .collect(),
        vms: state
            .vms()
            .values()
            .map(|vm| VmEntry {
                vm: vm.spec.id,
                node: vm.node.clone(),
                generation: vm.generation,
                addresses: vm.spec.addresses.values().flatten().copied().collect(),
                datastore: vm.spec.datastore.clone(),
                maintenance: state.maintenance_of(vm),
                policy: state.policy_of(vm),
                probes: vm.spec.probes.clone(),
                pins: vm.pins.clone(),
                proven: vm.proven.clone(),
                verdict: vm.verdict.clone(),
            })
            .collect(),
        watchers: state
            .watchers()
            .values()
            .map(|w| WatcherEntry {
                watcher: w.id,
                node: w.node.clone(),
                life: w.life,
                incarnation: w.incarnation,
                vms: w.vms.clone(),
                assignment: w.assignment,
            })
            .collect(),
        manager_notes: state.manager_notes().to_vec(),
        incidents: state
            .open_incidents()
            .map(|i| OpenIncident { scope: i.scope.clone(), word: i.word.clone() })
            .collect(),
    }
}

/// Returns whether these changes touch anything that the detector judges by.
pub(super) fn is_relevant(changes: &Changes) -> bool {
    changes.head
        || !changes.nodes.is_empty()
        || !changes.vms.is_empty()
        || !changes.watchers.is_empty()
        || !changes.incidents.is_empty()
}
