//! Random numbers of one lane.
//!
//! Every lane has a generator of its own: which of two lanes is used first in one and the same instant must not change
//! what either does.

/// A generator (SplitMix64; Steele, Lea, Flood 2014).
#[derive(Clone, Copy, Debug)]
pub struct Draw(u64);

impl Draw {
    /// Returns the generator of these words.
    pub fn of(words: impl IntoIterator<Item = u64>) -> Self {
        let mut draw = Self(0x9e37_79b9_7f4a_7c15);
        for word in words {
            draw.0 ^= word;
            draw.0 = draw.word();
        }
        draw
    }

    /// Returns the next number.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`, 0 when that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.word() % limit }
    }

    /// Returns whether something happens that has this chance in a million.
    pub fn happens(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(1_000_000) < u64::from(per_million)
    }

    /// Returns one of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = self.below(of.len() as u64);
        of.get(usize::try_from(index).unwrap_or(0))
    }
}
