//! Documents out of the replicated state: joins a VM's verdict with the paths of its node.
//!
//! Pure: the state and what is heard come in, views go out.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::vm::PROBES_PER_VM_MAX;
use vouch_types::{
    Cause, FenceProof, Network, NodeId, NodeRecord, Pin, ProbeAssignment, ProbeRecord, ScopedProbe, Source, VmId,
    VmProbe, VmRecord, WatcherLife, WatcherRecord,
};

use super::incidents::incidents_of;
use super::view::{
    AdviceView, ClusterView, FaultView, FenceProofView, HeardView, HearingView, MemberView, NodeView, PinView,
    ProbeSignerView, ProbeView, ReasonView, ScopedProbeView, StateHashView, VmProbeView, VmView, VmWatcherView,
    WatcherView,
};
use crate::raft::ConsensusStatus;
use crate::store::State;

/// Returns where a VM's state comes from: from watchers while its node is not heard, and also while its node cannot see
/// it itself (a fault of its own says so).
pub fn source_of(state: &State, vm: &VmRecord) -> Source {
    let unseen = vm.verdict.faults.iter().any(|fault| match fault.top() {
        Cause::NodeVmPath | Cause::Hypervisor => true,
        Cause::ManagerNodePath
        | Cause::NodeUplink(_)
        | Cause::NodeAgent
        | Cause::Node
        | Cause::NodeIsolated
        | Cause::Rack
        | Cause::VmProcess
        | Cause::GuestOs
        | Cause::GuestAgent
        | Cause::VmNic
        | Cause::Service(_)
        | Cause::Storage
        | Cause::Network(_)
        | Cause::OneWay { .. }
        | Cause::LossyPath
        | Cause::Watcher
        | Cause::Manager => false,
    });
    let path = state.nodes().get(&vm.node).map_or(Source::Direct, |node| node.path.source);
    if unseen { Source::Watcher } else { path }
}

/// Returns the watchers that are to look at a VM, whatever their lives.
pub fn watchers_of(state: &State, vm: VmId) -> impl Iterator<Item = &WatcherRecord> {
    state.watchers().values().map(|watcher| &**watcher).filter(move |watcher| watcher.vms.binary_search(&vm).is_ok())
}

/// Returns the VM as the API shows it.
pub fn vm_view(state: &State, id: VmId, vm: &VmRecord) -> VmView {
    let verdict = &vm.verdict;
    let path = state.nodes().get(&vm.node).map(|n| &n.path);
    let shared: Vec<FaultView> = path.map(|p| p.faults.iter().map(Into::into).collect()).unwrap_or_default();
    let shared_faults = u32::try_from(shared.len()).unwrap_or(u32::MAX);
    let watchers: Vec<VmWatcherView> = watchers_of(state, id)
        .map(|w| VmWatcherView {
            id: w.id.to_string(),
            node: w.node.to_string(),
            life: w.life.as_str().to_owned(),
            same_node: w.node == vm.node,
        })
        .collect();
    VmView {
        id: id.to_string(),
        name: vm.spec.name.clone(),
        node: vm.node.to_string(),
        generation: vm.generation.get(),
        state: verdict.state.as_str().to_owned(),
        since: verdict.since.into(),
        source: source_of(state, vm).as_str().to_owned(),
        source_since: path.map_or(verdict.since, |p| p.since).into(),
        faults: shared.into_iter().chain(verdict.faults.iter().map(Into::into)).collect(),
        shared_faults,
        notes: verdict.notes.iter().map(Into::into).collect(),
        advice: AdviceView::from(&verdict.advice),
        reason: verdict.reason.clone(),
        evidence: verdict.evidence.to_string(),
        version: verdict.version.get(),
        coverage: coverage(&watchers, &vm.node).into_iter().chain(left_out(state, vm)).collect(),
        watchers,
        addresses: vm
            .spec
            .addresses
            .iter()
            .map(|(network, list)| (network.to_string(), list.iter().map(ToString::to_string).collect()))
            .collect(),
        probes: vm_probes(state, vm),
        labels: vm.spec.labels.clone().into(),
        datastore: vm.spec.datastore.clone(),
        suppressed: verdict.suppressed.clone(),
        incidents: incidents_of(state, vm).map(|incident| incident.id.to_string()).collect(),
        pins: vm.pins.iter().map(pin_view).collect(),
    }
}

