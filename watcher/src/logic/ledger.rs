//! The latest observation of every check, and which of them a manager has not been told.
//!
//! Every change (outcome or reason) raises a version. A stream is told what has changed since the version that it was
//! told last, and of all the rest only how old it is at most.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Identity, ManagerId, Moment, Outcome, RelayOutcome};

use super::{Check, Ended, TickStamp};

/// The latest observation of one check.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When the run began.
    pub begun: Moment,
    /// The ticks that had come by then.
    pub ticks: TickStamp,
    /// What came of it.
    pub ended: Ended,
    /// How long it took.
    pub took: Duration,
    /// The version at which it last changed.
    changed: u64,
}

impl Entry {
    /// Returns the observation of a run.
    pub fn new(begun: Moment, ticks: TickStamp, took: Duration, ended: Ended) -> Self {
        Self { begun, ticks, ended, took, changed: 0 }
    }
}

/// The latest observation of every check.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Check, Entry>,
    version: u64,
}

#[derive(PartialEq, Eq)]
enum Word<'a> {
    Probe(Outcome, &'a str, Option<Identity>),
    Relay(RelayOutcome, &'a [ManagerId]),
}

fn word(ended: &Ended) -> Word<'_> {
    match ended {
        Ended::Probe { outcome, reason, identity, message: _ } => Word::Probe(*outcome, reason, *identity),
        Ended::Relay { outcome, hears, statements: _ } => Word::Relay(*outcome, hears),
    }
}

impl Ledger {
    /// Returns the version of the last change; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Records what a run found, unless a run that began later is recorded already.
    pub fn record(&mut self, check: Check, begun: Moment, ticks: TickStamp, took: Duration, ended: Ended) {
        let last = self.entries.get(&check);
        if last.is_some_and(|last| last.begun > begun) {
            return;
        }
        let changed = match last {
            Some(last) if word(&last.ended) == word(&ended) => last.changed,
            Some(_) | None => {
                self.version += 1;
                self.version
            }
        };
        self.entries.insert(check, Entry { changed, ..Entry::new(begun, ticks, took, ended) });
    }

    /// Forgets all checks but these.
    pub fn keep(&mut self, keep: impl Fn(&Check) -> bool) {
        self.entries.retain(|check, _| keep(check));
    }

    /// Returns all observations.
    pub fn all(&self) -> Vec<(&Check, &Entry)> {
        self.entries.iter().collect()
    }

    /// Returns what has changed after `version`, with up to `laggards_max` observations that are as they were but began
    /// longer ago than `fresh`; and the age of the oldest of the others.
    ///
    /// A single slow target is told apart, so that it does not make the others look old.
    pub fn since(
        &self,
        version: u64,
        now: Moment,
        fresh: Duration,
        laggards_max: usize,
    ) -> (Vec<(&Check, &Entry)>, Duration) {
        // One walk: this runs for every report, and reports are many while targets come and go.
        let (mut told, mut lagging) = (Vec::new(), Vec::new());
        let (mut oldest, mut oldest_lagging) = (Duration::ZERO, Duration::ZERO);
        for (check, entry) in &self.entries {
            let age = now.since(entry.begun);
            if entry.changed > version {
                told.push((check, entry));
            } else if age <= fresh {
                oldest = oldest.max(age);
            } else {
                oldest_lagging = oldest_lagging.max(age);
                if lagging.len() <= laggards_max {
                    lagging.push((check, entry));
                }
            }
        }
        if lagging.len() > laggards_max {
            return (told, oldest.max(oldest_lagging));
        }
        if !lagging.is_empty() {
            told.append(&mut lagging);
            told.sort_unstable_by_key(|(check, _)| *check);
        }
        (told, oldest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vouch_types::NodeId;

    use super::*;

    fn relay(n: u8) -> Check {
        Check::Relay { node: NodeId::new(&format!("n{n}")).unwrap() }
    }

    fn found(outcome: RelayOutcome) -> Ended {
        Ended::Relay { outcome, hears: Vec::new(), statements: Vec::new() }
    }

    #[test]
    fn an_older_run_that_ends_later_does_not_replace_a_younger_one() {
        let mut ledger = Ledger::default();
        let took = Duration::ZERO;
        ledger.record(relay(1), Moment::from_micros(9), TickStamp::default(), took, found(RelayOutcome::Reached));
        ledger.record(relay(1), Moment::from_micros(5), TickStamp::default(), took, found(RelayOutcome::Silent));
        assert_eq!(ledger.all()[0].1.ended, found(RelayOutcome::Reached));
        assert_eq!(ledger.version(), 1);
    }

    #[test]
    fn a_single_slow_target_does_not_make_the_others_look_old() {
        let mut ledger = Ledger::default();
        let (now, fresh) = (Moment::from_micros(1_000), Duration::from_micros(100));
        for (n, begun) in [(1, 950), (2, 100), (3, 980)] {
            let at = Moment::from_micros(begun);
            ledger.record(relay(n), at, TickStamp::default(), Duration::ZERO, found(RelayOutcome::Reached));
        }
        let (told, others) = ledger.since(3, now, fresh, 8);
        assert_eq!(told.iter().map(|(check, _)| (*check).clone()).collect::<Vec<_>>(), [relay(2)]);
        assert_eq!(others, Duration::from_micros(50));
        let (told, others) = ledger.since(3, now, fresh, 0);
        assert!(told.is_empty());
        assert_eq!(others, Duration::from_micros(900));
    }

    proptest! {
        /// What a manager rebuilds from reports is what the ledger holds, and no age is told too young.
        #[test]
        fn a_manager_that_gets_every_report_knows_every_outcome(
            steps in prop::collection::vec((0u8..5, 0usize..3, 0u8..2), 1..80),
        ) {
            let outcomes = [RelayOutcome::Reached, RelayOutcome::Silent, RelayOutcome::Stalled];
            let (mut ledger, mut told_version) = (Ledger::default(), 0);
            let mut manager: BTreeMap<Check, (Ended, Moment)> = BTreeMap::new();
            for (at, (n, outcome, report)) in (1u64..).zip(steps) {
                let now = Moment::from_micros(at * 10);
                ledger.record(relay(n), now, TickStamp::default(), Duration::ZERO, found(outcomes[outcome]));
                if report == 1 {
                    let (told, others) = ledger.since(told_version, now, Duration::from_micros(200), 2);
                    for (_, begun) in manager.values_mut() {
                        *begun = now - others;
                    }
                    for (check, entry) in told {
                        manager.insert(check.clone(), (entry.ended.clone(), entry.begun));
                    }
                    told_version = ledger.version();
                    for (check, entry) in ledger.all() {
                        let (ended, begun) = manager.get(check).expect("every check has been told");
                        prop_assert_eq!(ended, &entry.ended);
                        prop_assert!(*begun <= entry.begun);
                    }
                }
            }
        }
    }
}
