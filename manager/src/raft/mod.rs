//! Consensus: how the managers agree on one log, as a thin adapter over openraft.
//!
//! [`Consensus`] is what the rest of the manager uses; it names no openraft type. What a command does is not decided
//! here but in [`State::apply`](crate::store::State::apply); how messages travel is the links' matter
//! ([`vouch_wire::links::RaftLink`]).

mod append_stream;
mod applied;
mod checkpoints;
mod config;
mod consensus;
mod ended;
mod log_guard;
mod matched;
mod membership;
mod network;
mod presence;
mod proposals;
mod room;
mod runtime;
mod service;
mod state_machine;
mod status;
mod succession;
mod types;

pub use applied::{NOTICES_MAX, Notice, NoticeStream};
pub use checkpoints::{CHECKPOINT_EVERY, CHECKPOINTS_MAX, CHECKPOINTS_TOLD, Checkpoint};
pub use config::{ConsensusConfig, LOG_KEPT, SNAPSHOT_AFTER};
pub use consensus::{Consensus, Consistency, InitializeError, ProposeError, ReadError, StartError, TransferError};
pub use log_guard::LostLog;
pub(crate) use membership::Held;
pub use membership::{MembershipError, PROMOTE_LAG_MAX};
pub use room::Room;
pub use runtime::SeededRuntime;
pub use state_machine::StateMachine;
pub use status::{ConsensusStatus, Role};
pub use types::{
    Entry, LogId, LogIdOptionExt, Membership, Payload, SnapshotMeta, StoredMembership, Types, Vote, log_id_term,
    restored_position,
};

#[cfg(test)]
pub(crate) mod tests;
