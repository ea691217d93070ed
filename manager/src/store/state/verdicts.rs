//! Verdicts, paths and manager notes: what is published. A change of something that has moved on is refused by itself.

use std::sync::Arc;

use vouch_types::command::{CHANGES_MAX, PathChange};
use vouch_types::event::ManagerNote;
use vouch_types::path::HAND_BACKS_MAX;
use vouch_types::vm::CLAIMS_MAX;
use vouch_types::{
    Applied, BootChange, ClaimChange, EventKind, IncidentChange, NodeId, NodePath, PlacementChange, Source, Verdict,
    VerdictChange, VmId, WallTime,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;

/// The longest reason that is kept, in bytes.
const REASON_MAX: usize = 256;

/// Changes that are recorded together.
pub(super) struct Batch {
    pub(super) verdicts: Vec<VerdictChange>,
    pub(super) paths: Vec<PathChange>,
    pub(super) manager_notes: Option<Vec<ManagerNote>>,
    pub(super) incidents: Vec<IncidentChange>,
    pub(super) placements: Vec<PlacementChange>,
    pub(super) boots: Vec<BootChange>,
    pub(super) claims: Vec<ClaimChange>,
}

/// What came of one change among many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    Current,
    Stale,
}

impl State {
    pub(super) fn record_verdicts(&mut self, step: &mut Step, batch: Batch, at: WallTime) -> Outcome {
        let Batch { verdicts, paths, manager_notes, incidents, placements, boots, claims } = batch;
        let count = verdicts.len() + paths.len() + incidents.len() + placements.len() + boots.len() + claims.len();
        limit("changes", count, CHANGES_MAX)?;
        let mut stale_nodes: Vec<NodeId> = Vec::new();
        let mut stale_vms: Vec<VmId> = Vec::new();
        // Incidents and paths come first: what is shared is told before what it explains.
        for change in incidents {
            self.record_incident(step, change, at);
        }
        for change in paths {
            let node = change.node.clone();
            if self.record_path(step, change, at) == Recorded::Stale {
                stale_nodes.push(node);
            }
        }
        for change in verdicts {
            let vm = change.vm;
            if self.record_verdict(step, change, at) == Recorded::Stale {
                stale_vms.push(vm);
            }
        }
        for change in boots {
            let vm = change.vm;
            if self.record_boot(step, change) == Recorded::Stale {
                stale_vms.push(vm);
            }
        }
        for change in claims {
            let vm = change.vm;
            if self.record_claims(step, change) == Recorded::Stale {
                stale_vms.push(vm);
            }
        }
        for change in placements {
            let vm = change.vm;
            if self.record_placement(step, change, at) == Recorded::Stale {
                stale_vms.push(vm);
            }
        }
        if let Some(mut notes) = manager_notes {
            // One of a node that was removed meanwhile would stay for ever.
            notes.retain(|note| self.shut_out(&note.node).is_none());
            notes.sort();
            notes.dedup();
            self.set_manager_notes(step, notes, at);
        }
        Ok(Applied::Recorded { index: step.index, stale_vms, stale_nodes })
    }

    /// Takes what managers cannot hear now, sorted.
    pub(super) fn set_manager_notes(&mut self, step: &mut Step, notes: Vec<ManagerNote>, at: WallTime) {
        if notes == self.head.manager_notes {
            return;
        }
        step.event(at, EventKind::ManagerNotesChanged { notes: notes.clone() });
        step.changes.head = true;
        self.head.manager_notes = notes;
        self.marks.manager_notes = step.index;
    }

