//! I6: no replicated verdict is lost, doubled or reordered across leader changes: every manager's log is the beginning of
//! one log, and each change of a VM's state begins where the one before ended.

use std::collections::BTreeMap;

use super::super::play::Run;
use super::{Invariant, Violation, state_changes};

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let broken = run.record.log_broken.iter().map(|what| Violation {
        invariant: Invariant::I6,
        at: run.lasted,
        what: what.clone(),
    });
    let mut out: Vec<Violation> = broken.collect();
    let mut last = BTreeMap::new();
    for (at, vm, from, to) in state_changes(run) {
        if let Some(before) = last.insert(vm, to)
            && before != from
        {
            let what = format!("{vm} goes from {from} to {to}, and was {before}");
            out.push(Violation { invariant: Invariant::I6, at, what });
        }
    }
    out
}
