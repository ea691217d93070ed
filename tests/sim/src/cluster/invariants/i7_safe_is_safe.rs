//! I7: no advice `safe_to_restart` is in force while the VM may be running anywhere.

use std::time::Duration;

use vouch_types::Advice;

use super::super::play::Run;
use super::{Invariant, Violation};

/// How long after a node or VM has come back the advice may stand: no word of it can be there sooner.
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(2);

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let mut out = Vec::new();
    for (index, published) in run.record.published.iter().enumerate() {
        let until = run.record.published.get(index + 1).map_or(run.lasted, |next| next.at);
        for (vm, said) in &published.said.vms {
            if !matches!(said.advice, Advice::SafeToRestart { .. }) {
                continue;
            }
            let mut truths = run.truths.between(until.saturating_sub(WITHDRAWN_WITHIN).max(published.at), until);
            let executes = truths.all(|truth| truth.vms.get(vm).is_some_and(|t| t.executes));
            let long = until.saturating_sub(published.at) >= WITHDRAWN_WITHIN;
            let wrong_at_once =
                run.truths.between(published.at, published.at).any(|t| t.vms.get(vm).is_some_and(|t| t.executes));
            if executes && (long || wrong_at_once) {
                let what = format!("{vm} is called safe to restart elsewhere, and executes");
                out.push(Violation { invariant: Invariant::I7, at: published.at, what });
            }
        }
    }
    out
}
