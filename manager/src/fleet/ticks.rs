//! Which tick was sent when: what turns an echoed tick into a moment of this manager's clock.
//!
//! A sender echoes the last tick that it had when a check began, so the check began no earlier than that tick was sent.
//! Taking that moment makes every age an upper bound: word is never taken for fresher than it is.

use std::collections::VecDeque;

use vouch_types::{Moment, TickSequence};

/// How many ticks are remembered; an echo of an older one is stale.
pub const TICKS_KEPT: usize = 4_096;

/// The ticks of this manager's process, newest last.
#[derive(Debug, Default)]
pub struct TickRing {
    sent: VecDeque<Moment>,
    last: u64,
}

impl TickRing {
    /// Notes that the next tick is sent now, and returns its number.
    pub fn advance(&mut self, now: Moment) -> TickSequence {
        if self.sent.len() == TICKS_KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        self.last += 1;
        TickSequence::new(self.last)
    }

    /// Returns the number of the last tick, 0 before the first.
    pub fn last(&self) -> TickSequence {
        TickSequence::new(self.last)
    }

    /// Returns when a tick was sent; `None` for 0, for one that was never sent, and for one that is too old.
    pub fn sent(&self, tick: TickSequence) -> Option<Moment> {
        let behind = self.last.checked_sub(tick.get())?;
        let newest = self.sent.len().checked_sub(1)?;
        let position = newest.checked_sub(usize::try_from(behind).ok()?)?;
        if tick.get() == 0 { None } else { self.sent.get(position).copied() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_tick_gives_the_moment_it_was_sent_and_an_unknown_one_gives_none() {
        let mut ring = TickRing::default();
        assert_eq!(ring.sent(TickSequence::new(0)), None);
        for i in 1..=TICKS_KEPT as u64 + 10 {
            assert_eq!(ring.advance(Moment::from_micros(i * 100)), TickSequence::new(i));
        }
        let last = TICKS_KEPT as u64 + 10;
        assert_eq!(ring.sent(TickSequence::new(last)), Some(Moment::from_micros(last * 100)));
        assert_eq!(ring.sent(TickSequence::new(11)), Some(Moment::from_micros(1100)));
        assert_eq!(ring.sent(TickSequence::new(10)), None, "too old");
        assert_eq!(ring.sent(TickSequence::new(last + 1)), None, "never sent");
        assert_eq!(ring.sent(TickSequence::new(0)), None, "a sender without a tick");
    }
}
