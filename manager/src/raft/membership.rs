//! Who the managers are, changed while they work: added without a vote, given one, removed.
//!
//! One change at a time, each agreed on by the log. A change that would leave too few managers that answer is refused
//! before it is proposed: nothing can take back a membership that has no quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::ClientWriteResponse;
use openraft::{ChangeMembers, Instant as _};
use thiserror::Error;
use vouch_types::{Command, ManagerId, ManagerNode, ReturnEnd, WallTime};

use crate::config::MEMBERS_MAX;

use super::consensus::{Consensus, ProposeError, leader_of};
use super::types::Types;

/// How many entries a manager may be behind the leader and still be given a vote.
pub const PROMOTE_LAG_MAX: u64 = 1_000;
/// For how many greatest election timeouts a manager counts as answering after its last answer.
const ANSWERS_FOR: u32 = 4;

/// Why the members are not changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MembershipError {
    /// Another manager leads.
    #[error("this manager does not lead{}", .leader.map_or_else(String::new, |leader| format!(": {leader} leads")))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<ManagerId>,
    },
    /// It is a member already.
    #[error("manager {0} is a member already")]
    AlreadyMember(ManagerId),
    /// It has a vote already.
    #[error("manager {0} has a vote already")]
    AlreadyVoter(ManagerId),
    /// It is no member.
    #[error("manager {0} is no member")]
    NotMember(ManagerId),
    /// There are as many as there may be.
    #[error("managers: {MEMBERS_MAX} is the most that a cluster may have; remove one first")]
    TooMany,
    /// Its log is too far behind for a vote.
    #[error("manager {manager} is {behind} entries behind, and may be {PROMOTE_LAG_MAX}: wait until it has caught up")]
    Behind {
        /// Which.
        manager: ManagerId,
        /// How far.
        behind: u64,
    },
    /// It does not answer.
    #[error("manager {0} does not answer: start it first, or look at its addresses")]
    Silent(ManagerId),
    /// There is nobody else.
    #[error("manager {0} is the only one with a vote")]
    Alone(ManagerId),
    /// The leader cannot be removed.
    #[error("manager {0} leads: hand the leadership over first (vouch cluster transfer)")]
    Leads(ManagerId),
    /// Too few would answer.
    #[error(
        "removing manager {manager} would lose the quorum: of the {voters} that are left with a vote {answering} answer, \
         and {needed} are needed"
    )]
    NoQuorumLeft {
        /// Which.
        manager: ManagerId,
        /// How many would be left.
        voters: usize,
        /// How many of them answer.
        answering: usize,
        /// How many have to.
        needed: usize,
    },
    /// An earlier change is not through.
    #[error("an earlier change of the members is not through yet: {0}")]
    InProgress(String),
    /// It may or may not be done.
    #[error("leadership was lost while the change was under way: it may or may not be done")]
    Unknown,
    /// Consensus has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Proof that nobody else on this manager changes the members.
pub(crate) type Held<'a> = tokio::sync::MutexGuard<'a, ()>;

/// The rule of removing a member with a vote; `answering` are all that answer, the leader included.
fn may_remove(
    manager: ManagerId,
    voters: &BTreeSet<ManagerId>,
    answering: &BTreeSet<ManagerId>,
) -> Result<(), MembershipError> {
    let left: BTreeSet<ManagerId> = voters.iter().copied().filter(|id| *id != manager).collect();
    let (voters, answering) = (left.len(), left.intersection(answering).count());
    let needed = voters / 2 + 1;
    if answering >= needed {
        return Ok(());
    }
    Err(MembershipError::NoQuorumLeft { manager, voters, answering, needed })
}

impl Consensus {
    /// Adds a manager without a vote: the log is sent to it from now on.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing is changed but after [`MembershipError::Unknown`].
    pub async fn add_member(&self, manager: ManagerId, node: ManagerNode) -> Result<(), MembershipError> {
        let held = self.changing_members().await;
        self.add_member_held(&held, manager, node).await
    }

    pub(crate) async fn add_member_held(
        &self,
        _held: &Held<'_>,
        manager: ManagerId,
        node: ManagerNode,
    ) -> Result<(), MembershipError> {
        let status = self.leading_status()?;
        if status.voters.contains_key(&manager) || status.learners.contains_key(&manager) {
            return Err(MembershipError::AlreadyMember(manager));
        }
        if status.voters.len() + status.learners.len() >= MEMBERS_MAX {
            return Err(MembershipError::TooMany);
        }
        // It begins with an empty log, whatever a former member of its id had acknowledged.
        self.matched().forget(manager);
        outcome(self.raft().add_learner(manager.get(), node, false).await)
    }

