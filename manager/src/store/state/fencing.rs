//! Proofs that a node does not run, and VMs that have moved: what decides where a VM may be started.

use std::sync::Arc;

use vouch_types::proof::PROOF_NOTE_MAX;
use vouch_types::{
    BootId, DenyReason, EventKind, FenceKind, FenceProof, Generation, NodeId, PlacementChange, Source, VmId, WallTime,
};

use super::State;
use super::apply::{Outcome, Step};
use super::verdicts::Recorded;

impl State {
    pub(super) fn record_fence_proof(
        &mut self,
        step: &mut Step,
        node: &NodeId,
        boot: BootId,
        kind: FenceKind,
        note: String,
        at: WallTime,
    ) -> Outcome {
        if note.len() > PROOF_NOTE_MAX {
            let (value, rule) = (format!("{} bytes", note.len()), format!("at most {PROOF_NOTE_MAX} bytes"));
            return Err(DenyReason::BadValue { field: "proof.note".to_owned(), value, rule });
        }
        let Some(record) = self.nodes.get_mut(node) else {
            return Err(DenyReason::UnknownNode(node.clone()));
        };
        if record.path.source == Source::Direct {
            return Err(DenyReason::NodeIsHeard(node.clone()));
        }
        if record.boot != boot {
            return Err(DenyReason::OtherBoot { node: node.clone(), recorded: record.boot, told: boot });
        }
        if record.fence.as_ref().is_some_and(|known| known.kind == kind && known.note == note) {
            return step.done();
        }
        let proof = FenceProof { kind, boot, note, index: step.index, at };
        Arc::make_mut(record).fence = Some(proof.clone());
        step.changes.nodes.insert(node.clone());
        step.event(at, EventKind::FenceProofRecorded { node: node.clone(), proof });
        step.done()
    }

    pub(super) fn withdraw_fence_proof(
        &mut self,
        step: &mut Step,
        node: &NodeId,
        reason: String,
        at: WallTime,
    ) -> Outcome {
        let Some(record) = self.nodes.get_mut(node) else {
            return Err(DenyReason::UnknownNode(node.clone()));
        };
        if record.fence.is_some() {
            Arc::make_mut(record).fence = None;
            step.changes.nodes.insert(node.clone());
            step.event(at, EventKind::FenceProofWithdrawn { node: node.clone(), reason });
        }
        step.done()
    }

    /// Moves a VM to the node where it executes: a new generation, and what was proven of it stays.
    pub(super) fn record_placement(&mut self, step: &mut Step, change: PlacementChange, at: WallTime) -> Recorded {
        let PlacementChange { vm, replaces, to } = change;
        let Some(record) = self.vms.get(&vm) else { return Recorded::Stale };
        if record.generation != replaces || !self.nodes.contains_key(&to) {
            return Recorded::Stale;
        }
        if record.node == to {
            return Recorded::Current;
        }
        self.head.vms_placed += 1;
        let generation = Generation::new(self.head.vms_placed);
        let Some(from) = self.vms.move_to(&vm, to.clone(), generation) else { return Recorded::Stale };
        if let Some(record) = self.vms.get_mut(&vm).filter(|record| !record.claimed_by.is_empty()) {
            // They were claims beside its owner of before.
            Arc::make_mut(record).claimed_by.clear();
        }
        step.changes.head = true;
        step.changes.vms.insert(vm);
        if !self.head.scoped_probes.is_empty() {
            // Those of its node may be others now.
            let scoped = self.head.scoped_probes.clone();
            self.forget_unassigned(step, vm, &scoped);
        }
        step.event(at, EventKind::VmMoved { vm, from, to, generation });
        Recorded::Current
    }

    pub(super) fn forget_pins(&mut self, step: &mut Step, vm: VmId, at: WallTime) -> Outcome {
        let Some(record) = self.vms.get_mut(&vm) else { return Err(DenyReason::UnknownVm(vm)) };
        if !record.pins.is_empty() {
            Arc::make_mut(record).pins.clear();
            step.changes.vms.insert(vm);
            step.event(at, EventKind::VmPinsForgotten { vm });
        }
        step.done()
    }
}
