//! The memory of guests: how much one run may have, all runs of one component, and all runs of a host.
//!
//! What every slot has anyway ([`SLOT_MEMORY`]) is the run's own. What goes beyond is counted, so that guests that take much
//! end one by one, and not the machine that they run on with all that it watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::ResourceLimiter;

use crate::RunFault;
use crate::limits::TABLE_ELEMENTS_MAX;
use crate::pool::{Lacking, Pool, Share};

/// Memory of a slot that is cleared for the next run instead of given back to the system: all that a shipped probe has when
/// it grows none (`STACK` in `probes/bundle/build.rs`). To give it back and fault it in again takes twice as long as the
/// whole rest of making an instance.
pub(crate) const SLOT_MEMORY: usize = 64 * 1024;

/// The memory of the runs of one component.
#[derive(Debug)]
pub(crate) struct ComponentMemory {
    share: Share,
    /// The most that one run had so far.
    most: AtomicUsize,
}

impl ComponentMemory {
    /// Returns that of a component whose runs take from this pool.
    pub(crate) fn of(host: Arc<Pool>) -> Self {
        Self { share: Share::of(host), most: AtomicUsize::new(0) }
    }

    /// Returns how many runs at a time there is memory for, each with the most that one had so far.
    pub(crate) fn runs(&self) -> usize {
        match beyond_slot(self.most.load(Ordering::Relaxed)) {
            0 => usize::MAX,
            each => (self.share.limit() / each).max(1),
        }
    }

    fn take(&self, bytes: usize) -> Result<(), RunFault> {
        self.share.take(bytes).map_err(|lacking| match lacking {
            Lacking::OfShare { limit } => RunFault::MemoryOfProbe { limit },
            Lacking::OfPool { limit } => RunFault::MemoryOfHost { limit },
        })
    }
}

/// Refuses memory beyond the limits and remembers why, so that the crash that follows can be explained.
///
/// All memories and tables of a component count together. Stacks do not, nor what the host holds for a run.
#[derive(Debug)]
pub(crate) struct RunMemory {
    limit: usize,
    granted: usize,
    pool: Arc<ComponentMemory>,
    refused: Option<RunFault>,
}

impl RunMemory {
    /// Returns that of a run that has none yet and may have so many bytes.
    pub(crate) const fn new(limit: usize, pool: Arc<ComponentMemory>) -> Self {
        Self { limit, granted: 0, pool, refused: None }
    }

    /// Returns why the guest was refused memory that it asked for, if it was.
    pub(crate) const fn refused(&self) -> Option<&RunFault> {
        self.refused.as_ref()
    }

    fn grow(&mut self, bytes: usize) -> bool {
        let refused = self.grant(self.granted.saturating_add(bytes)).err();
        let is_granted = refused.is_none();
        self.refused = refused.or(self.refused.take());
        is_granted
    }

    fn grant(&mut self, granted: usize) -> Result<(), RunFault> {
        if granted > self.limit {
            return Err(RunFault::Memory { limit: self.limit });
        }
        let more = beyond_slot(granted) - beyond_slot(self.granted);
        if more > 0 {
            self.pool.take(more)?;
        }
        self.granted = granted;
        Ok(())
    }
}

/// Returns whether it is more than what is declared: the engine asks before it looks, and what it refuses is not taken.
fn is_beyond(desired: usize, maximum: Option<usize>) -> bool {
    maximum.is_some_and(|maximum| desired > maximum)
}

/// Returns how much of it is counted.
const fn beyond_slot(granted: usize) -> usize {
    granted.saturating_sub(SLOT_MEMORY)
}

impl Drop for RunMemory {
    fn drop(&mut self) {
        self.pool.most.fetch_max(self.granted, Ordering::Relaxed);
        self.pool.share.give_back(beyond_slot(self.granted));
    }
}

impl ResourceLimiter for RunMemory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(!is_beyond(desired, maximum) && self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current).saturating_mul(size_of::<usize>());
        Ok(desired <= TABLE_ELEMENTS_MAX && !is_beyond(desired, maximum) && self.grow(more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn grow(run: &mut RunMemory, by: usize) -> bool {
        run.memory_growing(0, by, None).unwrap()
    }

    #[test]
    fn what_a_slot_has_is_not_counted_and_what_goes_beyond_is_given_back_when_the_run_is_over() {
        let host = Arc::new(Pool::new(4 * MIB));
        let component = Arc::new(ComponentMemory::of(Arc::clone(&host)));
        let mut run = RunMemory::new(16 * MIB, Arc::clone(&component));
        assert!(grow(&mut run, SLOT_MEMORY));
        assert_eq!(host.taken(), 0);
        assert!(grow(&mut run, MIB) && grow(&mut run, MIB));
        assert_eq!(host.taken(), 2 * MIB);
        assert!(!grow(&mut run, 1), "half of the pool is one component's");
        assert_eq!(run.refused(), Some(&RunFault::MemoryOfProbe { limit: 2 * MIB }));
        assert_eq!(component.runs(), usize::MAX, "none has ended");
        drop(run);
        assert_eq!(component.runs(), 1);
        assert_eq!((host.taken(), component.share.taken()), (0, 0));
    }

    #[test]
    fn two_components_have_the_whole_pool_and_a_third_finds_none_left() {
        let host = Arc::new(Pool::new(4 * MIB));
        let mut runs: Vec<RunMemory> =
            (0..3).map(|_| RunMemory::new(16 * MIB, Arc::new(ComponentMemory::of(Arc::clone(&host))))).collect();
        let [first, second, third] = &mut runs[..] else { panic!() };
        assert!(grow(first, 2 * MIB + SLOT_MEMORY) && grow(second, 2 * MIB + SLOT_MEMORY));
        assert!(grow(third, SLOT_MEMORY) && !grow(third, 1));
        assert_eq!(third.refused(), Some(&RunFault::MemoryOfHost { limit: 4 * MIB }));
        drop(runs);
        assert_eq!(host.taken(), 0);
    }

    #[test]
    fn one_run_has_no_more_than_a_run_may_have_whatever_the_pool_holds() {
        let pool = Arc::new(ComponentMemory::of(Arc::new(Pool::new(64 * MIB))));
        let mut run = RunMemory::new(MIB, pool);
        assert!(grow(&mut run, MIB) && !grow(&mut run, 1));
        assert_eq!(run.refused(), Some(&RunFault::Memory { limit: MIB }));
        assert!(!run.memory_growing(0, usize::MAX, None).unwrap());
        assert!(!run.table_growing(0, 8, None).unwrap(), "tables count as well");
    }

    #[test]
    fn what_the_engine_will_refuse_anyway_is_not_taken() {
        let mut run = RunMemory::new(MIB, Arc::new(ComponentMemory::of(Arc::new(Pool::new(64 * MIB)))));
        assert!(!run.memory_growing(0, MIB, Some(SLOT_MEMORY)).unwrap() && !run.table_growing(0, 9, Some(8)).unwrap());
        assert_eq!((run.granted, run.refused()), (0, None));
    }
}
