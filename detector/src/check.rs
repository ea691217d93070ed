//! What one observer saw with one probe: the standing outcome, the row of failures, and the last sign of life.
//!
//! Messages, facts and samples stay outside: of a million checks this is kept, and nothing else.

use std::time::Duration;

use vouch_types::{Identity, Moment, Network, Observation, Outcome, ProbeName, WatcherId};

/// What one observer saw with one probe.
#[derive(Clone, Debug)]
pub(crate) struct CheckTrack {
    /// Who looked.
    pub watcher: WatcherId,
    /// Over which network.
    pub network: Network,
    /// With which probe.
    pub probe: ProbeName,
    /// What the last run came to.
    pub outcome: Outcome,
    /// Why, as one word.
    pub reason: Box<str>,
    /// Who answered.
    pub identity: Option<Identity>,
    /// When the last run began.
    pub begun: Moment,
    /// When the last run began that was answered.
    pub alive: Option<Moment>,
    /// From which confirmation of its watcher on "all others are unchanged" speaks of it too: the report that told it
    /// apart speaks of the others only.
    pub covered_from: u32,
    /// When the first of the failures in a row began; `None` while it does not fail.
    failing_since: Option<Moment>,
    /// Failures in a row that were told one by one.
    told_failures: u32,
    /// Failures of runs that began before this say nothing: the VM could not answer then, and everybody knew.
    excused: Moment,
}

impl CheckTrack {
    /// Returns the track of a first observation.
    pub fn new(seen: Observation) -> Self {
        let mut track = Self {
            watcher: seen.watcher,
            network: seen.network,
            probe: seen.probe.clone(),
            outcome: Outcome::Unknown,
            reason: Box::default(),
            identity: None,
            begun: Moment::ZERO,
            alive: None,
            covered_from: 0,
            failing_since: None,
            told_failures: 0,
            excused: Moment::ZERO,
        };
        track.see(seen, Duration::ZERO);
        track
    }

    /// Returns whether it is the track of this observer, network and probe.
    pub fn is_of(&self, watcher: WatcherId, network: Network, probe: &ProbeName) -> bool {
        self.watcher == watcher && self.network == network && self.probe == *probe
    }

    /// Takes a later observation; returns whether anything that is judged by changed. A watcher tells them in their
    /// order; the moments are only as exact as the ticks that date them, so that one is dropped for its age only when it
    /// is older by more than `slack`.
    pub fn see(&mut self, seen: Observation, slack: Duration) -> bool {
        if seen.begun + slack < self.begun {
            return false;
        }
        let same = self.outcome == seen.outcome && *self.reason == *seen.reason && self.identity == seen.identity;
        let was_quiet = self.failing_since.is_none();
        match seen.outcome {
            Outcome::Down if seen.begun < self.excused => {}
            Outcome::Down => {
                // The same run told twice (by two managers' streams) is one failure.
                if seen.begun > self.begun || self.failing_since.is_none() {
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
        if !same {
            self.outcome = seen.outcome;
            self.reason = seen.reason.into();
            self.identity = seen.identity;
        }
        self.begun = seen.begun;
        !(same && was_quiet && self.failing_since.is_none())
    }

    /// Forgets the row of failures: until `now` the VM had a good reason not to answer.
    pub fn excuse(&mut self, now: Moment) {
        self.excused = self.excused.max(now);
        self.failing_since = None;
        self.told_failures = 0;
    }

    /// Returns since when it has not been answered: its last answer, its last excuse, or its first run.
    pub fn silent_since(&self) -> Moment {
        self.alive.unwrap_or(self.begun).max(self.excused)
    }

    /// Returns whether the last run failed: time alone may then change what is judged.
    pub fn is_failing(&self) -> bool {
        self.outcome == Outcome::Down
    }

    /// Returns failures in a row, with those that went untold because nothing changed until `begun`.
    pub fn failures(&self, begun: Moment, interval: Duration) -> u32 {
        // What stands since before an excuse fails anew from there on.
        let standing = self.outcome == Outcome::Down && begun > self.excused && self.excused > Moment::ZERO;
        let Some(since) = self.failing_since.or(standing.then_some(self.excused)) else { return 0 };
        let untold = begun.since(since).as_micros() / interval.as_micros().max(1);
        self.told_failures.max(1 + u32::try_from(untold).unwrap_or(u32::MAX - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLACK: Duration = Duration::from_micros(100);

    fn seen(begun: u64, outcome: Outcome) -> Observation {
        Observation {
            watcher: WatcherId::new(1),
            vm: vouch_types::VmId::new(uuid::Uuid::from_u128(1)),
            network: Network::Service,
            probe: ProbeName::new("rdp").expect("a valid name"),
            outcome,
            reason: String::new(),
            message: String::new(),
            identity: None,
            begun: Moment::from_micros(begun),
            asked: None,
        }
    }

    #[test]
    fn a_later_check_that_is_dated_by_an_older_tick_is_not_dropped() {
        // The first one answered an ask, and is dated by the ask; the second began after it, and is dated by the last
        // tick that had come, which was sent before the ask.
        let mut check = CheckTrack::new(seen(1_000, Outcome::Up));
        check.see(seen(950, Outcome::Down), SLACK);
        assert_eq!(check.outcome, Outcome::Down);
    }

    #[test]
    fn a_check_that_a_stalled_stream_brings_late_is_dropped() {
        let mut check = CheckTrack::new(seen(1_000, Outcome::Down));
        check.see(seen(850, Outcome::Up), SLACK);
        assert_eq!(check.outcome, Outcome::Down);
        assert_eq!(check.failures(check.begun, Duration::from_secs(1)), 1);
    }

    #[test]
    fn failures_before_an_excuse_do_not_count_and_those_after_it_do() {
        let interval = Duration::from_micros(1_000);
        let at = Moment::from_micros;
        let mut check = CheckTrack::new(seen(1_000, Outcome::Down));
        check.see(seen(2_000, Outcome::Down), SLACK);
        check.excuse(at(5_000));
        assert_eq!(check.failures(at(5_000), interval), 0);
        assert_eq!(check.failures(at(8_000), interval), 4, "unchanged since, and checked again after the excuse");
        check.see(seen(4_990, Outcome::Down), SLACK);
        assert_eq!(check.failures(at(4_990), interval), 0, "it began before the excuse");
        check.see(seen(6_000, Outcome::Down), SLACK);
        assert_eq!(check.failures(at(6_000), interval), 1);
    }

    #[test]
    fn the_same_success_again_changes_nothing() {
        let mut check = CheckTrack::new(seen(1_000, Outcome::Up));
        assert!(!check.see(seen(2_000, Outcome::Up), SLACK));
        assert!(check.see(seen(3_000, Outcome::Down), SLACK));
        assert!(check.see(seen(4_000, Outcome::Down), SLACK), "one failure more is news");
        assert!(check.see(seen(5_000, Outcome::Up), SLACK));
    }
}
