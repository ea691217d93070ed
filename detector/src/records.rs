//! Takes in the replicated records: the whole of them, or what changed.
//!
//! Evidence is kept where the thing that it is about is still the same one; a VM with another owner or generation starts
//! without the words of the old one.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::{Moment, NodeId, VmId, WatcherId, WatcherLife};

use crate::detector::Proposing;
use crate::evidence::boot_budget;
use crate::node_track::NodeTrack;
use crate::vm_track::VmTrack;
use crate::watcher_track::WatcherTrack;
use crate::{Detector, Inventory, NodeEntry, Records, VmEntry, WatcherEntry};

impl Detector {
    /// Takes everything anew: what is not named is gone.
    pub(crate) fn take_inventory(&mut self, now: Moment, inventory: Inventory) {
        if inventory.index < self.index {
            return;
        }
        let named_nodes: BTreeSet<&NodeId> = inventory.nodes.iter().map(|n| &n.node).collect();
        let named_vms: BTreeSet<VmId> = inventory.vms.iter().map(|vm| vm.vm).collect();
        let named_watchers: BTreeSet<WatcherId> = inventory.watchers.iter().map(|w| w.watcher).collect();
        self.vms.make_room(named_vms.len());
        let records = Records {
            removed_nodes: self.nodes.keys().filter(|n| !named_nodes.contains(n)).cloned().collect(),
            removed_vms: self.vms.iter().map(|vm| vm.entry.vm).filter(|vm| !named_vms.contains(vm)).collect(),
            removed_watchers: self.watchers.keys().copied().filter(|w| !named_watchers.contains(w)).collect(),
            index: inventory.index,
            nodes: inventory.nodes,
            vms: inventory.vms,
            watchers: inventory.watchers,
            managers: Some(inventory.managers),
            manager_notes: Some(inventory.manager_notes),
            incidents: Some(inventory.incidents),
        };
        self.take_records(now, records);
    }

    /// Takes what changed.
    pub(crate) fn take_records(&mut self, now: Moment, records: Records) {
        if records.index < self.index {
            return;
        }
        self.index = records.index;
        self.whole_pass = true;
        if matches!(self.proposing, Proposing::Awaiting(index) if index <= self.index) {
            self.proposing = Proposing::Idle;
        }
        if let Some(managers) = records.managers {
            self.managers = managers.iter().map(|m| (*m, self.managers.get(m).copied().flatten())).collect();
            let managers = &self.managers;
            self.full_disks.retain(|manager| managers.contains_key(manager));
            self.nodes.values_mut().for_each(|node| node.keep_managers(|m| managers.contains_key(&m)));
        }
        if let Some(notes) = records.manager_notes {
            self.recorded_notes = notes;
        }
        if let Some(incidents) = records.incidents {
            self.recorded_incidents = incidents.into_iter().map(|i| (i.scope, i.word)).collect();
        }
        for node in &records.removed_nodes {
            let removed = self.nodes.remove(node);
            self.touched.remove(node);
            // One that was proved to be off executes nothing that it ever claimed. What another one claimed stands:
            // that it was removed is no proof that it does not run.
            if removed.is_some_and(|track| track.entry.fence.is_some()) {
                self.drop_claims_of(node);
            }
        }
        for entry in records.nodes {
            self.put_node(now, entry);
        }
        // Whose watchers change, or whose VMs, has other observers: the indices are then made anew.
        let mut reindex = !records.removed_watchers.is_empty();
        for watcher in &records.removed_watchers {
            self.watchers.remove(watcher);
        }
        for entry in records.watchers {
            reindex |= self.put_watcher(now, entry);
        }
        for vm in &records.removed_vms {
            self.remove_vm(vm);
        }
        let mut moved = Vec::new();
        for entry in records.vms {
            let id = entry.vm;
            if self.put_vm(now, entry) {
                moved.push(id);
            }
        }
        if reindex {
            self.index_observers();
        } else {
            self.index_observers_of(&moved);
        }
    }

    fn put_node(&mut self, now: Moment, entry: NodeEntry) {
        self.touched.insert(entry.node.clone());
        let was = self.nodes.get(&entry.node).map(|track| (track.entry.path.version, track.entry.path.source));
        let track = self.nodes.entry(entry.node.clone()).or_insert_with(|| NodeTrack::new(entry.clone(), now));
        // What is left of hand-backs is counted from the change of the paths that recorded it, and from no later one.
        if was.is_none_or(|(version, _)| version != entry.path.version) {
            track.remember(now, &entry.path, was.map(|(_, source)| source), &self.timing);
        }
        if track.entry.fence != entry.fence || (entry.fence.is_some() && track.fenced.is_none()) {
            track.fenced = entry.fence.as_ref().map(|_| now);
        }
        let changed = track.entry != entry;
        track.entry = entry;
        if changed {
            let vms: Vec<_> = track.vms.iter().copied().collect();
            vms.into_iter().for_each(|vm| self.mark(vm));
        }
    }

    /// Puts a watcher; returns whether anything changed that the indices are made of.
    fn put_watcher(&mut self, now: Moment, entry: WatcherEntry) -> bool {
        match self.watchers.get_mut(&entry.watcher) {
            Some(track) => {
                let changed =
                    track.entry.vms != entry.vms || track.entry.node != entry.node || track.entry.life != entry.life;
                if track.entry.life != entry.life {
                    track.live_since = now;
                }
                track.entry = entry;
                changed
            }
            None => {
                self.watchers.insert(entry.watcher, WatcherTrack::new(entry, now));
                true
            }
        }
    }

