//! Says in the log that the wall clock was set, or is far behind what is on record, so that whoever reads times later
//! knows. Nothing else follows from it.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;
use vouch_types::ManagerId;
use vouch_types::wall_clock_watch::{RecordsWatch, WALL_CLOCK_LOOK_EVERY, WallClockWatch};

use crate::raft::Consensus;
use crate::seams::{Clock, WallClock};

/// The task; every manager runs it, whoever leads.
pub(super) struct WallClockTask {
    pub(super) own: ManagerId,
    pub(super) clock: Clock,
    pub(super) wall_clock: Arc<dyn WallClock>,
    pub(super) consensus: Consensus,
}

impl WallClockTask {
    pub(super) async fn run(self) {
        let (mut watch, mut records) = (WallClockWatch::default(), RecordsWatch::default());
        let mut interval = tokio::time::interval(WALL_CLOCK_LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let wall = self.wall_clock.now();
            if let Some(step) = watch.look(self.clock.now(), wall) {
                tracing::warn!(manager_id = %self.own, %step, "wall clock was set");
            }
            let newest = self.consensus.read_state(|state| state.events().next_back().map(|event| event.at));
            if let Some(behind) = newest.and_then(|newest| records.look(wall, newest)) {
                let behind_seconds = behind.as_secs();
                tracing::warn!(
                    manager_id = %self.own,
                    behind_seconds,
                    "wall clock is far behind the newest event: set it right, or that of the manager that led then"
                );
            }
        }
    }
}
