//! Says in the log that the wall clock was set, so that whoever reads times later knows. Nothing else follows from it.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;
use vouch_types::ManagerId;
use vouch_types::wall_clock_watch::{WALL_CLOCK_LOOK_EVERY, WallClockWatch};

use crate::seams::{Clock, WallClock};

/// The task; every manager runs it, whoever leads.
pub(super) struct WallClockTask {
    pub(super) own: ManagerId,
    pub(super) clock: Clock,
    pub(super) wall_clock: Arc<dyn WallClock>,
}

impl WallClockTask {
    pub(super) async fn run(self) {
        let mut watch = WallClockWatch::default();
        let mut interval = tokio::time::interval(WALL_CLOCK_LOOK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Some(step) = watch.look(self.clock.now(), self.wall_clock.now()) {
                tracing::warn!(manager_id = %self.own, %step, "wall clock was set");
            }
        }
    }
}
