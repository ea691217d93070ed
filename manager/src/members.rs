//! Who the other managers are: as the log says, and before there is a log as the configuration does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use vouch_types::{ManagerId, ManagerNode};
use vouch_wire::links::RaftCallKind;

use crate::raft::{Consensus, ConsensusStatus};

/// The members, and those that once were. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    consensus: Consensus,
    configured: Arc<BTreeMap<ManagerId, ManagerNode>>,
    seen: Arc<Mutex<BTreeSet<ManagerId>>>,
}

/// Whether a manager's Raft is listened to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It is a member.
    Member,
    /// It was never heard of: it may have been added by entries that this manager does not have yet.
    Unheard,
    /// It is no member any more, or was configured and never became one.
    Removed,
}

impl Standing {
    /// Returns whether it may make a call: one that was never heard of may bring the log, and asks for no votes.
    pub(crate) const fn may(self, call: RaftCallKind) -> bool {
        match (self, call) {
            (Self::Member, _) => true,
            (Self::Unheard, RaftCallKind::Append | RaftCallKind::Snapshot) => true,
            (Self::Unheard, RaftCallKind::Vote | RaftCallKind::PreVote | RaftCallKind::TransferLeader) => false,
            (Self::Removed, _) => false,
        }
    }
}

fn standing(
    status: &ConsensusStatus,
    configured: &BTreeMap<ManagerId, ManagerNode>,
    seen: &BTreeSet<ManagerId>,
    manager: ManagerId,
) -> Standing {
    match (status.has_members(), status.is_member(manager), configured.contains_key(&manager), seen.contains(&manager))
    {
        (true, true, _, _) | (false, _, true, _) => Standing::Member,
        (true, false, true, _) | (true, false, _, true) => Standing::Removed,
        (_, _, false, _) => Standing::Unheard,
    }
}

impl Members {
    pub(crate) fn new(consensus: Consensus, configured: BTreeMap<ManagerId, ManagerNode>) -> Self {
        Self { consensus, configured: Arc::new(configured), seen: Arc::default() }
    }

    /// Returns all members, with a vote or without.
    pub(crate) fn now(&self) -> BTreeMap<ManagerId, ManagerNode> {
        let members = self.consensus.status().members();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend(members.keys().copied());
        if members.is_empty() { (*self.configured).clone() } else { members }
    }

    /// Returns all members but this one.
    pub(crate) fn others(&self) -> BTreeSet<ManagerId> {
        self.now().into_keys().filter(|id| *id != self.consensus.manager()).collect()
    }

    /// Returns whether a manager is a member now.
    pub(crate) fn contains(&self, manager: ManagerId) -> bool {
        self.judge(manager) == Standing::Member
    }

    pub(crate) fn standing(&self, manager: ManagerId) -> Standing {
        self.now();
        self.judge(manager)
    }

    fn judge(&self, manager: ManagerId) -> Standing {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.consensus.look(|status| standing(status, &self.configured, &seen, manager))
    }

    /// Waits until the members may have changed.
    pub(crate) async fn follow(&self, mut each: impl FnMut(BTreeMap<ManagerId, ManagerNode>)) {
        let mut status = self.consensus.watch();
        let mut last = None;
        loop {
            let _ = status.borrow_and_update();
            let now = self.now();
            if last.as_ref() != Some(&now) {
                each(now.clone());
                last = Some(now);
            }
            if status.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{LogIndex, Term};

    use super::*;
    use crate::raft::Role;

    fn managers(numbers: &[u64]) -> BTreeMap<ManagerId, ManagerNode> {
        numbers.iter().map(|n| (ManagerId::new(*n), ManagerNode::default())).collect()
    }

    fn status(voters: &[u64], learners: &[u64]) -> ConsensusStatus {
        ConsensusStatus {
            manager: ManagerId::new(1),
            role: Role::Follower,
            term: Term::new(1),
            leader: None,
            quorum_acked: false,
            last_log: LogIndex::default(),
            committed: LogIndex::default(),
            applied: LogIndex::default(),
            snapshot: LogIndex::default(),
            voters: managers(voters),
            learners: managers(learners),
            replicated: BTreeMap::new(),
        }
    }

    #[test]
    fn one_that_was_never_heard_of_may_bring_the_log_and_one_that_was_removed_may_do_nothing() {
        let configured = managers(&[1, 2, 3]);
        let seen: BTreeSet<ManagerId> = [1, 2, 3, 5].map(ManagerId::new).into();
        let of = |status: &ConsensusStatus, n| standing(status, &configured, &seen, ManagerId::new(n));
        let grown = status(&[1, 2], &[4]);
        assert_eq!([1, 2, 4].map(|n| of(&grown, n)), [Standing::Member; 3]);
        assert_eq!([3, 5].map(|n| of(&grown, n)), [Standing::Removed; 2], "configured or seen, and no member now");
        assert_eq!(of(&grown, 9), Standing::Unheard);
        let empty = status(&[], &[]);
        assert_eq!([1, 3].map(|n| of(&empty, n)), [Standing::Member; 2], "before there is a log");
        assert_eq!(of(&empty, 9), Standing::Unheard);

        use RaftCallKind::{Append, PreVote, Snapshot, TransferLeader, Vote};
        assert!([Append, Snapshot].into_iter().all(|call| Standing::Unheard.may(call)));
        assert!(![Vote, PreVote, TransferLeader].into_iter().any(|call| Standing::Unheard.may(call)));
        assert!(![Append, Vote].into_iter().any(|call| Standing::Removed.may(call)));
    }
}
