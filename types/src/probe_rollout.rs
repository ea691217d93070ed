//! A new version of a probe on its way to all watchers: first one watcher runs it, the canary, and what it finds is compared
//! with what the version before finds.
//!
//! ```text
//!            a watcher with the probe                 enough runs, no worse       (or an operator)
//!   waiting ---------------------------> canary wN -------------------------> recorded for all
//!      ^                                   |    \
//!      \------- it went away: another -----/     \---- it faults more -------> taken back
//! ```
//!
//! What counts is a *fault*: a run that says nothing of its target, because of the probe. Whether a target is up or down is
//! the target's matter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{AssignmentGeneration, ProbeRecord, WallTime, WatcherId};

/// The fewest and the most runs of the canary that a rollout may ask for.
pub const ROLLOUT_RUNS: (u32, u32) = (5, 10_000);
/// The shortest and the longest time that a rollout may ask for.
pub const ROLLOUT_LASTS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3_600));
/// How many watchers are tried one after the other, when each goes away.
pub const CANARIES_MAX: usize = 3;
/// The longest reason of a step, in bytes.
pub const STEP_REASON_MAX: usize = 256;
/// Reasons of runs that say nothing of their target because of the probe: it refuses its settings, finds nothing to check,
/// could not check, overstays its deadline, wants too much memory, crashes, answers against the contract, or needs what it
/// is not granted.
pub const FAULT_REASONS: [&str; 8] =
    ["bad_settings", "not_applicable", "probe_error", "overstayed", "memory", "crashed", "bad_answer", "not_granted"];

/// What a new version has to show on its canary before all watchers run it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RolloutPlan {
    /// At least so many runs.
    pub runs: u32,
    /// For at least so long from its first run on.
    #[serde(with = "crate::duration", rename = "lasts_ms")]
    pub lasts: Duration,
}

impl Default for RolloutPlan {
    fn default() -> Self {
        Self { runs: 30, lasts: Duration::from_secs(60) }
    }
}

/// Runs, and how many of them were faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// Faults among them.
    pub faults: u64,
}

impl Tally {
    /// Counts one run.
    pub fn count(&mut self, is_fault: bool) {
        self.runs += 1;
        self.faults += u64::from(is_fault);
    }

    /// Returns the part of the runs that are faults; 0 of none.
    #[expect(clippy::cast_precision_loss, reason = "far fewer runs than 2^52")]
    pub fn rate(&self) -> f64 {
        if self.runs == 0 { 0.0 } else { self.faults as f64 / self.runs as f64 }
    }
}

/// The watcher that runs the new version first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Canary {
    /// Which.
    pub watcher: WatcherId,
    /// The assignment by which it runs the new version: what it says by an earlier one is of the version before.
    pub generation: AssignmentGeneration,
    /// What its checks last found with the version before.
    pub before: Tally,
    /// What they find with the new one, as last recorded.
    #[serde(default)]
    pub new: Tally,
    /// What the other watchers find meanwhile with the version before, as last recorded.
    #[serde(default)]
    pub others: Tally,
    /// How long it has run the new version, as last recorded: no wall clock decides.
    #[serde(with = "crate::duration", rename = "spent_ms")]
    pub spent: Duration,
}

/// A new version of a probe on its way to all watchers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeRollout {
    /// The probe as it will be recorded. Without a grant of its own it will have that of its name.
    pub next: ProbeRecord,
    /// What it has to show.
    pub plan: RolloutPlan,
    /// Who runs it now; `None` until a watcher is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Watchers that were tried, the last one among them.
    #[serde(default)]
    pub tried: Vec<WatcherId>,
    /// Who began it, as far as is known.
    pub by: String,
    /// When, for people.
    pub begun: WallTime,
}

/// How a rollout goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum RolloutStep {
    /// A watcher is to run the new version.
    Try {
        /// Which.
        watcher: WatcherId,
        /// What its checks last found with the version before.
        before: Tally,
    },
    /// What was found since: the next leader goes on from there.
    Record {
        /// On which watcher.
        watcher: WatcherId,
        /// With the new version.
        new: Tally,
        /// By the others, with the version before.
        others: Tally,
        /// For how long.
        #[serde(with = "crate::duration", rename = "spent_ms")]
        spent: Duration,
    },
    /// All watchers are to run it.
    Promote {
        /// Why; at most [`STEP_REASON_MAX`] bytes.
        reason: String,
    },
    /// All watchers are to run the version before.
    TakeBack {
        /// Why; at most [`STEP_REASON_MAX`] bytes.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_the_part_of_its_runs_that_are_faults() {
        let mut tally = Tally::default();
        assert!(tally.rate().abs() < f64::EPSILON, "of none");
        for is_fault in [true, false, false, false] {
            tally.count(is_fault);
        }
        assert_eq!(tally, Tally { runs: 4, faults: 1 });
        assert!((tally.rate() - 0.25).abs() < f64::EPSILON);
    }

    #[test]
    fn the_plan_of_one_who_asks_for_nothing_is_within_the_limits() {
        let plan = RolloutPlan::default();
        assert!((ROLLOUT_RUNS.0..=ROLLOUT_RUNS.1).contains(&plan.runs));
        assert!((ROLLOUT_LASTS.0..=ROLLOUT_LASTS.1).contains(&plan.lasts));
    }
}
