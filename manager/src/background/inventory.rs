//! Records nodes and their VMs as the nodes describe them. Nobody registers anything by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{
    Command, LogIndex, Moment, NodeId, NodePath, NodeRecord, Operation, Term, VmId, VmRecord, VmSpec, WallTime,
};

use super::{Desk, Reconciler, ReconcilerReport, RoundError};
use crate::fleet::NodeWords;
use crate::store::State;

/// How long a VM is kept that left its node by a migration, and that no node names.
pub const MIGRATION_PATIENCE: Duration = Duration::from_secs(600);

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct InventoryReconciler {
    /// VMs that a node names and another one owns, told once each.
    claimed: BTreeSet<(NodeId, VmId)>,
    /// VMs that their owner does not name any more, and since when.
    unnamed: BTreeMap<(NodeId, VmId), Moment>,
}

/// Returns the record of a node as it introduces itself; `None` before it has.
fn record_of(node: &NodeId, words: &NodeWords, at: WallTime) -> Option<NodeRecord> {
    let hello = words.hello.as_ref()?;
    Some(NodeRecord {
        id: node.clone(),
        rack: hello.rack.clone(),
        relay: hello.relay,
        statement_key: hello.statement_key.to_vec(),
        boot: hello.boot,
        incarnation: hello.incarnation,
        driver: hello.driver.clone(),
        hosts_watchers: hello.hosts_watchers,
        path: NodePath::direct(at),
        fence: None,
        modified: LogIndex::default(),
    })
}

/// Returns how long a VM is kept that its owner names no longer: one that was on the move may be on a node that is not
/// heard now.
fn patience(vm: &VmRecord, window: Duration) -> Duration {
    if vm.verdict.suppressed == Operation::Migration.as_str() { MIGRATION_PATIENCE } else { window }
}

/// Returns whether the recorded node differs from how it introduces itself now.
fn differs(state: &State, node: &NodeRecord) -> bool {
    state.nodes().get(&node.id).is_none_or(|known| {
        let (path, fence) = (known.path.clone(), known.fence.clone());
        let same = NodeRecord { path, fence, modified: known.modified, ..node.clone() } == **known;
        !same && node.incarnation >= known.incarnation
    })
}

/// Returns whether the recorded VMs of a node differ from those that it describes, which are in id order.
fn vms_differ(state: &State, node: &NodeId, specs: &[VmSpec]) -> bool {
    let mut recorded: Vec<&VmSpec> = state.vms_of(node).map(|(_, vm)| &vm.spec).collect();
    recorded.sort_by_key(|spec| spec.id);
    recorded.len() != specs.len() || recorded.iter().zip(specs).any(|(a, b)| **a != *b)
}

#[async_trait]
impl Reconciler for InventoryReconciler {
    fn name(&self) -> &'static str {
        "inventory"
    }

    fn reset(&mut self) {
        self.claimed.clear();
        self.unnamed.clear();
    }

    async fn round(&mut self, desk: &Desk, _term: Term) -> Result<ReconcilerReport, RoundError> {
        if desk.consensus.read_state(|state| state.cluster().is_none()) {
            return Ok(ReconcilerReport::default());
        }
        let (mut problem, mut pending) = (None, 0);
        let now = desk.clock.now();
        let all_words = desk.fleet.node_words();
        let named_by = |vm: VmId, node: &NodeId| {
            all_words
                .iter()
                .any(|(other, words)| other != node && words.vms.as_ref().is_some_and(|v| v.contains_key(&vm)))
        };
        for (node, words) in &all_words {
            let node = node.clone();
            let at = desk.wall_clock.now();
            let Some(record) = record_of(&node, words, at) else { continue };
            // It may have been removed since these words were read.
            if desk.consensus.read_state(|state| state.shut_out(&node).is_some()) {
                continue;
            }
            if desk.consensus.read_state(|state| differs(state, &record)) {
                desk.propose(Command::RecordNode { node: record, at }).await?;
            }
            let Some(mut vms) = words.specs() else { continue };
            let foreign: Vec<VmId> = desk.consensus.read_state(|state| {
                let owned_elsewhere = |id: &VmId| state.vms().get(id).is_some_and(|vm| vm.node != node);
                vms.iter().map(|spec| spec.id).filter(owned_elsewhere).collect()
            });
            for vm in &foreign {
                if self.claimed.insert((node.clone(), *vm)) {
                    tracing::warn!(node_id = %node, vm_id = %vm, "node names a vm that another node owns");
                }
                problem = Some(format!("node {node} names vm {vm}, which another node owns"));
            }
            vms.retain(|spec| !foreign.contains(&spec.id));
            // One that it names no longer and another node does has moved: the detector says so, and its story goes on.
            // The other one's word may come a little later.
            let gone: Vec<(VmSpec, Duration)> = desk.consensus.read_state(|state| {
                let gone = state.vms_of(&node).filter(|(id, _)| !vms.iter().any(|spec| spec.id == **id));
                gone.map(|(_, vm)| (vm.spec.clone(), patience(vm, desk.timing.window))).collect()
            });
            self.unnamed.retain(|(n, vm), _| *n != node || gone.iter().any(|(spec, _)| spec.id == *vm));
            for (spec, patience) in gone {
                let since = *self.unnamed.entry((node.clone(), spec.id)).or_insert(now);
                if named_by(spec.id, &node) || now.since(since) < patience {
                    pending += 1;
                    vms.push(spec);
                }
            }
            vms.sort_by_key(|spec| spec.id);
            if desk.consensus.read_state(|state| vms_differ(state, &node, &vms)) {
                desk.propose(Command::RecordVms { node, vms, at }).await?;
            }
        }
        Ok(ReconcilerReport { pending, problem })
    }
}
