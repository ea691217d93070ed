//! Looks into what is suspicious: asks the watchers of a VM again and again, for a while and for so many at a time.

use std::collections::BTreeMap;

use vouch_types::{Moment, VmId, WatcherId};

use crate::vm_track::Suspicion;
use crate::{Detector, Weight};

/// Rounds of asks about one suspicion; after them the ordinary schedule goes on.
pub(crate) const ROUNDS_MAX: u32 = 64;
/// How many VMs are looked into at a time: of more than that at once, a sample shows what they share.
pub const SUSPECTS_MAX: usize = 64;

impl Detector {
    /// Asks about the VMs that were judged to be suspicious, and are to be asked about again.
    pub(crate) fn look_into(&mut self, now: Moment) {
        if self.leads.is_none() || self.restless.is_empty() {
            return;
        }
        let round = self.timing.burst_interval;
        let mut due: Vec<VmId> = Vec::new();
        let mut under_way = 0;
        for id in &self.restless {
            let Some(vm) = self.vms.get(id).filter(|vm| vm.suspicion.rounds > 0) else { continue };
            under_way += 1;
            if under_way > SUSPECTS_MAX {
                break;
            }
            let asked = vm.suspicion.asked.is_some_and(|at| now.since(at) < round);
            if !asked && vm.suspicion.rounds <= ROUNDS_MAX {
                due.push(*id);
            }
        }
        let mut plan: BTreeMap<WatcherId, Vec<VmId>> = BTreeMap::new();
        for id in due {
            let Some(vm) = self.vms.get(&id) else { continue };
            for watcher in self.watchers_of(vm) {
                plan.entry(watcher).or_default().push(id);
            }
            if let Some(vm) = self.vms.get_mut(&id) {
                vm.suspicion = Suspicion { rounds: vm.suspicion.rounds + 1, asked: Some(now) };
            }
        }
        for (watcher, vms) in plan {
            self.ask(now, watcher, Weight::Light, Vec::new(), vms);
        }
    }

    /// Notes whether a VM is suspicious now.
    pub(crate) fn suspect(&mut self, id: VmId, suspicious: bool) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        match (suspicious, vm.suspicion.rounds) {
            (true, 0) => vm.suspicion.rounds = 1,
            (false, 1..) => vm.suspicion = Suspicion::default(),
            (true, 1..) | (false, 0) => {}
        }
    }
}
