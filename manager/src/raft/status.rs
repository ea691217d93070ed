//! What a manager knows of its place in the cluster.

use std::collections::BTreeMap;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{AsyncRuntime, RaftMetrics, ServerState};
use tokio::sync::watch;
use vouch_types::{LogIndex, ManagerId, ManagerNode, Term};

use super::consensus::Raft;
use super::ended::told;
use super::runtime::SeededRuntime;
use super::types::{LogId, Types, manager_id};

/// What this manager is in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It receives the log and has no vote.
    Learner,
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
    /// It has stopped.
    Stopped,
}

impl Role {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Leader => "leader",
            Self::Stopped => "stopped",
        }
    }
}

/// What a manager knows of its place in the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsensusStatus {
    /// Itself.
    pub manager: ManagerId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<ManagerId>,
    /// For a leader, whether a quorum has answered it since it was elected. Ask
    /// [`Consensus::ensure_current`](super::Consensus::ensure_current) whether it still does.
    pub quorum_acked: bool,
    /// The last entry of its log.
    pub last_log: LogIndex,
    /// The last entry that it knows to be committed.
    pub committed: LogIndex,
    /// The last entry that it has applied.
    pub applied: LogIndex,
    /// The last entry that its snapshot covers.
    pub snapshot: LogIndex,
    /// The managers with a vote, and where they are reached.
    pub voters: BTreeMap<ManagerId, ManagerNode>,
    /// The managers without a vote.
    pub learners: BTreeMap<ManagerId, ManagerNode>,
    /// For a leader, how far each other manager's log agrees with its own.
    pub replicated: BTreeMap<ManagerId, LogIndex>,
}

/// What of the metrics others wait for a change of; how far the log has come is no part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Standing {
    state: ServerState,
    term: u64,
    leader: Option<u64>,
    quorum_acked: bool,
    members: Option<LogId>,
}

impl Standing {
    fn of(metrics: &RaftMetrics<Types>) -> Self {
        Self {
            state: metrics.state,
            term: metrics.current_term,
            leader: metrics.current_leader,
            quorum_acked: metrics.last_quorum_acked.is_some(),
            members: *metrics.membership_config.log_id(),
        }
    }
}

impl ConsensusStatus {
    pub(super) fn of(metrics: &RaftMetrics<Types>) -> Self {
        let index = |id: &Option<LogId>| LogIndex::new(id.as_ref().map_or(0, |id| id.index));
        let membership = metrics.membership_config.membership();
        let votes: Vec<u64> = membership.voter_ids().collect();
        let (voters, learners) = membership
            .nodes()
            .map(|(id, node)| (manager_id(*id), node.clone()))
            .partition(|(id, _)| votes.contains(&id.get()));
        Self {
            manager: manager_id(metrics.id),
            role: match metrics.state {
                ServerState::Learner => Role::Learner,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Leader => Role::Leader,
                ServerState::Shutdown => Role::Stopped,
            },
            term: Term::new(metrics.current_term),
            leader: metrics.current_leader.map(manager_id),
            quorum_acked: metrics.last_quorum_acked.is_some(),
            last_log: LogIndex::new(metrics.last_log_index.unwrap_or_default()),
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            voters,
            learners,
            replicated: metrics.replication.iter().flatten().map(|(id, at)| (manager_id(*id), index(at))).collect(),
        }
    }

    /// Returns all managers, with a vote or without.
    pub fn members(&self) -> BTreeMap<ManagerId, ManagerNode> {
        self.voters.iter().chain(&self.learners).map(|(id, node)| (*id, node.clone())).collect()
    }

    /// Returns whether there are managers yet.
    pub fn has_members(&self) -> bool {
        !self.voters.is_empty()
    }

    /// Returns whether a manager is one of them, with a vote or without.
    pub fn is_member(&self, manager: ManagerId) -> bool {
        self.voters.contains_key(&manager) || self.learners.contains_key(&manager)
    }

    /// Returns whether this manager leads.
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}

/// Follows openraft's metrics, in words of our own, until consensus is gone: the status whenever its standing is another
/// one, and why consensus has stopped by itself once it has.
pub(super) fn follow(raft: &Raft) -> (watch::Receiver<ConsensusStatus>, watch::Receiver<Option<String>>) {
    let mut metrics = raft.metrics();
    let (mut standing, first) = {
        let metrics = metrics.borrow_watched();
        (Standing::of(&metrics), ConsensusStatus::of(&metrics))
    };
    let (sender, receiver) = watch::channel(first);
    let (ended, fatal) = watch::channel(None);
    let _task = SeededRuntime::spawn(async move {
        loop {
            {
                // Seen with every entry, so that no more is done here than need be.
                let metrics = metrics.borrow_and_update();
                match &metrics.running_state {
                    Ok(()) | Err(Fatal::Stopped) => {}
                    Err(fatal) if ended.borrow().is_none() => {
                        tracing::error!(error = fatal as &dyn std::error::Error, "consensus stopped");
                        ended.send_replace(Some(told(fatal)));
                    }
                    Err(_) => {}
                }
                let now = Standing::of(&metrics);
                if now != standing {
                    standing = now;
                    let status = ConsensusStatus::of(&metrics);
                    tell_role(&sender.borrow(), &status);
                    sender.send_replace(status);
                }
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    (receiver, fatal)
}

fn tell_role(before: &ConsensusStatus, now: &ConsensusStatus) {
    if (before.role, before.leader) != (now.role, now.leader) {
        tracing::info!(
            manager_id = %now.manager,
            term = %now.term,
            from = before.role.as_str(),
            to = now.role.as_str(),
            leader = now.leader.map(tracing::field::display),
            "consensus role"
        );
    }
}
