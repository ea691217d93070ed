//! I1: no `down` without proof. In truth its process was dead, its kernel panicked, or its node had no power, no longer
//! ago than a word may travel.

use vouch_types::VmState;

use super::super::play::Run;
use super::super::trial::LAG;
use super::{Invariant, Violation, state_changes};

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let mut out = Vec::new();
    for (at, vm, _, to) in state_changes(run).filter(|(_, _, _, to)| *to == VmState::Down) {
        let mut truths = run.truths.between(at.saturating_sub(LAG), at).filter_map(|truth| truth.vms.get(&vm));
        if !truths.any(|truth| truth.gone || truth.proof) {
            let what = format!("{vm} is called {to}, and nothing proves it: it was never dead lately");
            out.push(Violation { invariant: Invariant::I1, at, what });
        }
    }
    out
}
