//! The monotonic clock of one manager process.

use std::time::Duration;

use tokio::time::Instant;
use vouch_types::Moment;

/// The monotonic clock of one manager process: all timers and ages are on it.
///
/// Its origin lies an hour before the process started, so that subtracting an age never reaches the origin.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

/// How far before the start of the process the origin lies.
const HEAD_START: Duration = Duration::from_secs(3600);

impl Clock {
    /// Returns a clock that starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Returns this moment.
    pub fn now(&self) -> Moment {
        Moment::ZERO + HEAD_START + self.started.elapsed()
    }

    /// Returns the instant of a moment, for timers; the start of the process for earlier ones.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.started + moment.since(Moment::ZERO + HEAD_START)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_paused_time_and_converts_both_ways() {
        let clock = Clock::start();
        let before = clock.now();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now().since(before), Duration::from_millis(1500));
        assert_eq!(clock.instant(clock.now()), Instant::now());
    }
}
