//! When each check is due.
//!
//! Every check has an interval, the cluster's or one of its own, and a phase of its own in the interval: a hash of the
//! check and the watcher's id, the same after every start. So the checks of one watcher are spread evenly, and the watchers
//! of one target look at different times. A check has one scheduled run in flight; one that is due while its last run has
//! not ended begins when that ends. Where there is no room for all that are due, the longest due begin first, of those
//! whose [`Lane`] has room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use vouch_types::{Digest, Moment, WatcherId};

use super::{Check, CheckNumber, Lane, Pace};

/// A check that is to be made again and again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// What is looked at.
    pub check: Check,
    /// SHA-256 of the component that does it, if one does.
    pub component: Option<Digest>,
    /// How often, where that is not as often as all others.
    pub interval: Option<Duration>,
}

#[derive(Debug)]
struct Plan {
    check: Check,
    lane: Lane,
    phase: u64,
    /// How often it runs, where that is not as often as all others.
    own: Option<Duration>,
    /// When it is due next. An entry of the queue of its lane unless a run is in flight.
    due: Moment,
    in_flight: bool,
}

/// When each check is due.
#[derive(Debug)]
pub struct Schedule {
    watcher: WatcherId,
    interval: Duration,
    /// By number.
    plans: Vec<Plan>,
    queues: BTreeMap<Lane, BTreeSet<(Moment, CheckNumber)>>,
}

impl Schedule {
    /// Returns an empty schedule.
    pub fn new(watcher: WatcherId, interval: Duration) -> Self {
        Self { watcher, interval: at_least_one(interval), plans: Vec::new(), queues: BTreeMap::new() }
    }

    /// Sets how often each check runs that has no interval of its own; those that wait are planned anew.
    pub fn set_interval(&mut self, now: Moment, interval: Duration) {
        let interval = at_least_one(interval);
        if interval == self.interval {
            return;
        }
        self.interval = interval;
        for plan in self.plans.iter_mut().filter(|plan| plan.own.is_none()) {
            plan.due = next_at(now, plan.phase, interval);
        }
        self.fill_queues();
    }

    /// Sets which checks there are, in the order of their numbers. Those that stay with their interval keep their times,
    /// the others are due within one interval.
    pub fn set_checks(&mut self, now: Moment, checks: impl IntoIterator<Item = Planned>) {
        let known = std::mem::take(&mut self.plans).into_iter().map(|plan| (plan.check.clone(), plan));
        let mut known: BTreeMap<Check, Plan> = known.collect();
        for Planned { check, component, interval } in checks {
            let own = interval.map(at_least_one);
            let interval = own.unwrap_or(self.interval);
            let plan = match known.remove(&check) {
                Some(plan) if plan.own == own => Plan { lane: Lane { component, ..plan.lane }, ..plan },
                known => {
                    let phase = phase_of(self.watcher, &check);
                    let (in_flight, pace) =
                        known.map_or((false, Pace::Prompt), |plan| (plan.in_flight, plan.lane.pace));
                    let lane = Lane { component, pace };
                    Plan { check, lane, phase, own, due: next_at(now, phase, interval), in_flight }
                }
            };
            self.plans.push(plan);
        }
        self.fill_queues();
    }

    fn fill_queues(&mut self) {
        self.queues.clear();
        for (at, plan) in self.plans.iter().enumerate().filter(|(_, plan)| !plan.in_flight) {
            self.queues.entry(plan.lane).or_default().insert((plan.due, CheckNumber::at(at)));
        }
    }

    /// Returns the first of those whose lane has room.
    fn first(&self, has_room: impl Fn(Lane) -> bool) -> Option<(Moment, CheckNumber)> {
        let first = |(lane, queue): (&Lane, &BTreeSet<_>)| queue.first().copied().filter(|_| has_room(*lane));
        self.queues.iter().filter_map(first).min()
    }

