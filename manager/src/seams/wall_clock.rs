//! Wall-clock time: for people. No decision uses it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vouch_types::WallTime;

use super::Clock;

/// Tells the time of day.
pub trait WallClock: Send + Sync + 'static {
    /// Returns the time of day.
    fn now(&self) -> WallTime;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWallClock;

impl WallClock for SystemWallClock {
    fn now(&self) -> WallTime {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock of a simulation: a given time plus what the (virtual) monotonic clock has counted.
#[derive(Clone, Copy, Debug)]
pub struct SimWallClock {
    clock: Clock,
    origin: WallTime,
}

impl SimWallClock {
    /// Returns a clock that shows `origin` now.
    pub fn starting_at(origin: WallTime) -> Self {
        let clock = Clock::start();
        let offset = clock.now().as_micros() / 1000;
        Self { clock, origin: WallTime::from_unix_millis(origin.as_unix_millis().saturating_sub(offset)) }
    }
}

impl WallClock for SimWallClock {
    fn now(&self) -> WallTime {
        WallTime::from_unix_millis(self.origin.as_unix_millis() + self.clock.now().as_micros() / 1000)
    }
}
