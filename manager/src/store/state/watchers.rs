//! The life of watchers, as drawn in [`vouch_types::watcher`]: placed, live, lost, retired, forgotten.

use std::sync::Arc;

use vouch_types::command::CHANGES_MAX;
use vouch_types::grant::GRANT_VMS_MAX;
use vouch_types::{
    Applied, AssignmentGeneration, DenyReason, EventKind, Incarnation, NodeId, VmId, WallTime, WatcherId, WatcherLife,
    WatcherRecord,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;

/// Length of the hash of a one-time secret: SHA-256.
const SECRET_HASH_LEN: usize = 32;

impl State {
    pub(super) fn place_watcher(
        &mut self,
        step: &mut Step,
        node: NodeId,
        secret_hash: Vec<u8>,
        at: WallTime,
    ) -> Outcome {
        if !self.nodes.contains_key(&node) {
            return Err(DenyReason::UnknownNode(node));
        }
        self.head.watchers_placed += 1;
        step.changes.head = true;
        let watcher = WatcherId::new(self.head.watchers_placed);
        let record = WatcherRecord {
            id: watcher,
            node: node.clone(),
            life: WatcherLife::Placed,
            placed: step.index,
            incarnation: None,
            secret_hash: Some(secret_hash),
            redeemed_hash: None,
            vms: Vec::new(),
            assignment: AssignmentGeneration::default(),
        };
        self.watchers.insert(watcher, Arc::new(record));
        step.changes.watchers.insert(watcher);
        step.event(at, EventKind::WatcherPlaced { watcher, node });
        Ok(Applied::WatcherPlaced { index: step.index, watcher })
    }

    pub(super) fn redeem_secret(
        &mut self,
        step: &mut Step,
        watcher: WatcherId,
        shown: &[u8],
        incarnation: Incarnation,
        at: WallTime,
    ) -> Outcome {
        let record = self.watchers.get_mut(&watcher).ok_or(DenyReason::UnknownWatcher(watcher))?;
        match redemption(record, shown, incarnation) {
            Redemption::First => {}
            Redemption::Again => return step.done(),
            Redemption::Refused => return Err(DenyReason::BadSecret(watcher)),
        }
        let record = Arc::make_mut(record);
        record.redeemed_hash = record.secret_hash.take();
        self.watcher_lives(step, watcher, incarnation, at)
    }

    /// A watcher has its certificate.
    pub(super) fn watcher_lives(
        &mut self,
        step: &mut Step,
        watcher: WatcherId,
        incarnation: Incarnation,
        at: WallTime,
    ) -> Outcome {
        let record = Arc::make_mut(self.watcher_mut(watcher)?);
        record.life = WatcherLife::Live;
        record.incarnation = Some(incarnation);
        let node = record.node.clone();
        step.changes.watchers.insert(watcher);
        step.event(at, EventKind::WatcherLive { watcher, node });
        step.done()
    }

    pub(super) fn assign_watchers(&mut self, step: &mut Step, assignments: Vec<(WatcherId, Vec<VmId>)>) -> Outcome {
        limit("assignments", assignments.len(), CHANGES_MAX)?;
        for (watcher, vms) in &assignments {
            if !self.watchers.contains_key(watcher) {
                return Err(DenyReason::UnknownWatcher(*watcher));
            }
            limit(&format!("vms of watcher {watcher}"), vms.len(), GRANT_VMS_MAX)?;
        }
        let mut generations = Vec::with_capacity(assignments.len());
        for (watcher, mut vms) in assignments {
            vms.sort();
            vms.dedup();
            if let Some(record) = self.watchers.get_mut(&watcher) {
                if record.vms != vms {
                    let record = Arc::make_mut(record);
                    record.vms = vms;
                    record.assignment = record.assignment.next();
                    step.changes.watchers.insert(watcher);
                }
                generations.push((watcher, record.assignment));
            }
        }
        Ok(Applied::WatchersAssigned { index: step.index, generations })
    }

    pub(super) fn lose_watcher(
        &mut self,
        step: &mut Step,
        watcher: WatcherId,
        reason: String,
        at: WallTime,
    ) -> Outcome {
        match self.watcher_mut(watcher)?.life {
            WatcherLife::Placed | WatcherLife::Live => {
                let node = self.end_watcher(step, watcher, WatcherLife::Lost)?;
                step.event(at, EventKind::WatcherLost { watcher, node, reason });
            }
            WatcherLife::Lost | WatcherLife::Retired => {}
        }
        step.done()
    }

    pub(super) fn retire_watcher(&mut self, step: &mut Step, watcher: WatcherId, at: WallTime) -> Outcome {
        match self.watcher_mut(watcher)?.life {
            WatcherLife::Placed | WatcherLife::Live | WatcherLife::Lost => {
                let node = self.end_watcher(step, watcher, WatcherLife::Retired)?;
                step.event(at, EventKind::WatcherRetired { watcher, node });
            }
            WatcherLife::Retired => {}
        }
        step.done()
    }

    pub(super) fn forget_watcher(&mut self, step: &mut Step, watcher: WatcherId) -> Outcome {
        self.watchers.remove(&watcher).ok_or(DenyReason::UnknownWatcher(watcher))?;
        step.changes.watchers.insert(watcher);
        step.done()
    }

    pub(super) fn watcher_mut(&mut self, watcher: WatcherId) -> Result<&mut Arc<WatcherRecord>, DenyReason> {
        self.watchers.get_mut(&watcher).ok_or(DenyReason::UnknownWatcher(watcher))
    }

    /// Ends its life, and with it the right to show its secret.
    fn end_watcher(&mut self, step: &mut Step, watcher: WatcherId, life: WatcherLife) -> Result<NodeId, DenyReason> {
        let record = Arc::make_mut(self.watcher_mut(watcher)?);
        record.life = life;
        record.secret_hash = None;
        record.redeemed_hash = None;
        step.changes.watchers.insert(watcher);
        Ok(record.node.clone())
    }
}

/// What a secret that is shown is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Redemption {
    /// It is the watcher's, and is shown for the first time.
    First,
    /// The same life shows it again: the answer to the first time was lost.
    Again,
    /// It is worth nothing.
    Refused,
}

/// Returns what the hash of a secret is worth that a life of a watcher shows.
pub(crate) fn redemption(record: &WatcherRecord, shown: &[u8], incarnation: Incarnation) -> Redemption {
    let first = same_secret(record.secret_hash.as_deref(), shown);
    let again = same_secret(record.redeemed_hash.as_deref(), shown);
    match (first, again && record.incarnation == Some(incarnation)) {
        (true, _) => Redemption::First,
        (false, true) => Redemption::Again,
        (false, false) => Redemption::Refused,
    }
}

/// Compares in time that does not depend on where two hashes differ, nor on whether there is one.
pub(super) fn same_secret(recorded: Option<&[u8]>, shown: &[u8]) -> bool {
    let absent = [0; SECRET_HASH_LEN];
    let expected = recorded.unwrap_or(&absent);
    let byte = |bytes: &[u8], i: usize| bytes.get(i).copied().unwrap_or_default();
    let differing = (0..SECRET_HASH_LEN).fold(0, |acc, i| acc | (byte(expected, i) ^ byte(shown, i)));
    recorded.is_some() & (expected.len() == SECRET_HASH_LEN) & (shown.len() == SECRET_HASH_LEN) & (differing == 0)
}