    /// Gives a member a vote, once it has caught up.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing is changed but after [`MembershipError::Unknown`].
    pub async fn promote_member(&self, manager: ManagerId) -> Result<(), MembershipError> {
        let held = self.changing_members().await;
        self.promote_member_held(&held, manager).await
    }

    pub(crate) async fn promote_member_held(
        &self,
        _held: &Held<'_>,
        manager: ManagerId,
    ) -> Result<(), MembershipError> {
        let status = self.leading_status()?;
        if status.voters.contains_key(&manager) {
            return Err(MembershipError::AlreadyVoter(manager));
        }
        if !status.learners.contains_key(&manager) {
            return Err(MembershipError::NotMember(manager));
        }
        if !self.answering().contains(&manager) {
            return Err(MembershipError::Silent(manager));
        }
        let has = status.replicated.get(&manager).map_or(0, |index| index.get());
        let behind = status.last_log.get().saturating_sub(has);
        if behind > PROMOTE_LAG_MAX {
            return Err(MembershipError::Behind { manager, behind });
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([manager.get()]))).await
    }

    /// Removes a member. It is not told; end its process.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing is changed but after [`MembershipError::Unknown`].
    pub async fn remove_member(&self, manager: ManagerId) -> Result<(), MembershipError> {
        let held = self.changing_members().await;
        self.remove_member_held(&held, manager).await
    }

    pub(crate) async fn remove_member_held(&self, _held: &Held<'_>, manager: ManagerId) -> Result<(), MembershipError> {
        let status = self.leading_status()?;
        let id = BTreeSet::from([manager.get()]);
        if status.learners.contains_key(&manager) {
            return self.change(ChangeMembers::RemoveNodes(id)).await;
        }
        if !status.voters.contains_key(&manager) {
            return Err(MembershipError::NotMember(manager));
        }
        if manager == self.manager() {
            return Err(MembershipError::Leads(manager));
        }
        may_remove(manager, &status.voters.keys().copied().collect(), &self.answering())?;
        self.change(ChangeMembers::RemoveVoters(id)).await
    }

    /// Keeps everybody else on this manager from changing the members while it is held: a change consists of several steps
    /// for an operator, and for the leader that brings a manager back.
    pub(crate) async fn changing_members(&self) -> Held<'_> {
        self.changing().lock().await
    }

    /// Removes a member for good, as an operator asks for: also one that has lost its log, and would be brought back.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing is changed but after [`MembershipError::Unknown`].
    pub async fn give_up_member(&self, manager: ManagerId, at: WallTime) -> Result<(), MembershipError> {
        let held = self.changing_members().await;
        let returns = || self.read_state(|state| state.manager_record(manager).is_some_and(|r| r.returning.is_some()));
        match self.remove_member_held(&held, manager).await {
            Ok(()) => {}
            Err(MembershipError::NotMember(_)) if returns() => {}
            Err(error) => return Err(error),
        }
        if !returns() {
            return Ok(());
        }
        let command = Command::EndManagerReturn { manager, end: ReturnEnd::GivenUp, at };
        match self.propose(command).await {
            Ok(_) => Ok(()),
            Err(ProposeError::NotLeader { leader }) => Err(MembershipError::NotLeader { leader }),
            Err(ProposeError::Unknown { .. } | ProposeError::NoRoom) => Err(MembershipError::Unknown),
            Err(ProposeError::Stopped(why)) => Err(MembershipError::Stopped(why)),
        }
    }

    /// Returns whether a change of those with a vote was left halfway by a leader that ended: until it is finished, both
    /// the old ones and the new ones have to agree to everything.
    pub fn change_is_halfway(&self) -> bool {
        self.raft().metrics().borrow_watched().membership_config.membership().get_joint_config().len() > 1
    }

    /// Finishes a change that was left halfway.
    ///
    /// # Errors
    /// [`MembershipError`]; nothing is changed but after [`MembershipError::Unknown`].
    pub async fn finish_change(&self) -> Result<(), MembershipError> {
        let _held = self.changing_members().await;
        self.leading_status()?;
        // One that was under way here, and not left, is done by now.
        if !self.change_is_halfway() {
            return Ok(());
        }
        // To change nothing is to go on to where the last change led.
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new())).await
    }

    /// Hands the leadership to this member, or to the one that answers and whose log is longest, and waits until another
    /// manager is known to lead.
    ///
    /// # Errors
    /// [`MembershipError`]; [`MembershipError::Unknown`] when nobody took it in time.
    pub async fn hand_over(&self, to: Option<ManagerId>, within: Duration) -> Result<(), MembershipError> {
        let status = self.leading_status()?;
        let answering = self.answering();
        let mut others = status.voters.keys().copied().filter(|id| *id != self.manager());
        let to = match to {
            Some(to) if to == self.manager() => return Ok(()),
            Some(to) if !status.voters.contains_key(&to) => return Err(MembershipError::NotMember(to)),
            Some(to) if !answering.contains(&to) => return Err(MembershipError::Silent(to)),
            Some(to) => to,
            None => {
                let any = others.next().map_or(MembershipError::Alone(self.manager()), MembershipError::Silent);
                self.heir(|_| true).ok_or(any)?
            }
        };
        let mut status = self.watch();
        self.transfer_leader(to).await.map_err(|e| MembershipError::Stopped(e.to_string()))?;
        let another = |status: &super::ConsensusStatus| status.leader.is_some_and(|leader| leader != self.manager());
        let taken = tokio::time::timeout(within, status.wait_for(another)).await;
        if taken.is_ok_and(|seen| seen.is_ok()) { Ok(()) } else { Err(MembershipError::Unknown) }
    }

    /// Returns the member that would lead best: one with a vote that answers and that `may` lead, with the longest log.
    pub fn heir(&self, may: impl Fn(ManagerId) -> bool) -> Option<ManagerId> {
        let (status, answering) = (self.status(), self.answering());
        let others = status.voters.keys().copied().filter(|id| *id != self.manager() && answering.contains(id));
        others.filter(|id| may(*id)).max_by_key(|id| (status.replicated.get(id).copied(), std::cmp::Reverse(*id)))
    }

    /// Hands the leadership over if this manager has it, to one that `prefer` names if there is such a one. Returns whether
    /// another manager leads afterwards, or this one did not lead.
    pub async fn step_down(&self, prefer: impl Fn(ManagerId) -> bool, within: Duration) -> bool {
        !self.status().leads() || self.hand_over(self.heir(prefer), within).await.is_ok()
    }

    /// Returns the members that answered the leader lately, itself included; nobody on a manager that does not lead.
    pub fn answering(&self) -> BTreeSet<ManagerId> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let limit = self.answer_limit(ANSWERS_FOR);
        let heard: BTreeMap<_, _> = metrics.heartbeat.iter().flatten().collect();
        let lately = heard.into_iter().filter(|(_, at)| at.as_ref().is_some_and(|at| at.elapsed() <= limit));
        let own = metrics.state.is_leader().then(|| self.manager());
        lately.map(|(id, _)| ManagerId::new(*id)).chain(own).collect()
    }

    fn leading_status(&self) -> Result<super::ConsensusStatus, MembershipError> {
        let status = self.status();
        if status.leads() { Ok(status) } else { Err(MembershipError::NotLeader { leader: status.leader }) }
    }

    async fn change(&self, change: ChangeMembers<u64, ManagerNode>) -> Result<(), MembershipError> {
        outcome(self.raft().change_membership(change, false).await)
    }
}

