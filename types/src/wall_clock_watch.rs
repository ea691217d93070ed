//! A wall clock held against the monotonic clock of the same machine: whether somebody has set it.
//!
//! Nothing is decided by a wall clock, so that a jump changes nothing; but times that people read are wrong by it, and a
//! log that doesn't say so leads them astray. Pure: the caller reads both clocks and logs what comes of it.

use std::fmt;
use std::time::Duration;

use crate::{Moment, WallTime};

/// How far the two clocks may come apart between two looks: a clock that is slewed, and a process that is not run
/// between the two reads, stay below it.
pub const WALL_CLOCK_STEP_MIN: Duration = Duration::from_secs(2);
/// How often the clocks are to be looked at.
pub const WALL_CLOCK_LOOK_EVERY: Duration = Duration::from_secs(1);

/// By how much, and which way, a wall clock was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WallClockStep {
    /// To a later time.
    Forward(Duration),
    /// To an earlier time.
    Back(Duration),
}

impl fmt::Display for WallClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The two clocks are not read in one moment: to the nearest second.
        let seconds = |by: &Duration| (by.as_millis() + 500) / 1000;
        match self {
            Self::Forward(by) => write!(f, "forward by {} s", seconds(by)),
            Self::Back(by) => write!(f, "back by {} s", seconds(by)),
        }
    }
}

/// Both clocks as they were when they were last looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClockWatch {
    last: Option<(Moment, WallTime)>,
}

impl WallClockWatch {
    /// Takes both clocks as they are now, and returns by how much the wall clock was set since the last look.
    pub fn look(&mut self, now: Moment, wall: WallTime) -> Option<WallClockStep> {
        let (then, told) = self.last.replace((now, wall))?;
        let passed = u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX);
        let expected = told.as_unix_millis().saturating_add(passed);
        let by = Duration::from_millis(wall.as_unix_millis().abs_diff(expected));
        if by < WALL_CLOCK_STEP_MIN {
            return None;
        }
        Some(if wall.as_unix_millis() > expected { WallClockStep::Forward(by) } else { WallClockStep::Back(by) })
    }
}

/// How far a wall clock may be behind the newest time on record, which another machine may have read: more than clocks
/// that are kept right ever differ.
pub const WALL_CLOCK_BEHIND_MAX: Duration = Duration::from_secs(60);

/// Whether a wall clock is far behind what is on record: a machine that came up with a dead battery, say, or a leader
/// whose clock is ahead.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordsWatch {
    told: bool,
}

impl RecordsWatch {
    /// Takes the clock as it is now and the newest time on record, and returns how far it is behind; once, until it is
    /// right again.
    pub fn look(&mut self, wall: WallTime, newest: WallTime) -> Option<Duration> {
        let behind = Duration::from_millis(newest.as_unix_millis().saturating_sub(wall.as_unix_millis()));
        let is_far = behind > WALL_CLOCK_BEHIND_MAX;
        let before = std::mem::replace(&mut self.told, is_far);
        (is_far && !before).then_some(behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_far_behind_the_records_is_told_once_until_it_is_right() {
        let at = |seconds: u64| WallTime::from_unix_millis(seconds * 1000);
        let mut watch = RecordsWatch::default();
        assert_eq!(watch.look(at(1_000), at(1_060)), None, "the bound itself");
        assert_eq!(watch.look(at(1_000), at(1_061)), Some(Duration::from_secs(61)));
        assert_eq!(watch.look(at(1_001), at(1_062)), None, "it was told");
        assert_eq!(watch.look(at(2_000), at(1_062)), None, "it was set right");
        assert_eq!(watch.look(at(0), at(1_062)), Some(Duration::from_secs(1_062)));
    }

    #[test]
    fn a_step_is_told_to_the_nearest_second() {
        assert_eq!(WallClockStep::Back(Duration::from_millis(3_599_999)).to_string(), "back by 3600 s");
        assert_eq!(WallClockStep::Forward(Duration::from_millis(3_600_400)).to_string(), "forward by 3600 s");
    }

    fn at(watch: &mut WallClockWatch, monotonic_ms: u64, wall_ms: u64) -> Option<WallClockStep> {
        watch.look(Moment::from_micros(monotonic_ms * 1000), WallTime::from_unix_millis(wall_ms))
    }

    #[test]
    fn a_clock_that_goes_with_the_monotonic_one_was_not_set_however_long_nobody_looked() {
        let mut watch = WallClockWatch::default();
        assert_eq!(at(&mut watch, 0, 1_000_000), None, "the first look has nothing to compare");
        assert_eq!(at(&mut watch, 1_000, 1_001_000), None);
        assert_eq!(at(&mut watch, 60_000, 1_060_500), None, "slewed");
    }

    #[test]
    fn a_step_of_an_hour_is_told_once_with_its_direction() {
        let mut watch = WallClockWatch::default();
        assert_eq!(at(&mut watch, 0, 10_000_000), None);
        let hour = Duration::from_secs(3600);
        assert_eq!(at(&mut watch, 1_000, 13_601_000), Some(WallClockStep::Forward(hour)));
        assert_eq!(at(&mut watch, 2_000, 13_602_000), None);
        let back = at(&mut watch, 3_000, 10_003_000).expect("it was set back");
        assert_eq!((back, back.to_string().as_str()), (WallClockStep::Back(hour), "back by 3600 s"));
    }

    #[test]
    fn the_least_step_that_is_told_is_the_limit() {
        let limit = u64::try_from(WALL_CLOCK_STEP_MIN.as_millis()).expect("it fits");
        let mut watch = WallClockWatch::default();
        assert_eq!(at(&mut watch, 0, 10_000), None);
        assert_eq!(at(&mut watch, 0, 10_000 + limit - 1), None);
        assert_eq!(at(&mut watch, 0, 10_000 + 2 * limit - 1), Some(WallClockStep::Forward(WALL_CLOCK_STEP_MIN)));
    }
}
