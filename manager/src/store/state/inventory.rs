//! Nodes and their VMs: what is there to watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use vouch_types::command::CHANGES_MAX;
use vouch_types::scoped_probe::probes_of;
use vouch_types::vm::{ADDRESSES_MAX, PROBES_PER_VM_MAX};
use vouch_types::{
    DenyReason, EventKind, Generation, NodeId, NodeRecord, Pin, ProbeAssignment, ScopedProbe, Verdict, VmId, VmRecord,
    VmSpec, WallTime,
};

use super::State;
use super::apply::{Outcome, Step};

impl State {
    pub(super) fn record_node(&mut self, step: &mut Step, mut node: NodeRecord, at: WallTime) -> Outcome {
        let id = node.id.clone();
        // What it said before, or another manager heard of it, may still be under way.
        if self.shut_out(&id).is_some() {
            return Err(DenyReason::NodeRemoved(id));
        }
        let event = match self.nodes.get(&id) {
            None => Some(EventKind::NodeJoined { node: id.clone() }),
            Some(known) => {
                node.path = known.path.clone();
                node.modified = known.modified;
                // A new boot is a sign of life: the proof spoke of another one.
                node.fence = known.fence.clone().filter(|proof| proof.boot == node.boot);
                if **known == node {
                    return step.done();
                }
                if known.boot != node.boot {
                    Some(EventKind::NodeRebooted { node: id.clone() })
                } else if known.incarnation != node.incarnation {
                    Some(EventKind::NodeAgentRestarted { node: id.clone() })
                } else {
                    None
                }
            }
        };
        if let Some(kind) = event {
            step.event(at, kind);
        }
        step.changes.nodes.insert(id.clone());
        self.nodes.insert(id, Arc::new(node));
        step.done()
    }

    pub(super) fn record_vms(&mut self, step: &mut Step, node: &NodeId, vms: Vec<VmSpec>, at: WallTime) -> Outcome {
        if !self.nodes.contains_key(node) {
            return Err(DenyReason::UnknownNode(node.clone()));
        }
        limit("vms", vms.len(), CHANGES_MAX)?;
        for spec in &vms {
            limit(&format!("probes of vm {}", spec.id), spec.probes.len(), PROBES_PER_VM_MAX)?;
            for addresses in spec.addresses.values() {
                limit(&format!("addresses of vm {}", spec.id), addresses.len(), ADDRESSES_MAX)?;
            }
            if let Some(known) = self.vms.get(&spec.id)
                && known.node != *node
            {
                return Err(DenyReason::NotOwner { vm: spec.id, owner: known.node.clone() });
            }
        }

        let named: BTreeMap<VmId, VmSpec> = vms.into_iter().map(|spec| (spec.id, spec)).collect();
        let gone: Vec<VmId> = self.vms_of(node).map(|(id, _)| *id).filter(|id| !named.contains_key(id)).collect();
        for vm in gone {
            self.vms.remove(&vm);
            step.changes.vms.insert(vm);
            step.event(at, EventKind::VmRemoved { vm, node: node.clone() });
        }
        for (vm, spec) in named {
            self.record_vm(step, node, vm, spec, at);
        }
        step.done()
    }

    fn record_vm(&mut self, step: &mut Step, node: &NodeId, vm: VmId, spec: VmSpec, at: WallTime) {
        match self.vms.get_mut(&vm) {
            None => {
                self.head.vms_placed += 1;
                step.changes.head = true;
                let generation = Generation::new(self.head.vms_placed);
                step.event(at, EventKind::VmRegistered { vm, node: node.clone(), generation });
                let record = VmRecord {
                    spec,
                    node: node.clone(),
                    generation,
                    verdict: Verdict::unjudged(at),
                    proven: Vec::new(),
                    pins: Vec::new(),
                    boot: None,
                    claimed_by: Vec::new(),
                    modified: step.index,
                };
                self.vms.insert(Arc::new(record));
            }
            Some(known) if known.spec == spec => return,
            Some(known) => {
                let known = Arc::make_mut(known);
                // What worked with other settings proves nothing about these, and another setting may take the identity
                // from something else. A label may have brought or taken a probe.
                let now = assignments(&self.head.scoped_probes, &spec, &known.node);
                let before = assignments(&self.head.scoped_probes, &known.spec, &known.node);
                let is_of = |pin: &Pin, p: &ProbeAssignment| p.probe == pin.probe && p.network == pin.network;
                known.pins.retain(|pin| before.iter().any(|p| is_of(pin, p) && now.contains(p)));
                known.proven.retain(|proven| now.contains(proven));
                known.spec = spec;
            }
        }
        step.changes.vms.insert(vm);
    }

    pub(super) fn record_proven(
        &mut self,
        step: &mut Step,
        proven: Vec<(VmId, ProbeAssignment)>,
        pins: Vec<(VmId, Pin)>,
    ) -> Outcome {
        limit("proven probes", proven.len() + pins.len(), CHANGES_MAX)?;
        for (vm, pin) in pins {
            if let Some(record) = self.vms.get_mut(&vm)
                && assignments(&self.head.scoped_probes, &record.spec, &record.node)
                    .iter()
                    .any(|p| p.probe == pin.probe && p.network == pin.network)
                && !record.pins.iter().any(|known| known.probe == pin.probe && known.network == pin.network)
            {
                Arc::make_mut(record).pins.push(pin);
                step.changes.vms.insert(vm);
            }
        }
        for (vm, probe) in proven {
            // A VM or probe that has gone meanwhile is nothing to refuse the others for.
            if let Some(record) = self.vms.get_mut(&vm)
                && assignments(&self.head.scoped_probes, &record.spec, &record.node).contains(&probe)
                && !record.proven.contains(&probe)
            {
                Arc::make_mut(record).proven.push(probe);
                step.changes.vms.insert(vm);
            }
        }
        step.done()
    }
}

/// Returns the probes that are run against a VM.
fn assignments(scoped: &[ScopedProbe], vm: &VmSpec, node: &NodeId) -> Vec<ProbeAssignment> {
    probes_of(scoped, vm, node).into_iter().map(|probe| probe.assignment.clone()).collect()
}

/// Refuses more items than a command may carry.
pub(super) fn limit(what: &str, count: usize, limit: usize) -> Result<(), DenyReason> {
    if count <= limit {
        return Ok(());
    }
    Err(DenyReason::TooMany { what: what.to_owned(), count: count as u64, limit: limit as u64 })
}
