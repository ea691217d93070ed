//! Runs in flight.

use std::sync::Arc;
use std::time::Duration;

use vouch_types::{Moment, Timing};

use super::asks::AskId;
use super::{AssignedCheck, Cause, CheckNumber, Conduct, Pace, Place, TickStamp};

/// A run in flight.
#[derive(Debug)]
pub(super) struct Running {
    /// What it looks at, as it was assigned when it began.
    pub(super) target: Arc<AssignedCheck>,
    /// Its number; `None` when it is assigned no more.
    pub(super) check: Option<CheckNumber>,
    pub(super) begun: Moment,
    pub(super) ticks: TickStamp,
    pub(super) why: Why,
    pub(super) place: Place,
    pub(super) timeout: Duration,
}

/// Why a run was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It was due; it may stand in for the run of an ask that waits for room.
    Scheduled(Option<AskId>),
    /// For an ask.
    Asked(AskId),
}

impl Why {
    /// Returns whose places it takes.
    pub(super) const fn cause(self) -> Cause {
        match self {
            Self::Scheduled(_) => Cause::Due,
            Self::Asked(_) => Cause::Asked,
        }
    }
}

impl Running {
    /// Returns what it says of how soon the next one of its check will end, after so long.
    pub(super) fn pace(&self, took: Duration, conduct: Conduct, timing: &Timing) -> Option<Pace> {
        match conduct {
            Conduct::Untold => None,
            Conduct::Badly => Some(Pace::Slow),
            Conduct::Well { .. } if took < self.timeout.min(timing.probe_timeout) / 2 => Some(Pace::Prompt),
            Conduct::Well { .. } => Some(Pace::Slow),
        }
    }
}
