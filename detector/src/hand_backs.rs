//! How often a node's own word came to rule again: two of a minute are told, more are flapping (rule 7).
//!
//! Hand-backs that count are kept as the moments until which they do, so that what is left of each can be recorded with
//! every change of the node's paths, and a leader that did not see them goes on from there.

use std::time::Duration;

use vouch_types::path::HAND_BACKS_MAX;
use vouch_types::{HandBack, Moment};

/// Hand-backs that are told as recoveries within the window of flapping (`Timing::flap_window`); more are flapping.
pub(crate) const RECOVERIES_MAX: usize = HAND_BACKS_MAX - 1;

/// The last hand-backs of one node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct HandBacks {
    /// Until when each counts, the latest last; at most [`HAND_BACKS_MAX`].
    until: Vec<Moment>,
}

impl HandBacks {
    /// Returns whether there have been too many to tell each.
    pub fn is_flapping(&self, now: Moment) -> bool {
        self.until.len() > RECOVERIES_MAX && self.until.last().is_some_and(|last| *last > now)
    }

    /// Returns whether the last one was at this moment or later; each counts for `window`.
    pub fn any_since(&self, moment: Moment, window: Duration) -> bool {
        self.until.last().is_some_and(|last| *last >= moment + window)
    }

    /// Takes one that is told now, and counts for `window`.
    pub fn note(&mut self, now: Moment, window: Duration) {
        self.forget(now);
        self.until.push(now + window);
        if self.until.len() > HAND_BACKS_MAX {
            self.until.remove(0);
        }
    }

    /// Returns what is to be recorded of them.
    pub fn record(&self, now: Moment) -> Vec<HandBack> {
        let mut counting = self.clone();
        counting.forget(now);
        counting.until.iter().map(|until| HandBack { left: until.since(now) }).collect()
    }

    /// Takes what was recorded, as of now. What is known here is finer, and stays where both speak of the same ones: the
    /// latest of both are the same, and so on backwards. One that is recorded as later by more than `slack` is later.
    pub fn take(&mut self, now: Moment, recorded: &[HandBack], window: Duration, slack: Duration) {
        self.forget(now);
        let first = recorded.len().saturating_sub(HAND_BACKS_MAX);
        let recorded: Vec<Moment> = recorded[first..].iter().map(|back| now + back.left.min(window)).collect();
        let (mut own, mut told) = (self.until.iter().rev(), recorded.iter().rev());
        let mut merged: Vec<Moment> = Vec::with_capacity(HAND_BACKS_MAX);
        loop {
            merged.push(match (own.next(), told.next()) {
                (Some(own), Some(told)) if *told > *own + slack => *told,
                (Some(own), Some(_) | None) => *own,
                (None, Some(told)) => *told,
                (None, None) => break,
            });
        }
        merged.reverse();
        self.until = merged;
    }

    /// Forgets those that count no more; while it flaps, all of them do.
    fn forget(&mut self, now: Moment) {
        if !self.is_flapping(now) {
            self.until.retain(|until| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const SLACK: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn noted(seconds: &[u64]) -> HandBacks {
        let mut backs = HandBacks::default();
        seconds.iter().for_each(|second| backs.note(at(*second), WINDOW));
        backs
    }

    #[test]
    fn two_of_a_minute_are_told_and_more_are_flapping_until_a_minute_is_stable() {
        assert!(!noted(&[0, 30]).is_flapping(at(31)));
        assert!(!noted(&[0, 30, 61]).is_flapping(at(62)), "the first counts no more");
        let mut backs = noted(&[0, 20, 40]);
        assert!(backs.is_flapping(at(99)) && !backs.is_flapping(at(100)));
        backs.note(at(99), WINDOW);
        assert!(backs.is_flapping(at(150)), "all count while it flaps");
    }

    #[test]
    fn a_leader_that_saw_none_of_them_goes_on_from_what_is_left_of_each() {
        let record = noted(&[0, 20, 40]).record(at(50));
        assert_eq!(record.iter().map(|back| back.left.as_secs()).collect::<Vec<_>>(), [10, 30, 50]);
        // Its own clock has just begun.
        let mut restored = HandBacks::default();
        restored.take(at(0), &record, WINDOW, SLACK);
        assert!(restored.is_flapping(at(49)) && !restored.is_flapping(at(50)));
        assert!(!restored.any_since(at(0), WINDOW), "they were before its time");
    }

    #[test]
    fn what_flaps_on_is_recorded_even_where_the_first_ones_are_long_over() {
        let mut backs = noted(&[0, 20, 40]);
        backs.note(at(90), WINDOW);
        let record = backs.record(at(110));
        assert_eq!(record.iter().map(|back| back.left.as_secs()).collect::<Vec<_>>(), [0, 0, 40]);
        let mut restored = HandBacks::default();
        restored.take(at(7), &record, WINDOW, SLACK);
        assert!(restored.is_flapping(at(46)) && !restored.is_flapping(at(47)));
    }

    #[test]
    fn a_follower_that_saw_them_itself_keeps_what_it_knows_and_counts_none_twice() {
        let mut follower = noted(&[0, 20]);
        let before = follower.clone();
        follower.take(at(25), &noted(&[0, 20]).record(at(24)), WINDOW, SLACK);
        assert_eq!(follower, before, "the command took a second");
        follower.take(at(25), &noted(&[20]).record(at(25)), WINDOW, SLACK);
        assert_eq!(follower, before, "its leader knows of fewer");
        follower.take(at(41), &noted(&[0, 20, 40]).record(at(40)), WINDOW, SLACK);
        assert!(follower.is_flapping(at(41)), "one more that it did not see");
    }

    #[test]
    fn more_than_are_kept_or_longer_than_they_can_last_are_cut_to_the_limits() {
        let mut backs = HandBacks::default();
        backs.take(at(0), &[HandBack { left: Duration::MAX }; HAND_BACKS_MAX + 2], WINDOW, SLACK);
        assert_eq!(backs.record(at(0)), [HandBack { left: WINDOW }; HAND_BACKS_MAX]);
    }
}
