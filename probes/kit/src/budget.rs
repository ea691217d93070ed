//! The time that one run has.
//!
//! A run that overstays is stopped by the host and then says nothing of the target, so a probe ends its waits a little
//! before the deadline and answers itself.

use std::time::{Duration, Instant};

/// What is kept back from the deadline for writing the answer.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);

/// The time that one run has for waiting.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    begun: Instant,
    whole: Duration,
}

impl Budget {
    /// Returns the budget of a run that begins now: the deadline less a margin of a tenth, at most 50 ms.
    pub fn starting_now(deadline_ms: u32) -> Self {
        let deadline = Duration::from_millis(u64::from(deadline_ms));
        Self { begun: Instant::now(), whole: deadline - ANSWER_MARGIN.min(deadline / 10) }
    }

    /// Returns how long the whole run may wait.
    pub fn whole(&self) -> Duration {
        self.whole
    }

    /// Returns what is left of it, or `None` when it is spent.
    pub fn left(&self) -> Option<Duration> {
        self.left_at(Instant::now())
    }

    /// Returns what is left of it at this moment, for who knows it: to look at the clock is a call to the host.
    pub fn left_at(&self, now: Instant) -> Option<Duration> {
        self.whole.checked_sub(now.saturating_duration_since(self.begun)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_before_the_deadline_and_never_below_zero() {
        assert_eq!(Budget::starting_now(2000).whole(), Duration::from_millis(1950));
        assert_eq!(Budget::starting_now(100).whole(), Duration::from_millis(90));
        assert_eq!(Budget::starting_now(0).left(), None);
    }
}
