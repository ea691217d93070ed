//! Where VMs are: migrations that are followed, conflicts, and proofs that a later sign of life withdraws.

use std::collections::BTreeSet;

use vouch_types::vm::CLAIMS_MAX;
use vouch_types::{ClaimChange, HypervisorState, Moment, NodeId, PauseReason, PlacementChange};

use crate::node_track::{NodeTrack, Phase};
use crate::vm_track::{Claim, VmTrack};
use crate::{Detector, VmWord};

/// Whether a word says that the VM's vCPUs execute there.
fn executes(word: &VmWord) -> bool {
    matches!(word.state, HypervisorState::Running | HypervisorState::Rebooting)
}

/// Whether an owner's word leaves the VM to another node: handed over, or ended.
fn leaves(word: &VmWord) -> bool {
    match word.state {
        HypervisorState::Paused(PauseReason::Migration) | HypervisorState::Stopped | HypervisorState::Gone(_) => true,
        HypervisorState::Running
        | HypervisorState::Paused(PauseReason::Operator | PauseReason::IoError | PauseReason::Other)
        | HypervisorState::Rebooting
        | HypervisorState::Panicked
        | HypervisorState::Unknown => false,
    }
}

impl Detector {
    /// Returns the claim of another node that executes the VM now, as its fresh word says.
    fn executing_claim<'a>(&self, now: Moment, vm: &'a VmTrack) -> Option<&'a Claim> {
        let fresh = now - self.timing.window;
        let lives = |claim: &&Claim| {
            let node = self.nodes.get(&claim.node).filter(|node| node.is_direct(now, &self.timing));
            node.is_some_and(|node| claim.begun.max(node.others_read) >= fresh)
        };
        vm.claims.iter().filter(lives).find(|claim| executes(&claim.word))
    }

    /// Returns the node that executes the VM beside its owner, outside of any operation, as both say in words that
    /// began after the other one's first.
    pub(crate) fn rival_of<'a>(&self, now: Moment, vm: &'a VmTrack, node: &NodeTrack) -> Option<&'a NodeId> {
        let claim = self.executing_claim(now, vm)?;
        let (word, begun) = vm.word.as_ref().filter(|(word, _)| executes(word))?;
        let operation = word.operation.or(claim.word.operation).or(vm.operation());
        let heard = node.is_direct(now, &self.timing);
        let both =
            (*begun).max(node.others_read) > claim.since && now.since(claim.since) >= self.timing.report_interval * 2;
        let settled = vm.operation_over.is_none_or(|at| now.since(at) >= self.timing.window);
        (heard && both && settled && operation.is_none()).then_some(&claim.node)
    }

    /// Returns whether another node said last that it executes the VM, however long ago, and is not proved to be off.
    pub(crate) fn may_execute_elsewhere(&self, vm: &VmTrack) -> bool {
        let off = |node: &NodeId| self.nodes.get(node).is_some_and(|node| node.entry.fence.is_some());
        let claimed = vm.claims.iter().filter(|claim| executes(&claim.word)).map(|claim| &claim.node);
        claimed.chain(self.remembered_claims(vm)).any(|node| !off(node))
    }

    /// Returns nodes that executed the VM by the last that was heard of them, of which this manager has heard nothing
    /// itself: what one says of itself rules as soon as it says anything.
    pub(crate) fn remembered_claims<'a>(&self, vm: &'a VmTrack) -> impl Iterator<Item = &'a NodeId> {
        let told = |node: &NodeId| self.nodes.get(node).is_some_and(|track| track.report.is_some());
        vm.entry.claimed_by.iter().filter(move |node| !told(node))
    }

    /// Returns what is to be recorded of the nodes that execute the VM beside its owner, where that is something new. One
    /// that does so for a moment only takes the VM over, as a rule.
    pub(crate) fn claim_change(&self, now: Moment, vm: &VmTrack) -> Option<ClaimChange> {
        let recorded = |node: &NodeId| vm.entry.claimed_by.contains(node);
        let lasts = |claim: &Claim| now.since(claim.since) >= self.timing.report_interval * 2;
        let claimed = vm.claims.iter().filter(|claim| executes(&claim.word) && (lasts(claim) || recorded(&claim.node)));
        let claimed: BTreeSet<&NodeId> = claimed.map(|claim| &claim.node).chain(self.remembered_claims(vm)).collect();
        let claimed_by: Vec<NodeId> = claimed.into_iter().take(CLAIMS_MAX).cloned().collect();
        let (id, generation) = (vm.entry.vm, vm.entry.generation);
        (claimed_by != vm.entry.claimed_by).then_some(ClaimChange { vm: id, generation, claimed_by })
    }

    /// Returns the VMs that have moved: their owner does not execute them any more, and another node does.
    pub(crate) fn placement_changes(&self, now: Moment) -> Vec<PlacementChange> {
        let mut changes = Vec::new();
        for vm in self.claimed.iter().filter_map(|id| self.vms.get(id)) {
            let Some(claim) = self.executing_claim(now, vm) else { continue };
            let Some(node) = self.nodes.get(&vm.entry.node) else { continue };
            let left = match &vm.word {
                Some((word, begun)) => leaves(word) && (*begun).max(node.others_read) >= claim.since,
                None => vm.unnamed && node.is_direct(now, &self.timing),
            };
            // A node that is proved not to run cannot execute it.
            let fenced = node.entry.fence.is_some() && matches!(node.phase, Phase::Cut { .. });
            if left || fenced {
                changes.push(PlacementChange {
                    vm: vm.entry.vm,
                    replaces: vm.entry.generation,
                    to: claim.node.clone(),
                });
            }
        }
        changes
    }

    /// Returns nodes whose proof does not hold any more: a manager hears them, or their relay answers.
    pub(crate) fn withdrawn_proofs(&self, now: Moment) -> Vec<(NodeId, String)> {
        let mut withdrawn = Vec::new();
        for (id, node) in self.nodes.iter().filter(|(_, node)| node.entry.fence.is_some()) {
            let Some(since) = node.fenced else { continue };
            let same_boot = node.report.is_some_and(|(key, _)| key.boot == node.entry.boot);
            let heard = node.last_direct().is_some_and(|at| at > since) && same_boot;
            let answered = node.relay.values().any(|relay| relay.reached.is_some_and(|at| at > since));
            if heard && node.is_direct(now, &self.timing) {
                withdrawn.push((id.clone(), "a manager hears the node".to_owned()));
            } else if answered {
                withdrawn.push((id.clone(), "the node's relay answers".to_owned()));
            }
        }
        withdrawn
    }
}
