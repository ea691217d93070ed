//! How far each other manager's log agrees with this leader's, so that one which loses its log is found out.
//!
//! openraft takes it for granted that what was acknowledged stays: an answer that takes it back stops its leader, or its
//! replication. But a data folder can be emptied under a member. Its answers are held back here: it gets no entries,
//! because with a part of the log it would vote for managers that lack what it had acknowledged. The way out is to remove
//! it from the cluster and add it again.
//!
//! An emptied folder is known by the name of its log, under any leader ([`log_guard`](super::log_guard)). What is left to
//! be found here is an old copy of a folder, which has the right name, and a log of before names were recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use vouch_types::ManagerId;

use super::types::{LogId, Vote};

/// A manager has lost what it had acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "{manager} has lost its log: it acknowledged entry {acknowledged}, and lacks entry {lacks}. Remove it from the cluster \
     and add it again (`vouch cluster remove`, `vouch cluster add`)"
)]
pub(super) struct LostLog {
    manager: ManagerId,
    acknowledged: u64,
    lacks: u64,
}

/// The last entry that a manager acknowledged, to the leader of one term.
#[derive(Clone, Copy)]
struct Acknowledged {
    term: u64,
    index: u64,
    told: bool,
}

/// The last entries that the others acknowledged. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Matched(Arc<Mutex<BTreeMap<ManagerId, Acknowledged>>>);

impl Matched {
    /// Notes that a manager acknowledged its log up to an entry, to the leader of this vote.
    pub(super) fn accepted(&self, manager: ManagerId, vote: &Vote, last: Option<&LogId>) {
        let Some(last) = last else { return };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let term = vote.leader_id.term;
        let entry = all.entry(manager).or_insert(Acknowledged { term, index: last.index, told: false });
        if entry.term < term {
            *entry = Acknowledged { term, index: last.index, told: false };
        } else if entry.term == term {
            entry.index = entry.index.max(last.index);
        }
    }

    /// Forgets what a manager acknowledged, for it is to be a new member.
    pub(super) fn forget(&self, manager: ManagerId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&manager);
    }

    /// Takes the answer of a manager that it lacks an entry, or holds another in its place.
    ///
    /// # Errors
    /// [`LostLog`] if it acknowledged that entry to the leader of this vote.
    pub(super) fn lacks(&self, manager: ManagerId, vote: &Vote, entry: &LogId) -> Result<(), LostLog> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = all.get_mut(&manager) else { return Ok(()) };
        if last.term != vote.leader_id.term || entry.index > last.index {
            return Ok(());
        }
        let lost = LostLog { manager, acknowledged: last.index, lacks: entry.index };
        if !std::mem::replace(&mut last.told, true) {
            tracing::error!(error = &lost as &dyn std::error::Error, "a manager has lost its log");
        }
        Err(lost)
    }
}