fn outcome(
    written: Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>,
) -> Result<(), MembershipError> {
    match written {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
            Err(MembershipError::NotLeader { leader: leader_of(&forward) })
        }
        Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => {
            Err(MembershipError::InProgress(error.to_string()))
        }
        Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_) | ClientWriteError::PreconditionFailed(_))) => {
            Err(MembershipError::Unknown)
        }
        Err(RaftError::Fatal(fatal)) => Err(MembershipError::Stopped(fatal.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> BTreeSet<ManagerId> {
        numbers.iter().copied().map(ManagerId::new).collect()
    }

    #[test]
    fn a_removal_is_refused_when_too_few_of_those_left_answer() {
        let m = ManagerId::new;
        assert_eq!(may_remove(m(3), &ids(&[1, 2, 3]), &ids(&[1, 2, 3])), Ok(()));
        assert_eq!(may_remove(m(3), &ids(&[1, 2, 3]), &ids(&[1, 2])), Ok(()), "the dead one goes");
        let refused = may_remove(m(2), &ids(&[1, 2, 3]), &ids(&[1, 2]));
        let expected = MembershipError::NoQuorumLeft { manager: m(2), voters: 2, answering: 1, needed: 2 };
        assert_eq!(refused, Err(expected), "the dead one would be left as half of the votes");
        assert!(may_remove(m(1), &ids(&[1]), &ids(&[1])).is_err(), "the last one stays");
        let text = refused.expect_err("refused").to_string();
        assert!(text.contains("m2") && text.contains("of the 2") && text.contains("2 are needed"), "{text}");
    }
}
