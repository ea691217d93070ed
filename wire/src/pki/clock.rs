//! The wall clock of TLS, adjustable: a watcher VM boots with whatever its RTC says, which may be 1970.
//!
//! Time is a base plus the monotonic clock, so that a step of the system clock changes nothing once it runs.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use vouch_types::WallTime;

/// Wall-clock time for certificate checks: a base that can be corrected, plus monotonic time.
#[derive(Debug)]
pub struct AdjustableTime {
    origin: Instant,
    base_millis: AtomicI64,
}

impl AdjustableTime {
    /// Returns a clock that starts at the system's time, or at `least` when that is later.
    pub fn at_least(least: WallTime) -> Self {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let least = Duration::from_millis(least.as_unix_millis());
        Self { origin: Instant::now(), base_millis: AtomicI64::new(millis(system.max(least))) }
    }

    /// Returns the time now.
    pub fn now(&self) -> WallTime {
        let now = self.base_millis.load(Ordering::Relaxed).saturating_add(millis(self.origin.elapsed()));
        WallTime::from_unix_millis(u64::try_from(now).unwrap_or(0))
    }

    /// Corrects the clock: it is `now` now.
    pub fn set(&self, now: WallTime) {
        let now = i64::try_from(now.as_unix_millis()).unwrap_or(i64::MAX);
        self.base_millis.store(now.saturating_sub(millis(self.origin.elapsed())), Ordering::Relaxed);
    }
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

impl TimeProvider for AdjustableTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.now().as_unix_millis())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_behind_the_stamp_of_its_node_starts_at_the_stamp() {
        let far = WallTime::from_unix_millis(32_503_680_000_000);
        assert!(AdjustableTime::at_least(far).now() >= far);
        assert!(AdjustableTime::at_least(WallTime::from_unix_millis(0)).now() > WallTime::from_unix_millis(1));
    }

    #[test]
    fn a_correction_moves_the_clock_both_ways() {
        let clock = AdjustableTime::at_least(WallTime::from_unix_millis(0));
        clock.set(WallTime::from_unix_millis(5_000));
        assert!((5_000..60_000).contains(&clock.now().as_unix_millis()));
    }
}
