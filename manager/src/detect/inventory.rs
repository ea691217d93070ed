//! The replicated records as the detector needs them: the whole of them, or what a command touched.

use std::collections::BTreeMap;

use vouch_detector::{Inventory, NodeEntry, OpenIncident, Records, VmEntry, WatcherEntry};
use vouch_types::{
    LogIndex, MaintenanceRecord, ManagerId, NodeRecord, Policy, PolicyScope, ProbeName, ScopedProbe, VmRecord,
    WatcherRecord, policy,
};

use crate::store::{Changes, State};

/// Rules that hold for many VMs at once, to tell when they change; what is left of a window changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct WideRules {
    policies: Vec<(PolicyScope, Policy)>,
    maintenances: Vec<(PolicyScope, String)>,
    scoped_probes: Vec<ScopedProbe>,
    /// Interval and timeout that uploaded probes propose.
    proposed: Vec<(ProbeName, Option<u64>, Option<u64>)>,
}

impl WideRules {
    pub(super) fn of(state: &State) -> Self {
        Self {
            policies: state.policies().into_iter().collect(),
            maintenances: state.maintenances().iter().map(|m| (m.scope.clone(), m.reason.clone())).collect(),
            scoped_probes: state.scoped_probes().to_vec(),
            proposed: state
                .probes()
                .values()
                .filter_map(|probe| {
                    let said = probe.descriptor.as_ref()?;
                    Some((probe.name.clone(), said.interval_ms, said.timeout_ms))
                })
                .collect(),
        }
    }
}

/// What holds for many VMs: read once for all of them.
struct Wide<'a> {
    state: &'a State,
    policies: BTreeMap<PolicyScope, Policy>,
    maintenances: &'a [MaintenanceRecord],
}

impl<'a> Wide<'a> {
    fn of(state: &'a State) -> Self {
        Self { state, policies: state.policies(), maintenances: state.maintenances() }
    }

    fn vm_entry(&self, vm: &VmRecord) -> VmEntry {
        let policy = policy::policy_of(&self.policies, &vm.spec, &vm.node);
        let probes = self.state.probes_of(vm);
        let window = self.maintenances.iter().find(|window| window.scope.covers(&vm.spec, &vm.node));
        VmEntry {
            vm: vm.spec.id,
            node: vm.node.clone(),
            generation: vm.generation,
            addresses: vm.spec.addresses.values().flatten().copied().collect(),
            datastore: vm.spec.datastore.clone(),
            maintenance: window.map(|w| format!("maintenance {}: {}", w.id, w.reason)).unwrap_or_default(),
            probe_times: probes.iter().filter_map(|probe| self.state.times_of(&policy, probe)).collect(),
            probes: probes.into_iter().map(|probe| probe.assignment.clone()).collect(),
            policy,
            boot: vm.boot,
            claimed_by: vm.claimed_by.clone(),
            pins: vm.pins.clone(),
            proven: vm.proven.clone(),
            verdict: vm.verdict.clone(),
        }
    }
}

fn node_entry(n: &NodeRecord) -> NodeEntry {
    NodeEntry { node: n.id.clone(), boot: n.boot, rack: n.rack.clone(), fence: n.fence.clone(), path: n.path.clone() }
}

fn watcher_entry(w: &WatcherRecord) -> WatcherEntry {
    WatcherEntry {
        watcher: w.id,
        node: w.node.clone(),
        life: w.life,
        incarnation: w.incarnation,
        vms: w.vms.clone(),
        assignment: w.assignment,
    }
}

fn open_incidents(state: &State) -> Vec<OpenIncident> {
    state.open_incidents().map(|i| OpenIncident { scope: i.scope.clone(), word: i.word.clone() }).collect()
}

/// Returns the inventory of this state.
pub fn inventory_of(state: &State, index: LogIndex, managers: Vec<ManagerId>) -> Inventory {
    let wide = Wide::of(state);
    Inventory {
        index,
        managers,
        nodes: state.nodes().values().map(|n| node_entry(n)).collect(),
        vms: state.vms().values().map(|vm| wide.vm_entry(vm)).collect(),
        watchers: state.watchers().values().map(|w| watcher_entry(w)).collect(),
        manager_notes: state.manager_notes().to_vec(),
        incidents: open_incidents(state),
    }
}

/// Returns the records that these changes touched, as they are in this state.
pub fn records_of(state: &State, index: LogIndex, managers: Vec<ManagerId>, changes: &Changes) -> Records {
    let wide = Wide::of(state);
    let mut records = Records { index, managers: Some(managers), ..Records::default() };
    for id in &changes.nodes {
        match state.nodes().get(id) {
            Some(node) => records.nodes.push(node_entry(node)),
            None => records.removed_nodes.push(id.clone()),
        }
    }
    for id in changes.vms.union(&changes.unshown) {
        match state.vms().get(id) {
            Some(vm) => records.vms.push(wide.vm_entry(vm)),
            None => records.removed_vms.push(*id),
        }
    }
    for id in &changes.watchers {
        match state.watchers().get(id) {
            Some(watcher) => records.watchers.push(watcher_entry(watcher)),
            None => records.removed_watchers.push(*id),
        }
    }
    records.manager_notes = changes.head.then(|| state.manager_notes().to_vec());
    records.incidents = (!changes.incidents.is_empty()).then(|| open_incidents(state));
    records
}

/// Returns whether these changes touch anything that the detector judges by.
pub(super) fn is_relevant(changes: &Changes) -> bool {
    changes.head
        || !changes.probes.is_empty()
        || !changes.nodes.is_empty()
        || !changes.vms.is_empty()
        || !changes.unshown.is_empty()
        || !changes.watchers.is_empty()
        || !changes.incidents.is_empty()
}
