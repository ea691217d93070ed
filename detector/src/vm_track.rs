//! What the detector knows of one VM: its node's word, statements that watchers carried, and what probes saw.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Moment, Network, Observation, Outcome, ProbeName, Statement, Timing, WatcherId};

use crate::{VmEntry, VmWord};

/// The most observers of one VM; more are refused and counted.
pub const OBSERVERS_MAX: usize = 4;
/// The most probes of one VM that evidence is kept of, per observer.
pub const PROBES_MAX: usize = 8;

/// Who looked, over which network, with which probe.
pub(crate) type CheckKey = (WatcherId, Network, ProbeName);

/// What one observer saw with one probe.
#[derive(Clone, Debug)]
pub(crate) struct CheckTrack {
    /// The last observation.
    pub last: Observation,
    /// When the first of the failures in a row began; `None` while it does not fail.
    pub failing_since: Option<Moment>,
    /// Failures in a row that were told one by one.
    pub told_failures: u32,
    /// When the last check began that it answered.
    pub alive: Option<Moment>,
}

impl CheckTrack {
    fn new(seen: Observation) -> Self {
        let failing = seen.outcome == Outcome::Down;
        let alive = seen.outcome.is_sign_of_life().then_some(seen.begun);
        Self { failing_since: failing.then_some(seen.begun), told_failures: u32::from(failing), alive, last: seen }
    }

    /// Takes a later observation. A watcher tells them in their order; the moments are only as exact as the ticks that
    /// date them, so that one is dropped for its age only when it is older by more than `slack`.
    fn see(&mut self, seen: Observation, slack: Duration) {
        if seen.begun + slack < self.last.begun {
            return;
        }
        match seen.outcome {
            Outcome::Down => {
                // The same run told twice (by two managers' streams) is one failure.
                if seen.begun > self.last.begun || self.failing_since.is_none() {
                    self.told_failures += 1;
                }
                self.failing_since.get_or_insert(seen.begun);
            }
            Outcome::Up | Outcome::Degraded => {
                self.failing_since = None;
                self.told_failures = 0;
                self.alive = self.alive.max(Some(seen.begun));
            }
            // It could not look: that neither ends nor lengthens a row of failures.
            Outcome::Unknown => {}
        }
        self.last = seen;
    }

    /// Returns failures in a row, with those that went untold because nothing changed.
    pub fn failures(&self, begun: Moment, timing: &Timing) -> u32 {
        let Some(since) = self.failing_since else { return 0 };
        let untold = begun.since(since).as_micros() / timing.probe_interval.as_micros().max(1);
        self.told_failures.max(1 + u32::try_from(untold).unwrap_or(u32::MAX - 1))
    }
}

/// The suspicion that a VM's service fails, and how often watchers were asked about it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Suspicion {
    /// Rounds of asks so far.
    pub rounds: u32,
    /// When the last round was.
    pub asked: Option<Moment>,
}

/// One VM as evidence shows it.
#[derive(Clone, Debug)]
pub(crate) struct VmTrack {
    /// As recorded.
    pub entry: VmEntry,
    /// The last word of its node, heard by a manager.
    pub word: Option<(VmWord, Moment)>,
    /// The last statement that a watcher carried, when its check began, and who carried it.
    pub statement: Option<(Statement, Moment, WatcherId)>,
    /// What probes saw.
    pub checks: BTreeMap<CheckKey, CheckTrack>,
    /// Whether its service is being looked into.
    pub suspicion: Suspicion,
    /// Observations beyond the limits.
    pub refused: u64,
}

impl VmTrack {
    pub fn new(entry: VmEntry) -> Self {
        Self {
            entry,
            word: None,
            statement: None,
            checks: BTreeMap::new(),
            suspicion: Suspicion::default(),
            refused: 0,
        }
    }

