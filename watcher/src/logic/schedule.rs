//! When each check is due.
//!
//! Every check has a phase of its own in the interval: a hash of the check and the watcher's id, the same after every
//! start. So the checks of one watcher are spread evenly, and the watchers of one target look at different times. A check
//! has one scheduled run in flight; one that is due while its last run has not ended begins when that ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use vouch_types::{Moment, WatcherId};

use super::Check;

#[derive(Debug)]
struct Plan {
    phase: u64,
    /// When it is due next. An entry of `queue` unless a run is in flight.
    due: Moment,
    in_flight: bool,
}

/// When each check is due.
#[derive(Debug)]
pub struct Schedule {
    watcher: WatcherId,
    interval: Duration,
    plans: BTreeMap<Check, Plan>,
    queue: BTreeSet<(Moment, Check)>,
}

impl Schedule {
    /// Returns an empty schedule.
    pub fn new(watcher: WatcherId, interval: Duration) -> Self {
        Self { watcher, interval: at_least_one(interval), plans: BTreeMap::new(), queue: BTreeSet::new() }
    }

    /// Sets how often each check runs; those that wait are planned anew.
    pub fn set_interval(&mut self, now: Moment, interval: Duration) {
        let interval = at_least_one(interval);
        if interval == self.interval {
            return;
        }
        self.interval = interval;
        self.queue.clear();
        for (check, plan) in &mut self.plans {
            plan.due = next_at(now, plan.phase, interval);
            if !plan.in_flight {
                self.queue.insert((plan.due, check.clone()));
            }
        }
    }

    /// Sets which checks there are. Those that stay keep their times, new ones are due within one interval.
    pub fn set_checks(&mut self, now: Moment, checks: impl IntoIterator<Item = Check>) {
        let mut kept = BTreeMap::new();
        for check in checks {
            let plan = self.plans.remove(&check).unwrap_or_else(|| {
                let phase = phase_of(self.watcher, &check);
                Plan { phase, due: next_at(now, phase, self.interval), in_flight: false }
            });
            kept.insert(check, plan);
        }
        self.plans = kept;
        self.queue = self.plans.iter().filter(|(_, p)| !p.in_flight).map(|(check, p)| (p.due, check.clone())).collect();
    }

    /// Takes the checks that are due, at most `room` of them, the longest due first. They are in flight from now on.
    pub fn take_due(&mut self, now: Moment, room: usize) -> Vec<Check> {
        let mut due = Vec::new();
        while due.len() < room && self.queue.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, check)) = self.queue.pop_first() else { break };
            if let Some(plan) = self.plans.get_mut(&check) {
                plan.in_flight = true;
                plan.due = next_at(now, plan.phase, self.interval);
                due.push(check);
            }
        }
        due
    }

    /// The scheduled run of a check has ended.
    pub fn ended(&mut self, check: &Check) {
        if let Some(plan) = self.plans.get_mut(check)
            && plan.in_flight
        {
            plan.in_flight = false;
            self.queue.insert((plan.due, check.clone()));
        }
    }

    /// Returns when the next check is due; may lie in the past when there was no room.
    pub fn next_due(&self) -> Option<Moment> {
        self.queue.first().map(|(at, _)| *at)
    }
}

fn at_least_one(interval: Duration) -> Duration {
    interval.max(Duration::from_millis(1))
}