/// Returns what is run against a VM, with the scope that it comes from.
fn vm_probes(state: &State, vm: &VmRecord) -> Vec<VmProbeView> {
    let policy = state.policy_of(vm);
    let millis = |d: Option<Duration>| d.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let view = |probe: VmProbe<'_>| {
        let times = state.times_of(&policy, &probe);
        let assignment = probe.assignment;
        VmProbeView {
            probe: assignment.probe.to_string(),
            network: assignment.network.to_string(),
            settings: assignment.settings.clone(),
            proven: vm.proven.contains(assignment),
            scope: probe.scoped.map(|scoped| scoped.scope.to_string()),
            interval_ms: millis(times.as_ref().and_then(|times| times.interval)),
            timeout_ms: millis(times.as_ref().and_then(|times| times.timeout)),
        }
    };
    state.probes_of(vm).into_iter().map(view).collect()
}

/// Returns the probes that are run against a VM.
pub fn assignments_of(state: &State, vm: &VmRecord) -> Vec<ProbeAssignment> {
    state.probes_of(vm).into_iter().map(|probe| probe.assignment.clone()).collect()
}

/// Returns the assignment as the API shows it.
pub fn scoped_probe_view(state: &State, scoped: &ScopedProbe) -> ScopedProbeView {
    let covered = |vm: &&std::sync::Arc<VmRecord>| scoped.scope.covers(&vm.spec, &vm.node);
    let runs = |vm: &std::sync::Arc<VmRecord>| {
        state.probes_of(vm).into_iter().any(|probe| probe.scoped.is_some_and(|its| its.key() == scoped.key()))
    };
    let covered: Vec<_> = state.vms().values().filter(covered).collect();
    ScopedProbeView {
        scope: scoped.scope.to_string(),
        probe: scoped.assignment.probe.to_string(),
        network: scoped.assignment.network.to_string(),
        settings: serde_json::from_str(&scoped.assignment.settings).unwrap_or_default(),
        interval_ms: scoped.interval_ms,
        timeout_ms: scoped.timeout_ms,
        by: scoped.by.clone(),
        version: scoped.modified.get(),
        vms: covered.len() as u64,
        vms_running: covered.into_iter().filter(|vm| runs(vm)).count() as u64,
    }
}

fn pin_view(pin: &Pin) -> PinView {
    PinView {
        probe: pin.probe.to_string(),
        network: pin.network.to_string(),
        identity: format!("{:016x}", pin.identity.get()),
    }
}

fn fence_view(proof: &FenceProof) -> FenceProofView {
    FenceProofView {
        kind: proof.kind.as_str().to_owned(),
        boot: proof.boot.to_string(),
        note: proof.note.clone(),
        index: proof.index.get(),
        at: proof.at.into(),
    }
}

fn coverage(watchers: &[VmWatcherView], node: &NodeId) -> Vec<ReasonView> {
    let live = |same_node| watchers.iter().any(|w| w.same_node == same_node && w.life == WatcherLife::Live.as_str());
    let mut warnings = Vec::new();
    if !live(true) {
        warnings.push(ReasonView::new(
            "no_watcher_on_node",
            format!("no live watcher on its own node {node}: a cut uplink and a dead node cannot be told apart"),
        ));
    }
    if !live(false) {
        warnings.push(ReasonView::new(
            "no_watcher_elsewhere",
            format!("no live watcher on a node other than {node}: nobody outside vouches for it"),
        ));
    }
    warnings
}

/// Returns what is assigned to a VM and not run, since it has as many probes as it may have.
fn left_out(state: &State, vm: &VmRecord) -> Vec<ReasonView> {
    let reason = |probe: VmProbe<'_>| {
        let scope = probe.scoped.map(|scoped| scoped.scope.to_string()).unwrap_or_default();
        let text = format!(
            "probe {} of {scope} is not run: a vm has at most {PROBES_PER_VM_MAX} probes",
            probe.assignment.probe
        );
        ReasonView::new("probe_left_out", text)
    };
    state.probes_left_out(vm).into_iter().map(reason).collect()
}

