//! How many runs a watcher has in flight at most, and how much their guests may have: what its memory holds.

const MIB: usize = 1 << 20;
/// What a watcher takes besides its runs, once it has its probes and its managers.
const WATCHER: usize = 32 * MIB;
/// What a run takes that waits for its target: 64 KiB of its guest's memory that stay, its stack, its socket, and the page
/// tables of both.
const RUN: usize = 96 << 10;

/// The most runs at a time, and the most memory of their guests. A slow target holds one of these runs, and delays no look
/// at others before all of those are held that such targets may hold (`Places`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunLimit {
    all: usize,
    memory: usize,
}

impl RunLimit {
    /// What a watcher has that is a process of its host.
    pub const LEAST: Self = Self { all: 256, memory: 32 * MIB };
    /// What a watcher has that is too small.
    const TOO_SMALL: Self = Self { all: 64, memory: 4 * MIB };
    /// The most runs, whatever the memory.
    const MOST: usize = 4_096;

    /// Returns the limit of a machine that has so many bytes of memory left for its watcher: a quarter of what it does not
    /// need itself is for guests that take more than every run has, the rest for runs.
    pub fn of_memory(free: u64) -> Self {
        let rest = usize::try_from(free).unwrap_or(usize::MAX).saturating_sub(WATCHER);
        let memory = rest / 4;
        Self {
            all: ((rest - memory) / RUN).clamp(Self::TOO_SMALL.all, Self::MOST),
            memory: memory.max(Self::TOO_SMALL.memory),
        }
    }

    /// Returns how many runs may be in flight.
    pub const fn all(self) -> usize {
        self.all
    }

    /// Returns how many of them may be asked ones; the rest is kept for scheduled ones.
    pub const fn asked(self) -> usize {
        self.all / 2
    }

    /// Returns how much memory their guests may have together, in bytes, beyond what each run has.
    pub const fn memory(self) -> usize {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_fits_into_the_memory_that_is_left() {
        for free_mib in [48, 57, 100, 153, 400] {
            let limit = RunLimit::of_memory(free_mib * MIB as u64);
            let promised = WATCHER + limit.all() * RUN + limit.memory();
            assert!(promised as u64 <= free_mib * MIB as u64, "{limit:?} of {free_mib} MiB");
        }
    }

    #[test]
    fn more_memory_holds_more_runs_up_to_the_most_and_the_smallest_machine_has_some() {
        for small in [0, WATCHER as u64] {
            assert_eq!(RunLimit::of_memory(small), RunLimit::TOO_SMALL);
        }
        let runs = |free_mib: u64| RunLimit::of_memory(free_mib * MIB as u64).all();
        assert!(runs(57) >= 192 && runs(153) > 900 && runs(400) > 2_900);
        for large in [1 << 30, u64::MAX] {
            assert_eq!(RunLimit::of_memory(large).all(), RunLimit::MOST);
        }
        assert_eq!(RunLimit::LEAST.asked(), 128);
    }
}
