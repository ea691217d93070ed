//! I5: one recovery event per heal. A node recovers no more often than its path was called broken, and not while
//! nobody hears it.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{EventKind, NodeId, Source};

use super::super::host::NodeNo;
use super::super::play::Run;
use super::{Invariant, Violation};

/// How long ago a node may have been heard that is said to recover.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

pub(super) fn check(run: &Run) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut broken: BTreeMap<&NodeId, bool> = BTreeMap::new();
    for told in &run.record.events {
        match &told.event.kind {
            EventKind::PathChanged { node, to, faults, .. } if *to == Source::Watcher || !faults.is_empty() => {
                broken.insert(node, true);
            }
            EventKind::PathRecovered { node, .. } => {
                let was_broken = broken.insert(node, false) == Some(true);
                let at = told.at;
                let mut truths = run.truths.between(at.saturating_sub(HEARD_WITHIN), at);
                let heard = truths.any(|t| NodeNo::of(node).and_then(|no| t.nodes.get(&no)).is_some_and(|n| n.heard));
                if !was_broken || !heard {
                    let why = if was_broken {
                        "no manager hears it"
                    } else {
                        "nothing was said to be broken since it last recovered"
                    };
                    let what = format!("{node} is said to recover, and {why}");
                    out.push(Violation { invariant: Invariant::I5, at, what });
                }
            }
            _ => {}
        }
    }
    out
}
