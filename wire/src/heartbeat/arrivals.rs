//! Which of the other side's newest heartbeats arrived: replays are refused, reordering is not, and loss is counted.
//!
//! A long gap is an outage and not loss: what is expected starts anew after it, so that a path that was cut and is whole
//! again does not look lossy.

use super::HeartbeatError;

/// How many of the newest sequences are remembered: older ones count as replayed.
pub const WINDOW: u8 = 64;
/// Over how many of the newest sequences loss is counted: 10 s of heartbeats by default, in which a loss that has just
/// begun has to be told.
pub const LOSS_WINDOW: u8 = 48;
/// How many heartbeats in a row have to be missing to count as an outage: under 30 % loss that is one gap in 170,000.
pub const OUTAGE_GAP: u64 = 10;
/// How many heartbeats have to be expected before their loss is told: fewer say nothing.
pub const LOSS_EXPECTED_MIN: u8 = 16;

/// How many heartbeats arrived of how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LossCount {
    /// How many arrived.
    pub arrived: u8,
    /// How many were expected, at most [`LOSS_WINDOW`].
    pub expected: u8,
}

impl LossCount {
    /// Returns the share that was lost in per mille; 0 while fewer than [`LOSS_EXPECTED_MIN`] were expected.
    pub fn per_mille(self) -> u16 {
        if self.expected < LOSS_EXPECTED_MIN {
            return 0;
        }
        let (lost, expected) = (self.expected.saturating_sub(self.arrived), u16::from(self.expected));
        (u16::from(lost) * 1000 + expected / 2) / expected
    }
}

/// Where a heartbeat stands among those that came before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It is the newest.
    Newest,
    /// A newer one overtook it: it counts against loss alone.
    Late,
}

/// Which of the newest heartbeats of one life of the other side arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    highest: u64,
    /// Bit `i` says whether `highest - i` arrived.
    seen: u64,
    expected: u8,
}

impl Arrivals {
    /// Notes an arrival.
    ///
    /// # Errors
    /// [`HeartbeatError::Replayed`] for one that came before, or is too old to tell.
    pub fn note(&mut self, sequence: u64) -> Result<Arrival, HeartbeatError> {
        if sequence <= self.highest {
            let back = self.highest - sequence;
            let bit = if back < u64::from(WINDOW) { 1 << back } else { 0 };
            if bit == 0 || self.seen & bit != 0 {
                return Err(HeartbeatError::Replayed { sequence, highest: self.highest });
            }
            self.seen |= bit;
            return Ok(Arrival::Late);
        }
        let step = sequence - self.highest;
        let is_first = self.highest == 0;
        self.seen = if step < u64::from(WINDOW) { self.seen << step | 1 } else { 1 };
        self.expected = if is_first || step > OUTAGE_GAP {
            1
        } else {
            // At most the gap of an outage is added, so it fits.
            u8::try_from((u64::from(self.expected) + step).min(u64::from(LOSS_WINDOW))).unwrap_or(LOSS_WINDOW)
        };
        self.highest = sequence;
        Ok(Arrival::Newest)
    }

    /// Returns the highest sequence that arrived, 0 for none.
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Returns how many arrived of those that were expected lately.
    pub fn count(&self) -> LossCount {
        let mask = (1_u64 << self.expected) - 1;
        // At most as many bits are set as the mask has.
        let arrived = u8::try_from((self.seen & mask).count_ones()).unwrap_or(LOSS_WINDOW);
        LossCount { arrived, expected: self.expected }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_heartbeat_that_came_before_is_refused_and_one_that_was_overtaken_is_not() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.note(5), Ok(Arrival::Newest));
        assert_eq!(arrivals.note(7), Ok(Arrival::Newest));
        assert_eq!(arrivals.count(), LossCount { arrived: 2, expected: 3 });
        assert_eq!(arrivals.note(6), Ok(Arrival::Late));
        assert_eq!(arrivals.count(), LossCount { arrived: 3, expected: 3 });
        assert!(arrivals.note(6).is_err() && arrivals.note(7).is_err());
    }

    #[test]
    fn one_that_is_older_than_the_window_is_refused() {
        let mut arrivals = Arrivals::default();
        (1..=100).filter(|n| *n != 36 && *n != 37).for_each(|n| assert_eq!(arrivals.note(n), Ok(Arrival::Newest)));
        assert!(arrivals.note(100 - u64::from(WINDOW)).is_err());
        assert_eq!(arrivals.note(101 - u64::from(WINDOW)), Ok(Arrival::Late));
    }

    #[test]
    fn an_outage_is_not_loss_and_a_shorter_gap_is() {
        let mut arrivals = Arrivals::default();
        (1..=64).for_each(|n| assert!(arrivals.note(n).is_ok()));
        assert!(arrivals.note(64 + OUTAGE_GAP).is_ok());
        assert_eq!(arrivals.count().per_mille(), 188, "9 of 48");
        let next = 64 + OUTAGE_GAP;
        assert!(arrivals.note(next + OUTAGE_GAP + 1).is_ok());
        assert_eq!(arrivals.count(), LossCount { arrived: 1, expected: 1 });
        assert!(arrivals.note(next).is_err(), "what was seen before the outage stays seen");
    }

    #[test]
    fn a_few_heartbeats_say_nothing_of_loss() {
        let few = LossCount { arrived: 1, expected: LOSS_EXPECTED_MIN - 1 };
        assert_eq!(few.per_mille(), 0);
        assert_eq!(LossCount { arrived: 8, expected: LOSS_EXPECTED_MIN }.per_mille(), 500);
    }

    proptest! {
        /// Whatever is lost, doubled or overtaken: each counts once, and no more than was expected arrives.
        #[test]
        fn every_heartbeat_counts_once(sequences in prop::collection::vec(1u64..200, 1..200)) {
            let mut arrivals = Arrivals::default();
            let mut taken = std::collections::BTreeSet::new();
            for sequence in sequences {
                if arrivals.note(sequence).is_ok() {
                    prop_assert!(taken.insert(sequence), "{sequence} was taken twice");
                }
                let count = arrivals.count();
                prop_assert!(count.arrived >= 1 && count.arrived <= count.expected && count.expected <= LOSS_WINDOW);
                prop_assert_eq!(arrivals.highest(), taken.last().copied().unwrap_or(0));
            }
        }

        /// Reordering by a few places changes nothing of what is counted in the end.
        #[test]
        fn reordering_is_not_loss(swaps in prop::collection::vec(0usize..98, 0..40)) {
            let mut sequences: Vec<u64> = (1..=100).collect();
            for at in swaps {
                sequences.swap(at, at + 1);
            }
            let mut arrivals = Arrivals::default();
            for sequence in sequences {
                prop_assert!(arrivals.note(sequence).is_ok());
            }
            // The last place may hold another than the highest; by then all have come.
            prop_assert_eq!(arrivals.count().per_mille(), 0);
        }
    }
}
