//! I2: no `lost` while a healthy observer has seen the VM, its node's relay or a watcher on its node within the window.
//!
//! A VM that was reached for all of the window must have been seen by somebody in it.

use vouch_types::VmState;

use super::super::play::Run;
use super::super::trial::REACHED_FOR;
use super::{Invariant, Violation, state_changes};

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let mut out = Vec::new();
    for (at, vm, _, _) in state_changes(run).filter(|(_, _, _, to)| *to == VmState::Lost) {
        let mut truths = run.truths.between(at.saturating_sub(REACHED_FOR), at).filter_map(|t| t.vms.get(&vm));
        if truths.all(|truth| truth.reached) {
            let what = format!("{vm} is called lost, and was reached for all of the last {REACHED_FOR:?}");
            out.push(Violation { invariant: Invariant::I2, at, what });
        }
    }
    out
}