    /// Takes an observation; one beyond the limits is refused and counted.
    pub fn see(&mut self, seen: Observation, slack: Duration) {
        let key = (seen.watcher, seen.network, seen.probe.clone());
        if let Some(check) = self.checks.get_mut(&key) {
            check.see(seen, slack);
            return;
        }
        let observers = self.checks.keys().map(|k| k.0).collect::<std::collections::BTreeSet<_>>();
        let own = self.checks.keys().filter(|k| k.0 == seen.watcher).count();
        let room = (observers.contains(&seen.watcher) || observers.len() < OBSERVERS_MAX) && own < PROBES_MAX;
        if room {
            self.checks.insert(key, CheckTrack::new(seen));
        } else {
            self.refused += 1;
        }
    }

    /// Takes a statement; one of an earlier life or position counts for nothing. Returns whether it was taken.
    pub fn state(&mut self, statement: Statement, begun: Moment, carrier: WatcherId) -> bool {
        let owned = statement.node == self.entry.node && statement.generation == self.entry.generation;
        let later = self.statement.as_ref().is_none_or(|(known, ..)| {
            (statement.incarnation, statement.sequence) >= (known.incarnation, known.sequence)
        });
        if owned && later {
            self.statement = Some((statement, begun, carrier));
        }
        owned && later
    }

    /// Returns whether this probe has ever succeeded for the VM.
    pub fn is_proven(&self, network: Network, probe: &ProbeName) -> bool {
        self.entry.proven.iter().any(|p| p.network == network && p.probe == *probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(begun: u64, outcome: Outcome) -> Observation {
        Observation {
            identity: None,
            watcher: WatcherId::new(1),
            vm: vouch_types::VmId::new(uuid::Uuid::from_u128(1)),
            network: Network::Service,
            probe: ProbeName::new("rdp").expect("a valid name"),
            outcome,
            reason: String::new(),
            message: String::new(),
            begun: Moment::from_micros(begun),
            asked: None,
        }
    }

    const SLACK: Duration = Duration::from_micros(100);

    #[test]
    fn a_later_check_that_is_dated_by_an_older_tick_is_not_dropped() {
        // The first one answered an ask, and is dated by the ask; the second began after it, and is dated by the last
        // tick that had come, which was sent before the ask.
        let mut check = CheckTrack::new(seen(1_000, Outcome::Up));
        check.see(seen(950, Outcome::Down), SLACK);
        assert_eq!(check.last.outcome, Outcome::Down);
    }

    #[test]
    fn a_check_that_a_stalled_stream_brings_late_is_dropped() {
        let mut check = CheckTrack::new(seen(1_000, Outcome::Down));
        check.see(seen(850, Outcome::Up), SLACK);
        assert_eq!(check.last.outcome, Outcome::Down);
        assert_eq!(check.told_failures, 1);
    }

    #[test]
    fn observers_and_probes_beyond_the_limits_are_refused_and_counted() {
        let entry = VmEntry {
            datastore: None,
            maintenance: String::new(),
            pins: Vec::new(),
            policy: vouch_types::Policy::default(),
            vm: vouch_types::VmId::new(uuid::Uuid::from_u128(1)),
            node: vouch_types::NodeId::new("n1").expect("a valid name"),
            generation: vouch_types::Generation::new(1),
            addresses: Vec::new(),
            probes: Vec::new(),
            proven: Vec::new(),
            verdict: vouch_types::Verdict::unjudged(vouch_types::WallTime::default()),
        };
        let mut vm = VmTrack::new(entry);
        for watcher in 1..=OBSERVERS_MAX as u64 + 1 {
            vm.see(Observation { watcher: WatcherId::new(watcher), ..seen(1, Outcome::Up) }, SLACK);
        }
        assert_eq!((vm.checks.len(), vm.refused), (OBSERVERS_MAX, 1));
        for probe in 1..=PROBES_MAX {
            let probe = ProbeName::new(&format!("p{probe}")).expect("a valid name");
            vm.see(Observation { probe, ..seen(1, Outcome::Up) }, SLACK);
        }
        assert_eq!((vm.checks.len(), vm.refused), (OBSERVERS_MAX + PROBES_MAX - 1, 2));
    }
}
