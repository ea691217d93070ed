//! Where watchers are to be, and what each is to watch. Pure: records in, a plan out.
//!
//! For every VM one watcher on its own node, which tells the VM's faults from the uplink's, and one on another node, in
//! another rack if there is one. One watcher per node serves all of its VMs, up to [`WATCHER_VMS_MAX`]; then another.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::{NodeId, VmId, WatcherId, WatcherLife};

use crate::store::State;

/// How many VMs one watcher watches.
pub const WATCHER_VMS_MAX: usize = 500;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Plan {
    /// Nodes that are to get one more watcher.
    pub(super) place: Vec<NodeId>,
    /// Watchers that are to be destroyed.
    pub(super) retire: Vec<WatcherId>,
    /// Watchers whose list is to change.
    pub(super) assign: Vec<(WatcherId, Vec<VmId>)>,
    /// VMs that lack a watcher on their own node or on another one.
    pub(super) thin: usize,
}

/// FNV-1a, 64 bits: the same on every manager and in every release.
pub(super) fn hash(parts: [&[u8]; 2]) -> u64 {
    let bytes = parts[0].iter().chain(parts[1]);
    let folded = bytes.fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    // Short inputs differ in few bits: spread them.
    (folded ^ (folded >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Returns the node whose watcher looks at a VM from elsewhere: the one with the highest hash, so that the others keep
/// theirs when a node comes or goes.
fn elsewhere<'a>(state: &State, vm: VmId, home: &NodeId, hosts: &[&'a NodeId]) -> Option<&'a NodeId> {
    let rack_of = |node: &NodeId| state.nodes().get(node).and_then(|n| n.rack.clone());
    let home_rack = rack_of(home);
    let others: Vec<&NodeId> = hosts.iter().copied().filter(|n| *n != home).collect();
    let other_rack = |n: &&&NodeId| home_rack.is_some() && rack_of(n) != home_rack;
    let far: Vec<&NodeId> = others.iter().filter(other_rack).copied().collect();
    let candidates = if far.is_empty() { others } else { far };
    candidates.into_iter().max_by_key(|node| (hash([vm.get().as_bytes(), node.as_str().as_bytes()]), *node))
}

/// Returns what is to be done. `may_place` says whether a watcher can be created on a node now.
pub(super) fn plan(state: &State, may_place: impl Fn(&NodeId) -> bool) -> Plan {
    let mut plan = Plan::default();
    let mut usable: BTreeMap<&NodeId, Vec<WatcherId>> = BTreeMap::new();
    for watcher in state.watchers().values() {
        match watcher.life {
            WatcherLife::Placed | WatcherLife::Live => usable.entry(&watcher.node).or_default().push(watcher.id),
            WatcherLife::Lost => plan.retire.push(watcher.id),
            WatcherLife::Retired => {}
        }
    }
    let hosts: Vec<&NodeId> = state.nodes().values().filter(|n| n.hosts_watchers).map(|n| &n.id).collect();
    let ready: Vec<&NodeId> = hosts.iter().copied().filter(|n| usable.contains_key(n)).collect();
    let host_set: BTreeSet<&NodeId> = hosts.iter().copied().collect();

    let mut load: BTreeMap<&NodeId, Vec<VmId>> = BTreeMap::new();
    for (vm, record) in state.vms() {
        let home = host_set.get(&record.node).copied();
        // Whoever can look now does; only while nobody can is the place of one that is still to come counted.
        let away = elsewhere(state, *vm, &record.node, &ready).or_else(|| elsewhere(state, *vm, &record.node, &hosts));
        plan.thin +=
            usize::from(home.is_none_or(|n| !usable.contains_key(n)) || away.is_none_or(|n| !usable.contains_key(n)));
        for node in home.into_iter().chain(away) {
            load.entry(node).or_default().push(*vm);
        }
    }

    let none = Vec::new();
    for node in &hosts {
        let vms = load.get(node).unwrap_or(&none);
        let watchers = usable.get(node).map_or(&[][..], Vec::as_slice);
        let needed = vms.len().div_ceil(WATCHER_VMS_MAX).max(1);
        if watchers.len() < needed && may_place(node) {
            plan.place.push((*node).clone());
        }
        let (kept, surplus) = watchers.split_at(watchers.len().min(needed));
        plan.retire.extend(surplus);
        let mut chunks = vms.chunks(WATCHER_VMS_MAX);
        for watcher in kept {
            let vms = chunks.next().unwrap_or_default();
            if state.watchers().get(watcher).is_some_and(|w| w.vms != vms) {
                plan.assign.push((*watcher, vms.to_vec()));
            }
        }
    }
    for (node, watchers) in &usable {
        if !host_set.contains(*node) {
            plan.retire.extend(watchers);
        }
    }
    plan
}

#[cfg(test)]
mod tests;
