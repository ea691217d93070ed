//! Which tick of which manager came last: what an observation echoes to show how fresh it is.
//!
//! A run takes a [`TickStamp`] when it begins, and every manager is later told the tick that *it* had sent on the stream
//! by then. Ticks that come after the beginning never count for the run, or its word would look younger than it is.

use std::sync::Arc;
use std::time::Duration;

use vouch_types::{Moment, TickSequence};

use super::SessionId;

/// Streams are few: a look at all of them is the quickest way to one.
type Last = Arc<[(SessionId, TickSequence, Moment)]>;

/// The last tick of every open stream.
#[derive(Debug, Default)]
pub struct Ticks {
    last: Last,
}

/// The last tick of every stream at one moment; cheap to clone, shared by all runs that begin between two ticks.
#[derive(Debug, Clone, Default)]
pub struct TickStamp {
    last: Last,
}

fn find(last: &Last, session: SessionId) -> Option<(TickSequence, Moment)> {
    last.iter().find(|(known, ..)| *known == session).map(|(_, tick, came)| (*tick, *came))
}

impl Ticks {
    /// Records a tick. A number that is not above the last one of the stream changes nothing.
    pub fn record(&mut self, now: Moment, session: SessionId, tick: TickSequence) {
        if find(&self.last, session).is_none_or(|(last, _)| tick > last) {
            let others = self.last.iter().filter(|(other, ..)| *other != session);
            self.last = others.copied().chain([(session, tick, now)]).collect();
        }
    }

    /// Forgets a stream.
    pub fn forget(&mut self, session: SessionId) {
        self.last = self.last.iter().filter(|(other, ..)| *other != session).copied().collect();
    }

    /// Returns the last ticks as they are now.
    pub fn stamp(&self) -> TickStamp {
        TickStamp { last: Arc::clone(&self.last) }
    }
}

impl TickStamp {
    /// Returns the last tick on the stream at the time of the stamp, 0 for none, and how long before `begun` it came.
    pub fn on(&self, session: SessionId, begun: Moment) -> (TickSequence, Duration) {
        match find(&self.last, session) {
            Some((tick, came)) => (tick, begun.since(came)),
            None => (TickSequence::default(), Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stamp_does_not_see_ticks_that_come_after_it() {
        let (mut ticks, session) = (Ticks::default(), SessionId(1));
        ticks.record(Moment::from_micros(10), session, TickSequence::new(4));
        let stamp = ticks.stamp();
        ticks.record(Moment::from_micros(20), session, TickSequence::new(5));
        let begun = Moment::from_micros(13);
        assert_eq!(stamp.on(session, begun), (TickSequence::new(4), Duration::from_micros(3)));
        assert_eq!(stamp.on(SessionId(2), begun), (TickSequence::default(), Duration::ZERO));
    }

    proptest! {
        #[test]
        fn the_echoed_tick_is_the_highest_that_came_before_the_stamp(numbers in prop::collection::vec(1u64..50, 1..40), cut in 0usize..40) {
            let (mut ticks, session) = (Ticks::default(), SessionId(7));
            let cut = cut.min(numbers.len());
            for (at, number) in (0u64..).zip(&numbers[..cut]) {
                ticks.record(Moment::from_micros(at), session, TickSequence::new(*number));
            }
            let stamp = ticks.stamp();
            for (at, number) in (100u64..).zip(&numbers[cut..]) {
                ticks.record(Moment::from_micros(at), session, TickSequence::new(*number));
            }
            let highest = numbers[..cut].iter().copied().max().unwrap_or(0);
            prop_assert_eq!(stamp.on(session, Moment::from_micros(99)).0, TickSequence::new(highest));
        }
    }
}
