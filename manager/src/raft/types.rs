//! The types that openraft is instantiated with, under names of our own.

use std::collections::{BTreeMap, BTreeSet};

use openraft::vote::leader_id_std::CommittedLeaderId;
use vouch_types::{Applied, LogIndex, ManagerId, ManagerNode, Term};

use super::runtime::SeededRuntime;
use crate::store::Logged;

openraft::declare_raft_types!(
    /// Raft as vouch uses it: one leader per term at most, commands in, what came of them out.
    pub Types:
        D = Logged,
        R = Applied,
        NodeId = u64,
        Node = ManagerNode,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = SeededRuntime,
);

/// Position of an entry: term and index.
pub type LogId = openraft::type_config::alias::LogIdOf<Types>;
/// A vote: for whom, in which term, and whether a quorum granted it.
pub type Vote = openraft::type_config::alias::VoteOf<Types>;
/// One entry of the log.
pub type Entry = openraft::type_config::alias::EntryOf<Types>;
/// What an entry carries.
pub type Payload = openraft::type_config::alias::PayloadOf<Types>;
/// Who the managers are.
pub type Membership = openraft::Membership<u64, ManagerNode>;
/// Who the managers are, and which entry said so.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

pub use openraft::LogIdOptionExt;

/// Returns the term of an entry's position.
pub fn log_id_term(id: &LogId) -> Term {
    Term::new(**id.committed_leader_id())
}

pub(super) fn manager_id(number: u64) -> ManagerId {
    ManagerId::new(number)
}

/// Returns the vote and the snapshot position of a manager that begins a new cluster from a state of this index, in terms
/// after this one.
pub fn restored_position(
    manager: ManagerId,
    term: Term,
    index: LogIndex,
    members: BTreeMap<ManagerId, ManagerNode>,
) -> (Vote, SnapshotMeta) {
    let id = LogId::new(CommittedLeaderId::new(term.get()), index.get());
    let voters: BTreeSet<u64> = members.keys().map(|id| id.get()).collect();
    let nodes: BTreeMap<u64, ManagerNode> = members.into_iter().map(|(id, node)| (id.get(), node)).collect();
    let membership = Membership::new(vec![voters], nodes).expect("each voter has its node");
    let meta = SnapshotMeta { last_log_id: Some(id), last_membership: StoredMembership::new(Some(id), membership) };
    (Vote::new(term.get(), manager.get()), meta)
}
