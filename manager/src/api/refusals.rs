//! How many refused uploads are recorded: whoever uploads in a loop cannot fill the log with what was refused.
//!
//! A pure record: the caller brings the time. Those that are too many are counted, and the next one that is recorded tells
//! how many there were.

use std::time::Duration;

use tokio::time::Instant;

/// How many refusals are recorded one after the other.
pub const REFUSALS_AT_ONCE: u32 = 10;
/// After how long there is room for one more. At this pace a manager makes 1,440 events a day of the 100,000 that are kept.
pub const REFUSAL_EVERY: Duration = Duration::from_secs(60);

/// The room for refusals that are recorded.
#[derive(Debug)]
pub struct RefusalRoom {
    room: u32,
    counted: Instant,
    unrecorded: u64,
}

impl RefusalRoom {
    /// Returns the whole room, as of now.
    pub fn new(now: Instant) -> Self {
        Self { room: REFUSALS_AT_ONCE, counted: now, unrecorded: 0 }
    }

    /// Returns how many refusals went unrecorded before this one if it is to be recorded; `None` if it is one of those.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        let whole = (now.saturating_duration_since(self.counted).as_secs() / REFUSAL_EVERY.as_secs())
            .min(REFUSALS_AT_ONCE.into());
        let gained = u32::try_from(whole).unwrap_or(REFUSALS_AT_ONCE);
        self.room = (self.room + gained).min(REFUSALS_AT_ONCE);
        self.counted = if self.room == REFUSALS_AT_ONCE { now } else { self.counted + REFUSAL_EVERY * gained };
        if self.room == 0 {
            self.unrecorded += 1;
            return None;
        }
        self.room -= 1;
        Some(std::mem::take(&mut self.unrecorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_recorded_at_once_then_one_per_minute_with_the_count_of_the_others() {
        let start = Instant::now();
        let mut room = RefusalRoom::new(start);
        for _ in 0..REFUSALS_AT_ONCE {
            assert_eq!(room.take(start), Some(0));
        }
        assert_eq!((room.take(start), room.take(start + REFUSAL_EVERY / 2)), (None, None));
        assert_eq!(room.take(start + REFUSAL_EVERY), Some(2));
        assert_eq!(room.take(start + REFUSAL_EVERY), None);
        assert_eq!(room.take(start + REFUSAL_EVERY * 3), Some(1), "two more fit");
        assert_eq!(room.take(start + REFUSAL_EVERY * 3), Some(0));
        assert_eq!(room.take(start + REFUSAL_EVERY * 3), None);
    }

    #[test]
    fn room_that_is_not_used_is_no_more_than_there_was() {
        let start = Instant::now();
        let mut room = RefusalRoom::new(start);
        let later = start + REFUSAL_EVERY * 1000;
        let taken = (0..100).filter(|_| room.take(later).is_some()).count();
        assert_eq!(taken, usize::try_from(REFUSALS_AT_ONCE).unwrap());
    }

    #[test]
    fn a_day_of_refusals_in_a_loop_is_so_many_events_and_no_more() {
        let start = Instant::now();
        let mut room = RefusalRoom::new(start);
        let seconds = 24 * 3600;
        let recorded = (0..seconds).filter(|s| room.take(start + Duration::from_secs(*s)).is_some()).count();
        assert!(recorded <= 1440 + 10, "{recorded}");
    }
}