    fn drop_claims_of(&mut self, node: &NodeId) {
        for id in self.claimed.clone() {
            if let Some(vm) = self.vms.get_mut(&id) {
                vm.claims.retain(|claim| claim.node != *node);
                self.mark(id);
            }
        }
    }

    fn remove_vm(&mut self, id: &VmId) {
        self.restless.remove(id);
        self.suspects.forget(id);
        self.io_paused.remove(id);
        self.claimed.remove(id);
        if let Some(gone) = self.vms.remove(id)
            && let Some(node) = self.nodes.get_mut(&gone.entry.node)
        {
            node.vms.remove(id);
        }
    }

    /// Puts a VM; returns whether it is new, or on another node.
    fn put_vm(&mut self, now: Moment, entry: VmEntry) -> bool {
        let id = entry.vm;
        let budget = boot_budget(&entry.policy, &self.timing);
        let Some(track) = self.vms.get_mut(&id) else {
            if let Some(node) = self.nodes.get_mut(&entry.node) {
                node.vms.insert(id);
            }
            let mut track = VmTrack::new(entry);
            track.remember_boot(now, budget);
            self.vms.put(track);
            self.mark(id);
            return true;
        };
        if track.entry == entry {
            return false;
        }
        let moved = track.entry.node != entry.node;
        if track.entry.generation != entry.generation || moved {
            // Another owner, another generation: what was said of the old one proves nothing of the new.
            track.statement = None;
            let claim = track.claims.iter().find(|claim| claim.node == entry.node);
            track.word = claim.map(|claim| (claim.word.clone(), claim.begun));
            track.claims.clear();
            self.claimed.remove(&id);
            self.io_paused.remove(&id);
        }
        for check in &mut track.checks {
            let is_its = |p: &&vouch_types::ProbeAssignment| p.network == check.network && p.probe == check.probe;
            if track.entry.probes.iter().find(is_its) != entry.probes.iter().find(is_its) {
                // With other settings it may be taken from something else; the watchers tell it anew.
                check.identity = None;
            }
        }
        let from = std::mem::replace(&mut track.entry, entry);
        if track.entry.boot != from.boot {
            track.remember_boot(now, budget);
        }
        if moved {
            let to = track.entry.node.clone();
            if let Some(node) = self.nodes.get_mut(&from.node) {
                node.vms.remove(&id);
            }
            if let Some(node) = self.nodes.get_mut(&to) {
                node.vms.insert(id);
            }
        }
        self.mark(id);
        moved
    }

    /// Makes anew who observes which VM, and which watchers concern which node.
    fn index_observers(&mut self) {
        for node in self.nodes.values_mut() {
            node.local_watchers.clear();
            node.remote_watchers.clear();
        }
        let mut observers: BTreeMap<VmId, Vec<WatcherId>> = BTreeMap::new();
        for (id, watcher) in &self.watchers {
            if let Some(node) = self.nodes.get_mut(&watcher.entry.node) {
                node.local_watchers.insert(*id);
            }
            for vm in &watcher.entry.vms {
                observers.entry(*vm).or_default().push(*id);
                let elsewhere = self.vms.get(vm).map(|vm| &vm.entry.node).filter(|node| **node != watcher.entry.node);
                if let Some(node) = elsewhere.and_then(|node| self.nodes.get_mut(node)) {
                    node.remote_watchers.insert(*id);
                }
            }
        }
        let watchers = &self.watchers;
        let mut changed = Vec::new();
        for vm in self.vms.iter_mut() {
            let now = observers.remove(&vm.entry.vm).unwrap_or_default();
            if vm.observers != now {
                vm.observers = now;
                changed.push(vm.entry.vm);
            }
            vm.checks.retain(|check| watchers.contains_key(&check.watcher));
        }
        changed.into_iter().for_each(|vm| self.mark(vm));
        let watchers = &self.watchers;
        for node in self.nodes.values_mut() {
            node.relay.retain(|watcher, _| watchers.contains_key(watcher));
        }
    }

    /// The same for VMs that are new, or have moved.
    fn index_observers_of(&mut self, vms: &[VmId]) {
        for id in vms {
            let watching = self.watchers.iter().filter(|(_, w)| w.entry.vms.contains(id));
            let observers: Vec<(WatcherId, NodeId)> = watching.map(|(id, w)| (*id, w.entry.node.clone())).collect();
            let Some(vm) = self.vms.get_mut(id) else { continue };
            vm.observers = observers.iter().map(|(watcher, _)| *watcher).collect();
            if let Some(node) = self.nodes.get_mut(&vm.entry.node) {
                let elsewhere = observers.into_iter().filter(|(_, on)| *on != node.entry.node);
                node.remote_watchers.extend(elsewhere.map(|(watcher, _)| watcher));
            }
        }
    }

    /// Returns the live watchers of a VM, in order.
    pub(crate) fn watchers_of(&self, vm: &VmTrack) -> Vec<WatcherId> {
        let live = |id: &&WatcherId| self.watchers.get(id).is_some_and(|w| w.entry.life == WatcherLife::Live);
        vm.observers.iter().filter(live).copied().collect()
    }
}
