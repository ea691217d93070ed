//! Counts down what is left of maintenance windows, and ends them.
//!
//! On the leader's monotonic clock: wall clocks decide nothing. What is left is recorded now and then; a new leader goes
//! on from there, so a window lasts longer by at most what its predecessor had not recorded, and never ends early.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{Command, DenyReason, MaintenanceId, MaintenanceRecord, Moment, Term};

use super::{Desk, Reconciler, ReconcilerReport, RoundError};

/// How often what is left is recorded.
pub const RECORD_INTERVAL: Duration = Duration::from_secs(10);

/// The windows as this leader counts them.
#[derive(Default)]
struct Countdown {
    ends: BTreeMap<MaintenanceId, Moment>,
    recorded: Option<Moment>,
}

/// What is to be proposed.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// Windows that are over.
    over: Vec<MaintenanceId>,
    /// What is left of the others, when it is time to record it.
    remaining: Vec<(MaintenanceId, u64)>,
}

impl Countdown {
    /// Returns what is due at a moment, by the windows as they are recorded.
    fn due(&mut self, now: Moment, windows: &[MaintenanceRecord]) -> Due {
        self.ends.retain(|id, _| windows.iter().any(|window| window.id == *id));
        for window in windows {
            // A window that this leader sees for the first time has what its predecessor left of it.
            self.ends.entry(window.id).or_insert(now + window.remaining);
        }
        let (over, going): (Vec<_>, Vec<_>) = self.ends.iter().partition(|(_, end)| **end <= now);
        let record = now.since(*self.recorded.get_or_insert(now)) >= RECORD_INTERVAL;
        let millis = |end: Moment| u64::try_from(end.since(now).as_millis()).unwrap_or(u64::MAX);
        let remaining =
            if record { going.into_iter().map(|(id, end)| (*id, millis(*end))).collect() } else { Vec::new() };
        if record {
            self.recorded = Some(now);
        }
        Due { over: over.into_iter().map(|(id, _)| *id).collect(), remaining }
    }
}

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct MaintenanceReconciler(Countdown);

#[async_trait]
impl Reconciler for MaintenanceReconciler {
    fn name(&self) -> &'static str {
        "maintenance"
    }

    fn reset(&mut self) {
        self.0 = Countdown::default();
    }

    async fn round(&mut self, desk: &Desk, _term: Term) -> Result<ReconcilerReport, RoundError> {
        let windows = desk.consensus.read_state(|state| state.maintenances().to_vec());
        let Due { over, remaining } = self.0.due(desk.clock.now(), &windows);
        for maintenance in over {
            let command = Command::EndMaintenance { maintenance, at: desk.wall_clock.now() };
            match desk.propose(command).await {
                Ok(_) => tracing::info!(maintenance = %maintenance, "maintenance window is over"),
                // An operator was faster.
                Err(RoundError::Denied { reason: DenyReason::UnknownMaintenance(_), .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !remaining.is_empty() {
            desk.propose(Command::RecordMaintenance { remaining }).await?;
        }
        Ok(ReconcilerReport::default())
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{PolicyScope, WallTime};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOTHING: Due = Due { over: Vec::new(), remaining: Vec::new() };

    fn id(number: u64) -> MaintenanceId {
        MaintenanceId::new(number)
    }

    fn window(number: u64, remaining: Duration) -> MaintenanceRecord {
        MaintenanceRecord {
            index: vouch_types::LogIndex::new(number),
            id: id(number),
            scope: PolicyScope::Cluster,
            reason: "new firmware".to_owned(),
            remaining,
            // Long ago, or far in the future: nobody looks at it.
            begun: WallTime::from_unix_millis(0),
        }
    }

    fn at(seconds: u32) -> Moment {
        Moment::ZERO + SECOND * seconds
    }

    #[test]
    fn a_window_is_over_when_its_time_has_passed_on_this_clock() {
        let (mut countdown, windows) = (Countdown::default(), [window(1, 9 * SECOND), window(2, 60 * SECOND)]);
        assert_eq!(countdown.due(at(100), &windows), NOTHING);
        assert_eq!(countdown.due(at(108), &windows), NOTHING);
        assert_eq!(countdown.due(at(109), &windows), Due { over: vec![id(1)], ..NOTHING });
        assert_eq!(countdown.due(at(109), &windows[1..]), NOTHING, "it is forgotten once it is ended");
    }

    #[test]
    fn what_is_left_is_recorded_every_ten_seconds_and_no_more_often() {
        let (mut countdown, windows) = (Countdown::default(), [window(1, 60 * SECOND)]);
        let recorded: Vec<_> = (0..=25)
            .map(|second| (second, countdown.due(at(second), &windows).remaining))
            .filter(|(_, remaining)| !remaining.is_empty())
            .collect();
        assert_eq!(recorded, [(10, vec![(id(1), 50_000)]), (20, vec![(id(1), 40_000)])]);
    }

    #[test]
    fn a_new_leader_goes_on_from_what_is_recorded_and_not_from_the_beginning() {
        // Its own clock has another origin, and the window began at a time of day that is nonsense.
        let mut successor = Countdown::default();
        assert_eq!(successor.due(at(7_000), &[window(1, 40 * SECOND)]), NOTHING);
        assert_eq!(successor.due(at(7_039), &[window(1, 40 * SECOND)]).over, []);
        assert_eq!(successor.due(at(7_040), &[window(1, 40 * SECOND)]).over, [id(1)]);
    }

    #[test]
    fn a_window_that_could_not_be_ended_is_ended_in_the_next_round() {
        let (mut countdown, windows) = (Countdown::default(), [window(1, SECOND)]);
        countdown.due(at(0), &windows);
        assert_eq!(countdown.due(at(1), &windows).over, [id(1)]);
        assert_eq!(countdown.due(at(2), &windows).over, [id(1)]);
    }
}