    /// Takes the check that has been due longest of those whose lane has room. It is in flight from now on.
    pub fn take_due(&mut self, now: Moment, has_room: impl Fn(Lane) -> bool) -> Option<CheckNumber> {
        let first = self.first(has_room).filter(|(at, _)| *at <= now)?;
        let plan = self.plans.get_mut(first.1.get())?;
        plan.in_flight = true;
        plan.due = next_at(now, plan.phase, plan.own.unwrap_or(self.interval));
        self.queues.entry(plan.lane).or_default().remove(&first);
        Some(first.1)
    }

    /// The scheduled run of a check has ended, so soon where that says anything.
    pub fn ended(&mut self, check: CheckNumber, pace: Option<Pace>) {
        if let Some(plan) = self.plans.get_mut(check.get())
            && plan.in_flight
        {
            plan.in_flight = false;
            plan.lane.pace = pace.unwrap_or(plan.lane.pace);
            self.queues.entry(plan.lane).or_default().insert((plan.due, check));
        }
    }

    /// Returns the lane that a check is in; none that is not there has company.
    pub fn lane(&self, check: CheckNumber) -> Lane {
        self.plans.get(check.get()).map_or(Lane { component: None, pace: Pace::Prompt }, |plan| plan.lane)
    }

    /// Returns when the next check is due whose lane has room; may lie in the past.
    pub fn next_due(&self, has_room: impl Fn(Lane) -> bool) -> Option<Moment> {
        self.first(has_room).map(|(at, _)| at)
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
pub(super) fn next_at(now: Moment, phase: u64, interval: Duration) -> Moment {
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

    fn planned(check: &Check, interval: Option<Duration>) -> Planned {
        Planned { check: check.clone(), component: None, interval }
    }

    /// These checks, none with an interval of its own.
    fn all(checks: &[Check]) -> Vec<Planned> {
        checks.iter().map(|check| planned(check, None)).collect()
    }

    fn room(_: Lane) -> bool {
        true
    }

    fn schedule(watcher: u64, checks: &[Check]) -> Schedule {
        let mut schedule = Schedule::new(WatcherId::new(watcher), SECOND);
        schedule.set_checks(Moment::ZERO, all(checks));
        schedule
    }

    fn queued(schedule: &Schedule) -> BTreeSet<(Moment, Check)> {
        let queued = schedule.queues.values().flatten();
        queued.map(|(at, check)| (*at, schedule.plans[check.get()].check.clone())).collect()
    }

    /// Runs the schedule with runs that end at once, and returns when each check began.
    fn begun(schedule: &mut Schedule, until: Moment) -> BTreeMap<Check, Vec<Moment>> {
        let mut begun: BTreeMap<Check, Vec<Moment>> = BTreeMap::new();
        while let Some(now) = schedule.next_due(room).filter(|at| *at < until) {
            while let Some(check) = schedule.take_due(now, room) {
                schedule.ended(check, None);
                begun.entry(schedule.plans[check.get()].check.clone()).or_default().push(now);
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
        assert_eq!(schedule.take_due(late, room), Some(CheckNumber(0)));
        assert_eq!(schedule.take_due(late + 5 * SECOND, room), None);
        schedule.ended(CheckNumber(0), Some(Pace::Slow));
        assert_eq!(schedule.take_due(late + 5 * SECOND, room), Some(CheckNumber(0)), "it was due while it ran");
    }

    #[test]
    fn each_check_runs_at_its_own_interval_and_always_at_the_same_phase_of_it() {
        let checks = relays(3);
        let own = [None, Some(3 * SECOND), Some(SECOND / 4)];
        let planned = || checks.iter().zip(own).map(|(check, interval)| planned(check, interval));
        let until = Moment::ZERO + 12 * SECOND;
        let mut schedule = schedule(1, &[]);
        schedule.set_checks(Moment::ZERO, planned());
        let first = begun(&mut schedule, until);
        for (check, interval) in checks.iter().zip([SECOND, 3 * SECOND, SECOND / 4]) {
            let times = &first[check];
            assert!(times.windows(2).all(|pair| pair[1].since(pair[0]) == interval), "{interval:?}: {times:?}");
            let count = until.since(Moment::ZERO).as_micros() / interval.as_micros();
            assert!((count - 1..=count).contains(&(times.len() as u128)), "{interval:?}: {times:?}");
        }
        let mut again = Schedule::new(WatcherId::new(1), SECOND);
        again.set_checks(Moment::ZERO, planned());
        assert_eq!(begun(&mut again, until), first);
    }

    #[test]
    fn a_check_that_gets_an_interval_of_its_own_is_planned_anew_and_the_others_keep_their_times() {
        let checks = relays(2);
        let mut schedule = schedule(1, &checks);
        let before: BTreeMap<_, _> = queued(&schedule).into_iter().map(|(at, check)| (check, at)).collect();
        let now = Moment::ZERO + SECOND / 2;
        schedule.set_checks(now, [planned(&checks[0], Some(SECOND / 10)), planned(&checks[1], None)]);
        let after: BTreeMap<_, _> = queued(&schedule).into_iter().map(|(at, check)| (check, at)).collect();
        assert!(after[&checks[0]] <= now + SECOND / 10, "{after:?}");
        assert_eq!(after[&checks[1]], before[&checks[1]]);
        schedule.set_interval(now, 5 * SECOND);
        let slower: BTreeMap<_, _> = queued(&schedule).into_iter().map(|(at, check)| (check, at)).collect();
        assert_eq!(slower[&checks[0]], after[&checks[0]], "the interval of the others is not its own");
    }

    #[test]
    fn a_run_in_flight_goes_on_when_its_check_gets_another_interval() {
        let checks = relays(1);
        let mut schedule = schedule(1, &checks);
        let now = Moment::ZERO + 2 * SECOND;
        assert_eq!(schedule.take_due(now, room), Some(CheckNumber(0)));
        schedule.set_checks(now, [planned(&checks[0], Some(SECOND / 10))]);
        assert_eq!(schedule.take_due(now + SECOND, room), None, "one run of a check at a time");
        schedule.ended(CheckNumber(0), Some(Pace::Prompt));
        assert_eq!(schedule.take_due(now + SECOND, room), Some(CheckNumber(0)));
    }

    #[test]
    fn a_check_without_room_waits_for_it_and_those_of_another_lane_do_not_wait_for_that() {
        let mut schedule = schedule(1, &relays(10));
        let late = Moment::ZERO + 10 * SECOND;
        let slow: Vec<CheckNumber> = (0..5).filter_map(|_| schedule.take_due(late, room)).collect();
        slow.iter().for_each(|check| schedule.ended(*check, Some(Pace::Slow)));
        let no_room_for_slow = |lane: Lane| lane.pace == Pace::Prompt;
        let later = late + 10 * SECOND;
        let begun: BTreeSet<_> = std::iter::from_fn(|| schedule.take_due(later, no_room_for_slow)).collect();
        assert!(begun.len() == 5 && slow.iter().all(|check| !begun.contains(check)), "{begun:?} but {slow:?}");
        assert_eq!(schedule.next_due(no_room_for_slow), None);
        // They keep their pace when the checks are told anew.
        schedule.set_checks(later, all(&relays(10)));
        assert_eq!(schedule.take_due(later, no_room_for_slow), None);
        let then: Vec<_> = std::iter::from_fn(|| schedule.take_due(later, room)).collect();
        assert_eq!(then.len(), 5, "the others are in flight");
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
            let before: BTreeSet<_> = queued(&schedule);
            schedule.set_checks(Moment::from_micros(at), all(&relays(kept + added)));
            prop_assert!(before.is_subset(&queued(&schedule)));
        }
    }
}
