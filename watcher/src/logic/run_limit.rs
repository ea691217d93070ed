//! How many runs a watcher has in flight at most: what its memory holds.

const MIB: u64 = 1 << 20;
/// A watcher VM of this much memory has no room for more runs than [`RunLimit::LEAST`].
const MEMORY_FLOOR: u64 = 160 * MIB;
/// What a run takes that waits for its target: 128 KiB of its guest's memory that stay, its stack, its socket.
const MEMORY_PER_RUN: u64 = 160 << 10;

/// The most runs at a time: a slow target holds one of these, and never delays another's run before they are all held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunLimit(usize);

impl RunLimit {
    /// What every watcher has.
    pub const LEAST: Self = Self(256);
    /// What none has more of, whatever its memory.
    pub const MOST: Self = Self(4_096);

    /// Returns the limit of a machine that has so many bytes of memory for its watcher alone.
    pub const fn of_memory(bytes: u64) -> Self {
        let further = bytes.saturating_sub(MEMORY_FLOOR) / MEMORY_PER_RUN;
        // Compared first, so that nothing is cut off.
        if further >= (Self::MOST.0 - Self::LEAST.0) as u64 {
            Self::MOST
        } else {
            Self(Self::LEAST.0 + further as usize)
        }
    }

    /// Returns how many runs may be in flight.
    pub const fn all(self) -> usize {
        self.0
    }

    /// Returns how many of them may be asked ones; the rest is kept for scheduled ones.
    pub const fn asked(self) -> usize {
        self.0 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watcher_has_the_least_and_more_memory_holds_more_up_to_the_most() {
        for small in [0, 48 * MIB, MEMORY_FLOOR] {
            assert_eq!(RunLimit::of_memory(small), RunLimit::LEAST);
        }
        assert_eq!(RunLimit::of_memory(MEMORY_FLOOR + 10 * MEMORY_PER_RUN).all(), RunLimit::LEAST.all() + 10);
        assert!(RunLimit::of_memory(512 * MIB).all() > 2_000);
        for large in [1 << 30, u64::MAX] {
            assert_eq!(RunLimit::of_memory(large), RunLimit::MOST);
        }
        assert_eq!(RunLimit::LEAST.asked(), 128);
    }
}