/// Returns the node as the API shows it.
pub fn node_view(state: &State, node: &NodeRecord, hearing: &HearingView) -> NodeView {
    let mut vms = BTreeMap::new();
    for (_, vm) in state.vms_of(&node.id) {
        *vms.entry(vm.verdict.state.as_str().to_owned()).or_insert(0) += 1;
    }
    NodeView {
        id: node.id.to_string(),
        rack: node.rack.clone(),
        driver: node.driver.clone(),
        relay: node.relay.to_string(),
        boot: node.boot.to_string(),
        fence: node.fence.as_ref().map(fence_view),
        source: node.path.source.as_str().to_owned(),
        since: node.path.since.into(),
        faults: node.path.faults.iter().map(Into::into).collect(),
        vms,
        watchers: state.watchers().values().filter(|w| w.node == node.id).map(|w| w.id.to_string()).collect(),
        heard: heard(&hearing.nodes, node.id.as_str()),
        deaf_managers: state
            .manager_notes()
            .iter()
            .filter(|note| note.node == node.id)
            .map(|note| note.manager.to_string())
            .collect(),
    }
}

/// Returns the watcher as the API shows it.
pub fn watcher_view(watcher: &WatcherRecord, hearing: &HearingView) -> WatcherView {
    let id = watcher.id.to_string();
    WatcherView {
        node: watcher.node.to_string(),
        life: watcher.life.as_str().to_owned(),
        placed: watcher.placed.get(),
        incarnation: watcher.incarnation.map(|i| i.get()),
        vms: watcher.vms.iter().map(ToString::to_string).collect(),
        assignment: watcher.assignment.get(),
        heard: heard(&hearing.watchers, &id),
        id,
    }
}

fn heard(all: &[HeardView], peer: &str) -> Vec<HeardView> {
    all.iter().filter(|h| h.peer == peer).cloned().collect()
}

/// Returns the probe as the API shows it.
pub fn probe_view(probe: &ProbeRecord) -> ProbeView {
    ProbeView {
        name: probe.name.to_string(),
        version: probe.version.clone(),
        digest: probe.digest.to_string(),
        size: probe.size,
        imports: probe.imports.interfaces.clone(),
        shipped: probe.shipped,
        grant: probe.grant.as_ref().map(Into::into),
        signer: probe
            .signer
            .as_ref()
            .map(|signer| ProbeSignerView { key: signer.key.to_string(), public_key: signer.public_key.to_string() }),
        description: probe.descriptor.as_ref().map(Into::into),
        rollout: probe.rollout.as_deref().map(Into::into),
    }
}

/// Returns the cluster as the API shows it.
pub fn cluster_view(state: &State, status: &ConsensusStatus, hashes: StateHashView) -> ClusterView {
    ClusterView {
        id: state.cluster().map(|c| c.id.to_string()),
        manager: status.manager.to_string(),
        role: status.role.as_str().to_owned(),
        leader: status.leader.map(|m| m.to_string()),
        term: status.term.get(),
        applied: status.applied.get(),
        members: status
            .members()
            .iter()
            .map(|(id, node)| MemberView {
                id: id.to_string(),
                voter: status.voters.contains_key(id),
                addresses: node.addresses.iter().map(|(n, a)| (n.to_string(), a.to_string())).collect(),
                api: Some(node.api.clone()).filter(|api| !api.is_empty()),
            })
            .collect(),
        notes: state
            .manager_notes()
            .iter()
            .map(|note| {
                ReasonView::new(
                    "manager_deaf",
                    format!("{} cannot hear node {}, which other managers hear", note.manager, note.node),
                )
            })
            .collect(),
        state: hashes,
    }
}

/// Returns the note on a cluster whose managers have addresses on one network only.
pub fn one_network_note(status: &ConsensusStatus) -> Option<ReasonView> {
    let has = |network| status.voters.values().any(|node| node.address_on(network).is_some());
    let missing = Network::ALL.into_iter().find(|network| !has(*network))?;
    (!status.voters.is_empty()).then(|| {
        ReasonView::new(
            "one_network",
            format!("no manager has an address on the {missing} network: a failure of the other one cannot be told"),
        )
    })
}
