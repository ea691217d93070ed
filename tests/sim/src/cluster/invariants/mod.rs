//! What must hold of every run, whatever its faults: one file per invariant of DESIGN, section 5.
//!
//! Each looks at what was published and what was true, and at nothing inside the managers. I8 needs two runs of one seed
//! and so stands apart from the others.

mod i1_down_needs_proof;
mod i2_lost_needs_silence;
mod i3_path_faults_keep_states;
mod i4_verdict_in_time;
mod i5_one_recovery_per_heal;
mod i6_log_is_kept;
mod i7_safe_is_safe;
pub mod i8_deterministic;

use std::fmt;
use std::time::Duration;

use super::play::Run;

/// Which invariant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Invariant {
    /// No `down` without proof.
    I1,
    /// No `lost` while somebody sees.
    I2,
    /// Faults of paths and agents keep states.
    I3,
    /// A verdict in time.
    I4,
    /// One recovery per heal.
    I5,
    /// The log is kept.
    I6,
    /// Safe is safe.
    I7,
    /// The same run twice.
    I8,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One breach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Of what.
    pub invariant: Invariant,
    /// When, since the schedule's begin.
    pub at: Duration,
    /// What was published, and what was true.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ms: {}", self.invariant, self.at.as_millis(), self.what)
    }
}

/// Returns every breach of a run, I8 apart.
pub fn check(run: &Run) -> Vec<Violation> {
    let checks = [
        i1_down_needs_proof::check,
        i2_lost_needs_silence::check,
        i3_path_faults_keep_states::check,
        i4_verdict_in_time::check,
        i5_one_recovery_per_heal::check,
        i6_log_is_kept::check,
        i7_safe_is_safe::check,
    ];
    checks.iter().flat_map(|check| check(run)).collect()
}

/// Returns the changes of VMs' states that were published: when, of which VM, from what to what.
fn state_changes(
    run: &Run,
) -> impl Iterator<Item = (Duration, super::host::VmNo, vouch_types::VmState, vouch_types::VmState)> {
    run.record.events.iter().filter_map(|told| match &told.event.kind {
        vouch_types::EventKind::VmStateChanged { vm, from, to, .. } => {
            Some((told.at, super::host::VmNo::of(*vm), *from, *to))
        }
        _ => None,
    })
}