/// A number that is the same in every life of the watcher.
fn phase_of(watcher: WatcherId, check: &Check) -> u64 {
    let mut hash = Sha256::new();
    hash.update(watcher.get().to_be_bytes());
    match check {
        Check::Probe { vm, network, probe } => {
            hash.update(vm.get().as_bytes());
            hash.update(network.as_str());
            hash.update(probe.as_str());
        }
        Check::Relay { node } => hash.update(node.as_str()),
    }
    let hash = hash.finalize();
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Returns the first moment after `now` that lies at the phase of an interval.
fn next_at(now: Moment, phase: u64, interval: Duration) -> Moment {
    let interval = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
    let (now, phase) = (now.as_micros(), phase % interval);
    let begin = now - now % interval;
    let at = if begin + phase > now { begin + phase } else { begin.saturating_add(interval).saturating_add(phase) };
    Moment::from_micros(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouch_types::NodeId;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn relays(count: u32) -> Vec<Check> {
        (0..count).map(|n| Check::Relay { node: NodeId::new(&format!("n{n}")).unwrap() }).collect()
    }

    fn schedule(watcher: u64, checks: &[Check]) -> Schedule {
        let mut schedule = Schedule::new(WatcherId::new(watcher), SECOND);
        schedule.set_checks(Moment::ZERO, checks.to_vec());
        schedule
    }

    /// Runs the schedule with runs that end at once, and returns when each check began.
    fn begun(schedule: &mut Schedule, until: Moment) -> BTreeMap<Check, Vec<Moment>> {
        let mut begun: BTreeMap<Check, Vec<Moment>> = BTreeMap::new();
        while let Some(now) = schedule.next_due().filter(|at| *at < until) {
            for check in schedule.take_due(now, usize::MAX) {
                schedule.ended(&check);
                begun.entry(check).or_default().push(now);
            }
        }
        begun
    }

    #[test]
    fn checks_are_spread_over_the_interval_and_not_begun_together() {
        let mut schedule = schedule(1, &relays(1000));
        let begun = begun(&mut schedule, Moment::ZERO + SECOND);
        for tenth in 0..10 {
            let (from, to) = (tenth * 100_000, (tenth + 1) * 100_000);
            let count = begun.values().flatten().filter(|at| (from..to).contains(&at.as_micros())).count();
            assert!((50..=160).contains(&count), "{count} of 1000 checks in tenth {tenth}");
        }
    }

    #[test]
    fn the_same_watcher_looks_at_the_same_times_and_another_at_others() {
        let (checks, until) = (relays(50), Moment::ZERO + SECOND);
        let first = begun(&mut schedule(1, &checks), until);
        assert_eq!(first, begun(&mut schedule(1, &checks), until));
        let other = begun(&mut schedule(2, &checks), until);
        let same = checks.iter().filter(|check| first.get(check) == other.get(check)).count();
        assert!(same < 3, "{same} of 50 checks at the same time");
    }

    #[test]
    fn a_check_whose_run_has_not_ended_is_not_begun_again() {
        let checks = relays(1);
        let mut schedule = schedule(1, &checks);
        let late = Moment::ZERO + 10 * SECOND;
        assert_eq!(schedule.take_due(late, 8).len(), 1);
        assert_eq!(schedule.take_due(late + 5 * SECOND, 8), []);
        schedule.ended(&checks[0]);
        assert_eq!(schedule.take_due(late + 5 * SECOND, 8).len(), 1, "it was due while it ran");
    }

    proptest! {
        #[test]
        fn every_check_runs_once_per_interval(watcher in 1u64..1000, count in 1u32..60, seconds in 1u64..10) {
            let checks = relays(count);
            let begun = begun(&mut schedule(watcher, &checks), Moment::ZERO + SECOND * u32::try_from(seconds).unwrap());
            for check in &checks {
                let times = begun.get(check).cloned().unwrap_or_default();
                prop_assert!(times.len() as u64 == seconds || times.len() as u64 + 1 == seconds, "{times:?}");
                prop_assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) == SECOND));
            }
        }

        #[test]
        fn checks_that_stay_keep_their_times(kept in 1u32..20, added in 0u32..20, at in 0u64..1_000_000) {
            let mut schedule = schedule(3, &relays(kept));
            let before: BTreeSet<_> = schedule.queue.iter().cloned().collect();
            schedule.set_checks(Moment::from_micros(at), relays(kept + added));
            prop_assert!(before.is_subset(&schedule.queue));
        }
    }
}
