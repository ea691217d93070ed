//! What watchers last found with one probe, for the rollout of a new version of it.
//!
//! Of the canary all is told. Of the others a sample will do, and the whole of a large fleet would be copied twice a second.

use std::collections::BTreeMap;

use vouch_types::{AssignmentGeneration, Moment, Network, Outcome, ProbeName, VmId, WatcherId};

use super::Fleet;
use super::book::WatcherEntry;

/// The most checks that are told of one watcher that is not the canary.
pub const WORDS_PER_WATCHER_MAX: usize = 64;
/// The most checks that are told of all watchers that are not the canary.
pub const WORDS_OF_OTHERS_MAX: usize = 2_000;

/// What a watcher last found with a probe, and by which assignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ProbeWord {
    pub(crate) watcher: WatcherId,
    /// The assignment by which the watcher works.
    pub(crate) assignment: AssignmentGeneration,
    pub(crate) vm: VmId,
    pub(crate) network: Network,
    /// When the run began, at the latest.
    pub(crate) begun: Moment,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What the watchers that a manager hears itself last found with a probe.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ProbeWords {
    /// The checks: all of the canary, a sample of the others.
    pub(crate) words: Vec<ProbeWord>,
    /// How many checks each watcher has.
    pub(crate) checks: BTreeMap<WatcherId, usize>,
}

impl ProbeWords {
    fn of(watchers: &BTreeMap<WatcherId, WatcherEntry>, probe: &ProbeName, canary: Option<WatcherId>) -> Self {
        let mut told = Self::default();
        let mut of_others = 0;
        for (watcher, entry) in watchers {
            let is_canary = canary == Some(*watcher);
            let mut checks = 0;
            for ((vm, network, _), dated) in entry.words.observations.iter().filter(|((_, _, of), _)| of == probe) {
                checks += 1;
                if !is_canary {
                    if checks > WORDS_PER_WATCHER_MAX || of_others == WORDS_OF_OTHERS_MAX {
                        continue;
                    }
                    of_others += 1;
                }
                told.words.push(ProbeWord {
                    watcher: *watcher,
                    assignment: entry.words.assignment,
                    vm: *vm,
                    network: *network,
                    begun: dated.begun,
                    outcome: dated.seen.outcome,
                    reason: dated.seen.reason.clone(),
                    message: dated.seen.message.clone(),
                });
            }
            if checks > 0 {
                told.checks.insert(*watcher, checks);
            }
        }
        told
    }
}

impl Fleet {
    /// Returns what the watchers that this manager hears itself last found with a probe.
    pub(crate) fn probe_words(&self, probe: &ProbeName, canary: Option<WatcherId>) -> ProbeWords {
        ProbeWords::of(&self.book().watchers, probe, canary)
    }

    /// Returns when each watcher last said anything to this manager, on its clock.
    pub(crate) fn watchers_heard(&self) -> BTreeMap<WatcherId, Moment> {
        let book = self.book();
        let last = |entry: &WatcherEntry| entry.sessions.iter().filter_map(|(_, s)| s.begun).max();
        book.watchers.iter().filter_map(|(watcher, entry)| Some((*watcher, last(entry)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vouch_types::TickSequence;
    use vouch_wire::convert::WireObservation;

    use super::super::watcher_words::Dated;
    use super::*;
    use crate::store::tests::samples;

    fn watcher(vms: usize) -> WatcherEntry {
        let of = |vm: usize, probe: &str| {
            let seen = WireObservation {
                vm: samples::vm_id(vm as u128),
                network: Network::Service,
                probe: ProbeName::new(probe).unwrap(),
                outcome: Outcome::Up,
                reason: "replied".to_owned(),
                message: String::new(),
                identity: None,
                begun: TickSequence::default(),
                begun_after: Duration::ZERO,
                took: Duration::ZERO,
            };
            Dated { seen, begun: Moment::ZERO }
        };
        let seen: Vec<_> = (1..=vms).flat_map(|vm| [of(vm, "ping"), of(vm, "rdp")]).collect();
        let mut entry = WatcherEntry::default();
        entry.words.see(&seen, &[]);
        entry
    }

    #[test]
    fn all_checks_of_the_canary_are_told_and_of_the_others_so_many() {
        let canary = WatcherId::new(3);
        let (per, most) = (WORDS_PER_WATCHER_MAX, WORDS_OF_OTHERS_MAX);
        let others = most / per + 2;
        let mut watchers: BTreeMap<WatcherId, WatcherEntry> =
            (10..10 + others as u64).map(|number| (WatcherId::new(number), watcher(per + 1))).collect();
        watchers.insert(canary, watcher(per * 2));
        watchers.insert(WatcherId::new(1), WatcherEntry::default());
        let told = ProbeWords::of(&watchers, &samples::ping().probe, Some(canary));
        let of = |w: u64| told.words.iter().filter(|word| word.watcher == WatcherId::new(w)).count();
        assert_eq!((of(3), of(10), told.words.len()), (per * 2, per, per * 2 + most));
        assert_eq!(told.checks.len(), others + 1, "one that has no such check is none");
        assert_eq!((told.checks[&canary], told.checks[&WatcherId::new(10)]), (per * 2, per + 1));
    }
}
