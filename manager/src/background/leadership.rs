//! Whether this manager leads with a quorum behind it: what everything that acts goes by.
//!
//! Consensus keeps a leader in office that hears no quorum any more; its word counts for nothing, since another may
//! lead. So the lease is confirmed again and again, and once per term the log is told who leads: a leader whose record
//! is applied has also applied everything that came before its term.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;
use vouch_types::{Command, ManagerId, Term, Timing};

use crate::detect::lease_check_interval;
use crate::raft::{Consensus, Consistency};
use crate::seams::{Followed, WallClock};

/// The task; see the module's head.
pub(super) struct LeadershipTask {
    pub(super) own: ManagerId,
    pub(super) timing: Timing,
    pub(super) wall_clock: Arc<dyn WallClock>,
    pub(super) consensus: Consensus,
    pub(super) leading: Followed<Option<Term>>,
}

impl LeadershipTask {
    pub(super) async fn run(self) {
        let mut status = self.consensus.watch();
        let mut interval = tokio::time::interval(lease_check_interval(&self.timing));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = interval.tick() => {}
                changed = status.changed() => if changed.is_err() { return },
            }
            let (leads, term) = {
                let status = status.borrow_and_update();
                (status.leads(), status.term)
            };
            let confirmed = leads && self.confirm(term).await;
            self.publish(confirmed.then_some(term));
        }
    }

    /// Returns whether a quorum stands behind this manager in this term.
    async fn confirm(&self, term: Term) -> bool {
        let lease = self.consensus.ensure_current(Consistency::Lease);
        if !matches!(tokio::time::timeout(self.timing.raft_election_max, lease).await, Ok(Ok(()))) {
            return false;
        }
        let recorded = self.consensus.read_state(|state| state.leader());
        if recorded.is_some_and(|leader| leader.term == term && leader.manager == self.own) {
            return true;
        }
        let command = Command::RecordLeader { manager: self.own, term, at: self.wall_clock.now() };
        let recording = self.consensus.propose(command);
        matches!(tokio::time::timeout(self.timing.raft_election_max * 2, recording).await, Ok(Ok(_)))
    }

    fn publish(&self, leading: Option<Term>) {
        self.leading.send_if_modified(|current| {
            if *current == leading {
                return false;
            }
            let word = |term: Option<Term>| if term.is_some() { "leading" } else { "following" };
            tracing::info!(
                manager_id = %self.own,
                from = word(*current),
                to = word(leading),
                term = leading.map(tracing::field::display),
                reason = if leading.is_some() { "a quorum answers" } else { "not the leader, or no quorum answers" },
                "leadership"
            );
            *current = leading;
            true
        });
    }
}
