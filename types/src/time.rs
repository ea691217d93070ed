//! Two times that must never be mixed: the monotonic `Moment`, which decides, and the `WallTime`, which only tells.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A point of one process's monotonic clock, in microseconds from an origin of its own.
///
/// Moments of two processes are never compared. All timers and ages are made of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);

    /// Returns the moment this many microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to this moment, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    /// The moment `d` earlier, or the origin when that lies before it.
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Wall-clock time in milliseconds since the Unix epoch. It is for people: no decision uses it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(u64);

impl WallTime {
    /// Returns the time this many milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_unix_millis(self) -> u64 {
        self.0
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC with milliseconds, as `2026-11-22T21:36:47.001Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = ((self.0 / 86_400_000) as i64, self.0 % 86_400_000);
        // Days to civil date, by the era method of 400-year cycles.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + i64::from(month <= 2);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1000)
    }
}

/// What the text of a time must be.
pub const TIME_RULE: &str = "RFC 3339, as 2026-11-22T21:36:47Z";

/// A text that is no time of RFC 3339.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("time {value:?}: must be {TIME_RULE}")]
pub struct TimeError {
    /// The text.
    pub value: String,
}

impl FromStr for WallTime {
    type Err = TimeError;
    /// Reads RFC 3339, section 5.6: with any offset; fractions beyond milliseconds are cut off.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let millis = unix_millis(text).and_then(|millis| u64::try_from(millis).ok());
        millis.map(Self).ok_or_else(|| TimeError { value: text.chars().take(80).collect() })
    }
}

/// Returns the number that stands at these bytes of a text, all of them digits.
fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    let digits = text.get(from..to)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn unix_millis(text: &str) -> Option<i64> {
    let is_at = |at: usize, mark: &str| text.get(at..=at).is_some_and(|have| have.eq_ignore_ascii_case(mark));
    if ![(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")].iter().all(|(at, mark)| is_at(*at, mark)) {
        return None;
    }
    let (year, month, day) = (number(text, 0, 4)?, number(text, 5, 7)?, number(text, 8, 10)?);
    let (hour, minute, second) = (number(text, 11, 13)?, number(text, 14, 16)?, number(text, 17, 19)?);
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?),
    };
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let offset = match (zone, zone.get(..1)) {
        ("Z" | "z", _) => 0,
        (_, Some(sign @ ("+" | "-"))) if zone.len() == 6 && zone.get(3..4) == Some(":") => {
            let (hours, minutes) = (number(zone, 1, 3)?, number(zone, 4, 6)?);
            let offset = hours * 60 + minutes;
            (hours < 24 && minutes < 60).then_some(if sign == "-" { -offset } else { offset })?
        }
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=12).contains(&month) || !(1..=days_of_month).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Civil date to days, the inverse of what `Display` does.
    let (y, m) = (year - i64::from(month <= 2), (month + 9) % 12);
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let days = era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute - offset) * 60_000 + second * 1000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_saturate_instead_of_wrapping() {
        assert_eq!(Moment::ZERO - Duration::from_secs(1), Moment::ZERO);
        assert_eq!(Moment::ZERO.since(Moment::from_micros(5)), Duration::ZERO);
        assert_eq!(Moment::from_micros(7).since(Moment::from_micros(5)), Duration::from_micros(2));
    }

    #[test]
    fn wall_time_prints_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_383_407_042, "2026-11-22T21:36:47.042Z"),
        ] {
            assert_eq!(WallTime::from_unix_millis(ms).to_string(), text);
        }
    }

    #[test]
    fn wall_time_reads_what_it_prints_and_any_offset() {
        for ms in [0, 951_782_400_000, 1_795_383_407_042, 4_107_542_399_999] {
            let time = WallTime::from_unix_millis(ms);
            assert_eq!(time.to_string().parse(), Ok(time));
        }
        for text in ["2026-11-22T22:36:47.0429+01:00", "2026-11-22t21:36:47.042z", "2026-11-22T16:06:47.042-05:30"] {
            assert_eq!(text.parse(), Ok(WallTime::from_unix_millis(1_795_383_407_042)), "{text}");
        }
        for bad in [
            "",
            "2026-11-22",
            "2026-11-22 21:36:47Z",
            "2026-11-22T21:36:47",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T21:36:47.Z",
            "2026-11-22T21:36:47+1:00",
            "2026-11-22T21:36:47++1:00",
            "2026ü1-22T21:36:47Z",
            "1969-12-31T23:59:59Z",
            "2026-11-22T21:36:4\u{fc}Z",
        ] {
            assert!(bad.parse::<WallTime>().is_err(), "{bad}");
        }
    }
}
