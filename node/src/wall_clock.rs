//! Says in the log that the wall clock was set, so that whoever reads times later knows. Nothing else follows from it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use vouch_types::wall_clock_watch::{WALL_CLOCK_LOOK_EVERY, WallClockWatch};
use vouch_types::{Moment, NodeId, WallTime};

/// Looks at both clocks again and again.
pub async fn watch_wall_clock(node: NodeId) {
    let (mut watch, origin) = (WallClockWatch::default(), Instant::now());
    let mut beat = interval(WALL_CLOCK_LOOK_EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let wall = wall_now();
        if let Some(step) = watch.look(Moment::ZERO + origin.elapsed(), wall) {
            warn!(node_id = %node, %step, "wall clock was set");
        }
    }
}

/// Returns the time of day.
pub(crate) fn wall_now() -> WallTime {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
}
