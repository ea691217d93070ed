//! The latest observation of every check, and which of them a manager has not been told.
//!
//! Every change (outcome or reason) raises a version. A stream is told what has changed since the version that it was
//! told last, and of all the rest only how old it is at most.

use std::time::Duration;

use vouch_types::{Identity, ManagerId, Moment, Outcome, RelayOutcome};

use super::{CheckNumber, Ended, TickStamp};

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
}

impl Entry {
    /// Returns the observation of a run.
    pub fn new(begun: Moment, ticks: TickStamp, took: Duration, ended: Ended) -> Self {
        Self { begun, ticks, ended, took }
    }
}

/// The latest observation of every check.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By number.
    entries: Vec<Option<Entry>>,
    /// By number as well: every report walks over all of these, and over few of the entries.
    dates: Vec<Option<Dates>>,
    version: u64,
}

/// When an observation was made, and when it last was another one.
#[derive(Debug, Clone, Copy)]
struct Dates {
    begun: Moment,
    /// The version at which it last changed.
    changed: u64,
}

#[derive(PartialEq, Eq)]
enum Word<'a> {
    Probe(Outcome, &'a str, Option<Identity>),
    Relay(RelayOutcome, &'a [ManagerId]),
}

fn word(ended: &Ended) -> Word<'_> {
    match ended {
        Ended::Probe { outcome, reason, identity, message: _, findings: _, conduct: _ } => {
            Word::Probe(*outcome, reason, *identity)
        }
        Ended::Relay { outcome, hears, statements: _ } => Word::Relay(*outcome, hears),
    }
}

impl Ledger {
    /// Returns the version of the last change; 0 before the first.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Records what a run found, unless a run that began later is recorded already.
    pub fn record(&mut self, check: CheckNumber, begun: Moment, ticks: TickStamp, took: Duration, ended: Ended) {
        let at = check.get();
        if self.entries.len() <= at {
            self.entries.resize(at + 1, None);
            self.dates.resize(at + 1, None);
        }
        let last = self.dates[at].as_ref();
        if last.is_some_and(|last| last.begun > begun) {
            return;
        }
        let same = self.entries[at].as_ref().is_some_and(|last| word(&last.ended) == word(&ended));
        let changed = match last {
            Some(last) if same => last.changed,
            Some(_) | None => {
                self.version += 1;
                self.version
            }
        };
        self.dates[at] = Some(Dates { begun, changed });
        self.entries[at] = Some(Entry::new(begun, ticks, took, ended));
    }

    /// Gives every check its new number, and forgets those that get none.
    pub fn renumber(&mut self, number: impl Fn(CheckNumber) -> Option<CheckNumber>) {
        let old = std::mem::take(self);
        self.version = old.version;
        for (at, (entry, dates)) in old.entries.into_iter().zip(old.dates).enumerate() {
            let Some(to) = number(CheckNumber::at(at)).map(CheckNumber::get) else { continue };
            if self.entries.len() <= to {
                self.entries.resize(to + 1, None);
                self.dates.resize(to + 1, None);
            }
            (self.entries[to], self.dates[to]) = (entry, dates);
        }
    }

    /// Returns the observation of a check.
    pub fn get(&self, check: CheckNumber) -> Option<&Entry> {
        self.entries.get(check.get())?.as_ref()
    }

    /// Returns the checks of which there is an observation.
    pub fn all(&self) -> Vec<CheckNumber> {
        let known = self.dates.iter().enumerate().filter(|(_, dates)| dates.is_some());
        known.map(|(at, _)| CheckNumber::at(at)).collect()
    }

    /// Returns whose observation has changed after `version`, with up to `laggards_max` whose observations are as they
    /// were but began longer ago than `fresh`; and the age of the oldest of the others.
    ///
    /// A single slow target is told apart, so that it does not make the others look old.
    pub fn since(
        &self,
        version: u64,
        now: Moment,
        fresh: Duration,
        laggards_max: usize,
    ) -> (Vec<CheckNumber>, Duration) {
        // One walk: this runs for every report, and reports are many while targets come and go.
        let (mut told, mut lagging) = (Vec::new(), Vec::new());
        let (mut oldest, mut oldest_lagging) = (now, now);
        let fresh_from = now - fresh;
        for (at, dates) in self.dates.iter().enumerate() {
            let Some(dates) = dates else { continue };
            if dates.changed > version {
                told.push(CheckNumber::at(at));
            } else if dates.begun >= fresh_from {
                oldest = oldest.min(dates.begun);
            } else {
                oldest_lagging = oldest_lagging.min(dates.begun);
                if lagging.len() <= laggards_max {
                    lagging.push(CheckNumber::at(at));
                }
            }
        }
        if lagging.len() > laggards_max {
            return (told, now.since(oldest.min(oldest_lagging)));
        }
        if !lagging.is_empty() {
            told.append(&mut lagging);
            told.sort_unstable();
        }
        (told, now.since(oldest))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn relay(n: u8) -> CheckNumber {
        CheckNumber(u32::from(n))
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
        assert_eq!(ledger.get(relay(1)).unwrap().ended, found(RelayOutcome::Reached));
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
        assert_eq!(told, [relay(2)]);
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
            let mut manager: BTreeMap<CheckNumber, (Ended, Moment)> = BTreeMap::new();
            for (at, (n, outcome, report)) in (1u64..).zip(steps) {
                let now = Moment::from_micros(at * 10);
                ledger.record(relay(n), now, TickStamp::default(), Duration::ZERO, found(outcomes[outcome]));
                if report == 1 {
                    let (told, others) = ledger.since(told_version, now, Duration::from_micros(200), 2);
                    for (_, begun) in manager.values_mut() {
                        *begun = now - others;
                    }
                    for check in told {
                        let entry = ledger.get(check).expect("it is told");
                        manager.insert(check, (entry.ended.clone(), entry.begun));
                    }
                    told_version = ledger.version();
                    for check in ledger.all() {
                        let entry = ledger.get(check).expect("it is known");
                        let (ended, begun) = manager.get(&check).expect("every check has been told");
                        prop_assert_eq!(ended, &entry.ended);
                        prop_assert!(*begun <= entry.begun);
                    }
                }
            }
        }
    }
}
