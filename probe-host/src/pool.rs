//! What all runs of a host share, and how much of it one component may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So much of something that runs share, and how much of it is taken.
#[derive(Debug)]
pub(crate) struct Pool {
    limit: usize,
    taken: AtomicUsize,
}

impl Pool {
    /// Returns a pool of which nothing is taken.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    /// Takes some of it, if so much is left; returns whether it was.
    fn take(&self, more: usize) -> bool {
        let more = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, taken: usize) {
        self.taken.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Returns how much is taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Where too little is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lacking {
    /// The component has all that one may have.
    OfShare {
        /// So much.
        limit: usize,
    },
    /// Others have the rest.
    OfPool {
        /// So much there is in all.
        limit: usize,
    },
}

/// What the runs of one component take from: half of the pool at most, so that there is some left for others.
#[derive(Debug)]
pub(crate) struct Share {
    pool: Arc<Pool>,
    own: Pool,
}

impl Share {
    /// Returns the share of one component.
    pub(crate) fn of(pool: Arc<Pool>) -> Self {
        let own = Pool::new(pool.limit / 2);
        Self { pool, own }
    }

    /// Returns how much the component may have.
    pub(crate) const fn limit(&self) -> usize {
        self.own.limit
    }

    /// Takes some of it.
    ///
    /// # Errors
    /// [`Lacking`] when so much is not left; nothing is taken then.
    pub(crate) fn take(&self, more: usize) -> Result<(), Lacking> {
        if !self.own.take(more) {
            return Err(Lacking::OfShare { limit: self.own.limit });
        }
        if !self.pool.take(more) {
            self.own.give_back(more);
            return Err(Lacking::OfPool { limit: self.pool.limit });
        }
        Ok(())
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&self, taken: usize) {
        self.own.give_back(taken);
        self.pool.give_back(taken);
    }

    /// Returns how much of it is taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.own.taken()
    }
}