    fn record_path(&mut self, step: &mut Step, change: PathChange, at: WallTime) -> Recorded {
        let Some(record) = self.nodes.get_mut(&change.node) else {
            return Recorded::Stale;
        };
        if record.path.version != change.replaces {
            return Recorded::Stale;
        }
        let PathChange { node, source, faults, reason, mut hand_backs, .. } = change;
        // The latest are the last.
        hand_backs.drain(..hand_backs.len().saturating_sub(HAND_BACKS_MAX));
        let reason = shortened(reason);
        let from = record.path.source;
        if from == source && record.path.faults == faults {
            return Recorded::Current;
        }
        let kind = match (source, faults.is_empty()) {
            // Something was wrong before, or this would not be a change.
            (Source::Direct, true) => EventKind::PathRecovered { node: node.clone(), reason },
            (Source::Direct, false) | (Source::Watcher, _) => {
                EventKind::PathChanged { node: node.clone(), from, to: source, faults: faults.clone(), reason }
            }
        };
        let record = Arc::make_mut(record);
        record.path = NodePath {
            source,
            faults,
            version: record.path.version.next(),
            since: at.max(record.path.since),
            hand_backs,
        };
        step.event(at, kind);
        step.changes.nodes.insert(node);
        Recorded::Current
    }

    /// Records a boot: it is no event, and nothing of it is shown, so nobody is woken and the VM's version stays.
    fn record_boot(&mut self, step: &mut Step, change: BootChange) -> Recorded {
        let BootChange { vm, generation, boot } = change;
        let Some(record) = self.vms.get_mut(&vm).filter(|record| record.generation == generation) else {
            return Recorded::Stale;
        };
        if record.boot != boot {
            Arc::make_mut(record).boot = boot;
            step.changes.unshown.insert(vm);
        }
        Recorded::Current
    }

    /// Records which other nodes say that they execute a VM: of no event and shown by nothing but its explanation.
    fn record_claims(&mut self, step: &mut Step, change: ClaimChange) -> Recorded {
        let ClaimChange { vm, generation, mut claimed_by } = change;
        let Some(record) = self.vms.get_mut(&vm).filter(|record| record.generation == generation) else {
            return Recorded::Stale;
        };
        claimed_by.truncate(CLAIMS_MAX);
        if record.claimed_by != claimed_by {
            Arc::make_mut(record).claimed_by = claimed_by;
            step.changes.unshown.insert(vm);
        }
        Recorded::Current
    }

    fn record_verdict(&mut self, step: &mut Step, change: VerdictChange, at: WallTime) -> Recorded {
        let vm = change.vm;
        let Some(record) = self.vms.get_mut(&vm) else {
            return Recorded::Stale;
        };
        if record.generation != change.generation || record.verdict.version != change.replaces {
            return Recorded::Stale;
        }
        let (mut new, shared) = (change.verdict, change.shared);
        let old = &record.verdict;
        if says_the_same(old, &new) {
            return Recorded::Current;
        }
        new.reason = shortened(new.reason);
        new.version = old.version.next();
        let (from, to) = (old.state, new.state);
        new.since = if from == to { old.since } else { new.since.max(at).max(old.since) };
        let (faults, advice, reason) = (new.faults.clone(), new.advice.clone(), new.reason.clone());
        let kind = if from == to {
            EventKind::VmFaultsChanged {
                vm,
                state: to,
                faults,
                notes: new.notes.clone(),
                advice,
                reason,
                suppressed: new.suppressed.clone(),
            }
        } else {
            let cleared = old.faults.iter().filter(|fault| !faults.contains(fault)).cloned().collect();
            EventKind::VmStateChanged { vm, from, to, faults, advice, reason, shared, cleared }
        };
        Arc::make_mut(record).verdict = new;
        step.event(at, kind);
        step.changes.vms.insert(vm);
        Recorded::Current
    }
}

/// Whether two verdicts tell a user the same. The evidence that the first one rests on stays the recorded one.
fn says_the_same(old: &Verdict, new: &Verdict) -> bool {
    old.state == new.state
        && old.faults == new.faults
        && old.notes == new.notes
        && old.advice == new.advice
        && old.suppressed == new.suppressed
}

/// Returns the reason cut at the limit, at the edge of a character.
pub(super) fn shortened(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_MAX));
    reason
}
