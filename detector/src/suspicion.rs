//! Looks into what is suspicious: asks the watchers of a VM again and again, for a while and for so many at a time.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::{Moment, VmId, WatcherId};

use crate::vm_track::Suspicion;
use crate::{Detector, Weight};

/// Rounds of asks about one suspicion; after them the ordinary schedule goes on.
pub(crate) const ROUNDS_MAX: u32 = 64;
/// How many VMs are looked into at a time: of more than that at once, a sample shows what they share.
pub const SUSPECTS_MAX: usize = 64;

/// When the suspects are to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Look {
    /// At the end of the next event: they are other ones than at the last look.
    #[default]
    Now,
    /// At this moment; for none, when they are other ones.
    NotBefore(Option<Moment>),
}

/// The VMs that are looked into.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// In the order in which they are looked into; some may be beyond suspicion again, until they are judged next.
    pub ids: BTreeSet<VmId>,
    /// When to look at them next.
    pub look: Look,
}

impl Suspects {
    /// Looks into this VM no more.
    pub fn forget(&mut self, id: &VmId) {
        if self.ids.remove(id) {
            self.look = Look::Now;
        }
    }
}

impl Detector {
    /// Asks about the VMs that were judged to be suspicious, and are to be asked about again.
    ///
    /// Every event ends here: until one of them is due, or the first of them are other ones, there is nothing to see.
    pub(crate) fn look_into(&mut self, now: Moment) {
        if self.leads.is_none() || self.suspects.look == Look::NotBefore(None) {
            return;
        }
        if matches!(self.suspects.look, Look::NotBefore(Some(at)) if now < at) {
            return;
        }
        let round = self.timing.burst_interval;
        let mut due: Vec<VmId> = Vec::new();
        let mut next: Option<Moment> = None;
        let mut under_way = 0;
        for id in &self.suspects.ids {
            let Some(vm) = self.vms.get(id).filter(|vm| vm.suspicion.rounds > 0) else { continue };
            under_way += 1;
            if under_way > SUSPECTS_MAX {
                break;
            }
            if vm.suspicion.rounds > ROUNDS_MAX {
                continue;
            }
            let again = match vm.suspicion.asked {
                Some(at) if now.since(at) < round => at + round,
                Some(_) | None => {
                    due.push(*id);
                    now + round
                }
            };
            next = Some(next.map_or(again, |next| next.min(again)));
        }
        self.suspects.look = Look::NotBefore(next);
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
            (true, 0) => {
                vm.suspicion.rounds = 1;
                self.suspects.ids.insert(id);
                self.suspects.look = Look::Now;
            }
            (true, 1..) => {}
            (false, 0) => self.suspects.forget(&id),
            (false, 1..) => {
                vm.suspicion = Suspicion::default();
                self.suspects.forget(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vouch_types::{ManagerId, Term, Timing};

    use super::*;

    fn id(number: u128) -> VmId {
        VmId::new(uuid::Uuid::from_u128(number))
    }

    #[test]
    fn what_is_suspected_again_after_an_excuse_is_looked_at_with_the_next_event() {
        let mut detector = Detector::new(ManagerId::new(1), Timing::default());
        detector.leads = Some(Term::new(1));
        detector.vms.put(crate::vm_track::tests::track());
        let at = |ms| Moment::ZERO + Duration::from_millis(ms);
        let asked = |detector: &Detector| detector.vms.get(&id(1)).and_then(|vm| vm.suspicion.asked);
        detector.suspect(id(1), true);
        detector.look_into(at(10));
        assert_eq!(asked(&detector), Some(at(10)));
        detector.look_into(at(20));
        assert_eq!(asked(&detector), Some(at(10)), "not before a round is over");
        detector.look_into(at(10) + detector.timing.burst_interval);
        assert_eq!(asked(&detector), Some(at(10) + detector.timing.burst_interval));
        // What excuses it leaves it where it is, until it is judged.
        detector.vms.get_mut(&id(1)).expect("it is known").suspicion = Suspicion::default();
        detector.suspect(id(1), true);
        detector.look_into(at(120));
        assert_eq!(asked(&detector), Some(at(120)));
        detector.suspect(id(1), false);
        assert!(detector.suspects.ids.is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_looked_into_at_a_time_and_the_next_one_follows() {
        let mut detector = Detector::new(ManagerId::new(1), Timing::default());
        detector.leads = Some(Term::new(1));
        let all = SUSPECTS_MAX as u128 + 1;
        for number in 1..=all {
            let mut vm = crate::vm_track::tests::track();
            vm.entry.vm = id(number);
            detector.vms.put(vm);
            detector.suspect(id(number), true);
        }
        let last = |detector: &Detector| detector.vms.get(&id(all)).and_then(|vm| vm.suspicion.asked);
        let now = Moment::ZERO + Duration::from_millis(10);
        detector.look_into(now);
        assert_eq!(last(&detector), None);
        detector.suspect(id(1), false);
        detector.look_into(now);
        assert_eq!(last(&detector), Some(now));
    }
}
