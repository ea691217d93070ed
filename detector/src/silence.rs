//! Whether this manager may say anything that rests on silence (rule 9).
//!
//! A detector that was started, or stalled, has heard nothing for a reason of its own. It waits out one window, in
//! which the living are heard again; time as a follower counts, because followers are fed the same.

use std::time::Duration;

use vouch_types::Moment;

/// The time in which this detector has listened without a gap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listening {
    since: Option<Moment>,
    last: Moment,
}

impl Listening {
    /// Notes that the detector is called now; returns whether it had stalled for longer than `gap`.
    pub fn note(&mut self, now: Moment, gap: Duration) -> bool {
        let stalled = self.since.is_some() && now.since(self.last) > gap;
        if stalled || self.since.is_none() {
            self.since = Some(now);
        }
        self.last = self.last.max(now);
        stalled
    }

    /// Returns since when it has listened without a gap.
    pub fn since(&self) -> Moment {
        self.since.unwrap_or_default()
    }

    /// Returns whether it has listened for a whole window.
    pub fn covers(&self, now: Moment, window: Duration) -> bool {
        self.since.is_some_and(|since| now.since(since) >= window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stalled_detector_listens_anew() {
        let (mut l, ms) = (Listening::default(), |n: u64| Moment::from_micros(n * 1000));
        let window = Duration::from_millis(2000);
        assert!(!l.covers(ms(0), window));
        l.note(ms(0), window / 2);
        l.note(ms(900), window / 2);
        l.note(ms(1800), window / 2);
        assert!(l.covers(ms(2000), window));
        assert!(l.note(ms(9000), window / 2), "seven seconds without a call are a stall");
        assert!(!l.covers(ms(9100), window));
    }
}
