//! I3: faults of paths and agents change only source and faults.
//!
//! A state that is published must have been true lately, unless the VM was out of everybody's reach: then the only change
//! allowed is to `lost`, from `up`, `degraded` or `hung`.

use std::time::Duration;

use vouch_types::VmState;

use super::super::play::Run;
use super::super::row::Row;
use super::{Invariant, Violation, state_changes};

/// How old the truth may be that a published state rests on: the slowest row's time, and what overlapping faults add.
const TRUE_WITHIN: Duration = Duration::from_secs(15);

/// Rows after which users are cut off though nothing of the VM is broken: `degraded` is right then.
fn cuts_users_off(row: Row) -> bool {
    matches!(row, Row::ServiceDown | Row::Isolated | Row::RackLost)
}

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let mut out = Vec::new();
    for (at, vm, from, to) in state_changes(run) {
        let truths = || run.truths.between(at.saturating_sub(TRUE_WITHIN), at).filter_map(|t| t.vms.get(&vm));
        let was_true = truths().any(|truth| truth.states.contains(&to));
        let unreached = truths().any(|truth| !truth.reached);
        let lost = to == VmState::Lost && matches!(from, VmState::Up | VmState::Degraded | VmState::Hung) && unreached;
        let cut_off = to == VmState::Degraded
            && run
                .schedule
                .0
                .iter()
                .any(|e| cuts_users_off(e.fault.row) && e.start <= at && at <= e.end() + TRUE_WITHIN);
        if !(was_true || lost || cut_off) {
            let what = format!(
                "{vm} goes from {from} to {to}, and neither was it that nor out of reach in the last {TRUE_WITHIN:?}"
            );
            out.push(Violation { invariant: Invariant::I3, at, what });
        }
    }
    out
}
