//! A node that is removed takes with it all that is recorded of it, and leaves a word that its certificate is worth
//! nothing.
//!
//! Nothing here says of any VM that it does not run. VMs that may run keep their node from being removed, unless an
//! operator has them forgotten: then nobody advises anything about them. Policies and windows of a VM stay, as they do
//! whenever its node no longer names it.

use std::collections::BTreeMap;
use std::sync::Arc;

use vouch_types::removed_node::{REMOVAL_VMS_NAMED, REMOVED_NODES_MAX, is_gone};
use vouch_types::{
    Applied, DenyReason, Digest, EventKind, IncidentChange, IncidentScope, Joiner, MaintenanceId, NodeId, Policy,
    PolicyScope, RemovedNode, ScopedProbe, ScopedProbeKey, SignedBy, Source, VmId, VmInTheWay, VmRecord, VmsLeft,
    WallTime, WatcherId, WatcherLife,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;

impl State {
    /// Returns the nodes that were removed and are remembered, by name: those that have joined again among them.
    pub fn removed_nodes(&self) -> &BTreeMap<NodeId, Arc<RemovedNode>> {
        &self.removed
    }

    /// Returns the word on a node that was removed and has not joined again.
    pub fn shut_out(&self, node: &NodeId) -> Option<&RemovedNode> {
        self.removed.get(node).map(Arc::as_ref).filter(|removed| removed.is_shut())
    }

    /// Returns why one with this key may not speak under the name of a node; `None` when it may.
    pub fn refusal_of(&self, node: &NodeId, key: Option<&Digest>) -> Option<&RemovedNode> {
        self.removed.get(node).map(Arc::as_ref).filter(|removed| !removed.lets_in(key))
    }

    pub(super) fn remove_node(
        &mut self,
        step: &mut Step,
        node: NodeId,
        left: VmsLeft,
        by: String,
        at: WallTime,
    ) -> Outcome {
        let Some(record) = self.nodes.get(&node) else { return self.shut_out_unheard(step, node, by, at) };
        let watchers: Vec<(WatcherId, WatcherLife)> =
            self.watchers.values().filter(|w| w.node == node).map(|w| (w.id, w.life)).collect();
        let live: Vec<WatcherId> =
            watchers.iter().filter(|(_, life)| *life == WatcherLife::Live).map(|(id, _)| *id).collect();
        if record.path.source == Source::Direct {
            return Err(DenyReason::NodeLives { node, watchers: Vec::new() });
        }
        // What a watcher there sees may be what keeps a VM of another node from being started twice.
        if !live.is_empty() {
            return Err(DenyReason::NodeLives { node, watchers: live });
        }
        let fence = record.fence.clone();
        let was_off = fence.is_some();
        let vms: Vec<VmId> = self.vms_of(&node).map(|(id, _)| *id).collect();
        if left == VmsLeft::Refuse {
            self.no_vm_in_the_way(&node)?;
        }
        self.room_to_remember(&node)?;

        let (vms_count, watchers_count) = (vms.len() as u64, watchers.len() as u64);
        step.event(
            at,
            EventKind::NodeRemoved {
                node: node.clone(),
                vms: vms_count,
                watchers: watchers_count,
                fence,
                by: by.clone(),
            },
        );
        for vm in vms {
            self.vms.remove(&vm);
            step.changes.vms.insert(vm);
            step.event(at, EventKind::VmRemoved { vm, node: node.clone() });
        }
        for (watcher, life) in watchers {
            self.watchers.remove(&watcher);
            step.changes.watchers.insert(watcher);
            if life != WatcherLife::Retired {
                step.event(at, EventKind::WatcherRetired { watcher, node: node.clone() });
            }
        }
        for scope in [IncidentScope::Node(node.clone()), IncidentScope::Flapping(node.clone())] {
            self.record_incident(step, IncidentChange { scope, word: None }, at);
        }
        if was_off {
            self.drop_claims_of(step, &node);
        }
        self.drop_notes_of(step, &node, at);
        self.drop_rules_of(step, &node, &by, at);
        self.nodes.remove(&node);
        step.changes.nodes.insert(node.clone());
        self.shut_out_from_here(step, node, by, at);
        Ok(Applied::NodeRemoved { index: step.index, vms: vms_count, watchers: watchers_count })
    }

    /// Returns whether a join token let a node in that was never heard, as far as its use is remembered.
    pub fn is_let_in_unheard(&self, node: &NodeId) -> bool {
        let joiner = Joiner::Node(node.clone());
        let used = || self.head.join_tokens.iter().flat_map(|token| &token.last_uses).any(|used| used.joiner == joiner);
        let again = || self.removed.get(node).is_some_and(|removed| !removed.is_shut());
        !self.nodes.contains_key(node) && (used() || again())
    }

    /// Nothing is recorded of it but that it may speak, and nothing can be set for it.
    fn shut_out_unheard(&mut self, step: &mut Step, node: NodeId, by: String, at: WallTime) -> Outcome {
        if !self.is_let_in_unheard(&node) {
            return Err(DenyReason::UnknownNode(node));
        }
        self.room_to_remember(&node)?;
        let (id, by_whom) = (node.clone(), by.clone());
        step.event(at, EventKind::NodeRemoved { node: id, vms: 0, watchers: 0, fence: None, by: by_whom });
        self.shut_out_from_here(step, node, by, at);
        Ok(Applied::NodeRemoved { index: step.index, vms: 0, watchers: 0 })
    }

    fn room_to_remember(&self, node: &NodeId) -> Result<(), DenyReason> {
        let others = self.removed.keys().filter(|known| *known != node).count();
        limit("removed nodes", others + 1, REMOVED_NODES_MAX)
    }

    /// Remembers that whoever has the name may not speak.
    fn shut_out_from_here(&mut self, step: &mut Step, node: NodeId, by: String, at: WallTime) {
        self.drop_uses_of(step, &node);
        let (admitted, signed_by) = (None, SignedBy::Present);
        self.put_removed(step, RemovedNode { id: node, by, at, index: step.index, admitted, signed_by });
    }

    fn no_vm_in_the_way(&self, node: &NodeId) -> Result<(), DenyReason> {
        let may_run = |vm: &&VmRecord| !is_gone(&vm.verdict);
        let in_the_way = || self.vms_of(node).map(|(_, vm)| vm.as_ref()).filter(may_run);
        let count = in_the_way().count() as u64;
        if count == 0 {
            return Ok(());
        }
        let named = |vm: &VmRecord| VmInTheWay { id: vm.spec.id, name: vm.spec.name.clone(), state: vm.verdict.state };
        let vms = in_the_way().take(REMOVAL_VMS_NAMED).map(named).collect();
        Err(DenyReason::NodeHasVms { node: node.clone(), count, vms })
    }

    /// What was proved to be off executes nothing that it ever claimed. What another one claimed stands: that it was removed
    /// is no proof that it does not run.
    fn drop_claims_of(&mut self, step: &mut Step, node: &NodeId) {
        let claimed = self.vms().values().filter(|vm| vm.claimed_by.contains(node));
        let claimed: Vec<VmId> = claimed.map(|vm| vm.spec.id).collect();
        for id in claimed {
            if let Some(vm) = self.vms.get_mut(&id) {
                Arc::make_mut(vm).claimed_by.retain(|other| other != node);
                step.changes.unshown.insert(id);
            }
        }
    }

    fn drop_notes_of(&mut self, step: &mut Step, node: &NodeId, at: WallTime) {
        let notes: Vec<_> = self.head.manager_notes.iter().filter(|note| note.node != *node).cloned().collect();
        self.set_manager_notes(step, notes, at);
    }

    /// Ends what an operator has set for the name: one that joins under it later is another node.
    fn drop_rules_of(&mut self, step: &mut Step, node: &NodeId, by: &str, at: WallTime) {
        let scope = PolicyScope::Node(node.clone());
        let windows: Vec<MaintenanceId> =
            self.head.maintenances.iter().filter(|window| window.scope == scope).map(|window| window.id).collect();
        for window in windows {
            self.close_maintenance(step, window, at);
        }
        let assigned: Vec<ScopedProbeKey> =
            self.head.scoped_probes.iter().map(ScopedProbe::key).filter(|key| key.scope == scope).collect();
        for key in assigned {
            // It was found a moment ago, so nothing stands in the way.
            let _ = self.unassign_probe(step, key, by.to_owned(), at);
        }
        if self.forget_policy(step, &scope) {
            step.event(at, EventKind::PolicyChanged { scope, policy: Policy::default() });
        }
    }

    /// Forgets by which requests the node has joined: the same request would be the same use, and let its old key in.
    fn drop_uses_of(&mut self, step: &mut Step, node: &NodeId) {
        let joiner = Joiner::Node(node.clone());
        let mut touched = false;
        for token in &mut self.head.join_tokens {
            let before = token.last_uses.len();
            token.last_uses.retain(|used| used.joiner != joiner);
            if token.last_uses.len() != before {
                token.modified = step.index;
                touched = true;
            }
        }
        if touched {
            self.touch_join_tokens(step);
        }
    }

    /// Lets a removed name in again, with this key and no other.
    pub(super) fn admit_again(&mut self, step: &mut Step, node: &NodeId, key: Option<Digest>) {
        if let Some(known) = self.removed.get(node) {
            self.put_removed(step, RemovedNode { admitted: key, ..(**known).clone() });
        }
    }

    /// Another CA signs from now on. The one before the last was given up with the rotation before this one, so nobody
    /// trusts what it signed: there is no word needed against that.
    pub(super) fn note_other_ca(&mut self, step: &mut Step) {
        self.removed.retain(|id, removed| {
            step.changes.removed.insert(id.clone());
            match removed.signed_by {
                SignedBy::Present => {
                    Arc::make_mut(removed).signed_by = SignedBy::Former;
                    true
                }
                SignedBy::Former => false,
            }
        });
    }

    fn put_removed(&mut self, step: &mut Step, removed: RemovedNode) {
        step.changes.removed.insert(removed.id.clone());
        self.removed.insert(removed.id.clone(), Arc::new(removed));
    }
}
