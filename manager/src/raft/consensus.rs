//! The handle that the rest of the manager works with: propose, read, follow, and learn who leads.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{Fatal, ForwardToLeader, LinearizableReadError, RaftError};
use openraft::storage::{LogState, RaftLogReader};
use thiserror::Error;
use tokio::sync::watch;
use vouch_types::{Applied, Command, LogIndex, ManagerId, ManagerNode};
use vouch_wire::links::{RaftLink, RaftService};

use super::applied::{AppliedState, NoticeStream};
use super::checkpoints::Checkpoint;
use super::config::ConsensusConfig;
use super::log_guard::LogGuard;
use super::matched::Matched;
use super::network::Network;
use super::presence;
use super::proposals::{Backlog, Proposals};
use super::room::{Room, RoomNow};
use super::service::Server;
use super::state_machine::StateMachine;
use super::status::{ConsensusStatus, follow};
use super::succession::Succession;
use super::types::{LogId, Types, manager_id};
use crate::store::{
    LogStore, Logged, Missing, SnapshotError, SnapshotStore, State, StateDigest, StateStore, StateStoreError, Stored,
    Stores,
};

pub(super) type Raft = openraft::Raft<Types, StateMachine>;

/// Why consensus cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings do not fit together.
    #[error("consensus settings")]
    Config(#[from] openraft::ConfigError),
    /// The projection cannot be read.
    #[error(transparent)]
    State(#[from] StateStoreError),
    /// The log cannot be read.
    #[error("manager {manager} cannot read its log")]
    Log {
        /// The manager.
        manager: ManagerId,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Log, snapshot and projection are not of one life.
    #[error("manager {manager} may not start from what it has stored: {missing}")]
    Missing {
        /// The manager.
        manager: ManagerId,
        /// What is missing.
        missing: Missing,
    },
    /// Log, snapshot and projection do not add up.
    #[error("manager {manager} cannot start from what it has stored")]
    Storage {
        /// The manager.
        manager: ManagerId,
        /// What is wrong.
        #[source]
        source: Box<Fatal<Types>>,
    },
}

/// Why the first members cannot be set.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InitializeError {
    /// There is a log already: this manager is, or was, in a cluster.
    #[error("manager {0} is in a cluster already")]
    AlreadyInitialised(ManagerId),
    /// The members do not name this manager.
    #[error("manager {0} is not among the first members")]
    NotAMember(ManagerId),
    /// Consensus has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Why a command did not come back applied.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ProposeError {
    /// Another manager leads, or this one does and has not heard from a quorum within its lease (or not yet, when it
    /// was just elected). Nothing was proposed.
    #[error("this manager cannot propose{}", leads(.leader))]
    NotLeader {
        /// Who leads, if anybody is known to do so with a quorum.
        leader: Option<ManagerId>,
    },
    /// Leadership was lost while the command was under way: it may yet be applied, or never.
    #[error("leadership was lost while the command was under way: it may or may not be applied{}", leads(.leader))]
    Unknown {
        /// Who leads now, if known.
        leader: Option<ManagerId>,
    },
    /// This manager leads and its disk is below the watermark. Nothing was proposed.
    #[error(
        "the disk of this manager, which leads, is below its watermark: free some space, it then goes on by itself"
    )]
    NoRoom,
    /// Consensus has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Why the state cannot be read at the consistency that was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// Another manager leads.
    #[error("this manager does not lead{}", leads(.leader))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<ManagerId>,
    },
    /// This manager leads, as far as it knows, and hears too few others to be sure.
    #[error("no quorum of managers answers")]
    NoQuorum,
    /// Consensus has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

/// Why leadership cannot be handed over.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TransferError {
    /// Consensus has stopped.
    #[error("consensus has stopped: {0}")]
    Stopped(String),
}

fn leads(leader: &Option<ManagerId>) -> String {
    leader.map_or_else(|| ": no leader with a quorum is known".to_owned(), |leader| format!(": {leader} leads"))
}

pub(super) fn leader_of(forward: &ForwardToLeader<Types>) -> Option<ManagerId> {
    forward.leader_id.map(manager_id)
}

/// How sure a read of the state has to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Consistency {
    /// The leader has heard from a quorum within its lease.
    Lease,
    /// The leader asks a quorum before it answers.
    Linearizable,
}

struct Inner {
    manager: ManagerId,
    raft: Raft,
    proposals: Proposals,
    applied: Arc<AppliedState>,
    status: watch::Receiver<ConsensusStatus>,
    fatal: watch::Receiver<Option<String>>,
    room: RoomNow,
    succession: Succession,
    matched: Matched,
    guard: LogGuard,
    changing: tokio::sync::Mutex<()>,
    state_store: Arc<dyn StateStore>,
    election_max: std::time::Duration,
    flush_log: Box<dyn Fn() -> BoxFuture<'static, std::io::Result<()>> + Send + Sync>,
}

/// The handle on consensus. Cheap to clone.
#[derive(Clone)]
pub struct Consensus(Arc<Inner>);

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Consensus").field(&self.0.manager).finish()
    }
}

impl Consensus {
    /// Starts consensus from what the stores hold. A new manager then waits to be initialised or added by others.
    ///
    /// # Errors
    /// [`StartError`] when settings or stores do not allow it.
    pub async fn start<L: LogStore>(
        manager: ManagerId,
        config: &ConsensusConfig,
        stores: Stores<L>,
        link: Arc<dyn RaftLink>,
    ) -> Result<Self, StartError> {
        let machine = StateMachine::open(Arc::clone(&stores.state), Arc::clone(&stores.snapshots))?;
        let applied = machine.applied();
        let stored = stored(manager, stores.log.clone(), &*stores.snapshots, machine.last_applied()).await?;
        stored.check().map_err(|missing| StartError::Missing { manager, missing })?;
        let matched = Matched::default();
        let guard = LogGuard::new(manager, stores.log.name(), Arc::clone(&applied));
        let backlog = Backlog::default();
        let network = Network {
            this: manager,
            link: Arc::clone(&link),
            stalled_after: config.stalled_after(),
            matched: matched.clone(),
            guard: guard.clone(),
            backlog: backlog.clone(),
        };
        let log = stores.log.clone();
        let settings = Arc::new(config.to_openraft()?);
        let raft = Raft::new(manager.get(), settings, network, stores.log, machine)
            .await
            .map_err(|source| StartError::Storage { manager, source: Box::new(source) })?;
        let (status, fatal) = follow(&raft);
        let succession = Succession::start(raft.clone(), status.clone(), config);
        presence::hold(link, guard.clone(), status.clone(), config);
        Ok(Self(Arc::new(Inner {
            manager,
            proposals: Proposals::new(raft.clone(), backlog),
            raft,
            applied,
            status,
            fatal,
            room: RoomNow::default(),
            succession,
            matched,
            guard,
            changing: tokio::sync::Mutex::default(),
            state_store: stores.state,
            election_max: config.election_max,
            flush_log: Box::new(move || Box::pin(log.flush())),
        })))
    }

    /// Returns what other managers' Raft calls.
    pub fn service(&self) -> Arc<dyn RaftService> {
        Arc::new(Server {
            raft: self.0.raft.clone(),
            room: self.0.room.clone(),
            succession: self.0.succession.clone(),
            guard: self.0.guard.clone(),
        })
    }

    pub(super) fn guard(&self) -> &LogGuard {
        &self.0.guard
    }

    pub(super) fn changing(&self) -> &tokio::sync::Mutex<()> {
        &self.0.changing
    }

    pub(super) fn matched(&self) -> &Matched {
        &self.0.matched
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.0.raft
    }

    /// Returns so many greatest election timeouts.
    pub(super) fn answer_limit(&self, elections: u32) -> std::time::Duration {
        self.0.election_max * elections
    }

    /// Returns this manager's id.
    pub fn manager(&self) -> ManagerId {
        self.0.manager
    }

    /// Sets the first members of a new cluster. Done once, on one of them.
    ///
    /// # Errors
    /// [`InitializeError`] when this manager is in a cluster already, or not named.
    pub async fn initialize(&self, members: BTreeMap<ManagerId, ManagerNode>) -> Result<(), InitializeError> {
        use openraft::errors::InitializeError as Refused;
        let members: BTreeMap<u64, ManagerNode> = members.into_iter().map(|(id, node)| (id.get(), node)).collect();
        match self.0.raft.initialize(members).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(Refused::NotAllowed(_))) => {
                Err(InitializeError::AlreadyInitialised(self.0.manager))
            }
            Err(RaftError::APIError(Refused::NotInMembers(_))) => Err(InitializeError::NotAMember(self.0.manager)),
            Err(RaftError::Fatal(fatal)) => Err(InitializeError::Stopped(fatal.to_string())),
        }
    }

    /// Returns whether this manager is in a cluster.
    pub async fn is_initialized(&self) -> bool {
        self.0.raft.is_initialized().await.unwrap_or(false)
    }

    /// Has a command agreed on and applied, and returns what came of it. Only the leader can.
    ///
    /// # Errors
    /// [`ProposeError`]; after [`ProposeError::Unknown`] the command may still be applied later.
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        self.propose_logged(command.into()).await
    }

    /// As [`Consensus::propose`], of a command as another manager handed it over.
    ///
    /// # Errors
    /// As for [`Consensus::propose`].
    pub async fn propose_logged(&self, command: Logged) -> Result<Applied, ProposeError> {
        match (self.look(ConsensusStatus::leads), self.room()) {
            (true, Room::Low) => Err(ProposeError::NoRoom),
            (true, Room::Enough) => self.0.proposals.propose(command).await,
            (false, _) => self.0.proposals.propose_alone(command).await,
        }
    }

    /// Says whether there is room for more of the log. While there is not, nothing is proposed here, and entries from
    /// the leader are refused; votes, heartbeats and reads go on.
    pub fn set_room(&self, room: Room) {
        self.0.room.set(room);
    }

    /// Returns whether there is room for more of the log.
    pub fn room(&self) -> Room {
        self.0.room.get()
    }

    /// Returns the hashes of the state at the newest checkpoints.
    pub fn newest_checkpoints(&self) -> Vec<Checkpoint> {
        self.0.applied.checkpoints(|checkpoints| checkpoints.newest())
    }

    /// Returns the hash of the state at a checkpoint, if that is kept.
    pub fn checkpoint(&self, index: LogIndex) -> Option<StateDigest> {
        self.0.applied.checkpoints(|checkpoints| checkpoints.get(index))
    }

    /// Returns what this manager now knows of its place in the cluster.
    pub fn status(&self) -> ConsensusStatus {
        ConsensusStatus::of(&self.0.raft.metrics().borrow_watched())
    }

    /// Looks at what [`Consensus::watch`] shows now. Keep `look` short: what follows it waits.
    pub fn look<T>(&self, look: impl FnOnce(&ConsensusStatus) -> T) -> T {
        look(&self.0.status.borrow())
    }

    /// Returns a receiver that follows [`Consensus::status`]: it changes when the role, the term, the leader, whether a quorum
    /// has answered, or the members do. How far the log has come is as it was then.
    pub fn watch(&self) -> watch::Receiver<ConsensusStatus> {
        self.0.status.clone()
    }

    /// Reads the state as this manager has applied it; it may lag behind the cluster. Keep `read` short: apply waits.
    pub fn read_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.0.applied.read(read)
    }

    /// Makes sure that a read of the state which follows sees all that was committed before this call.
    ///
    /// # Errors
    /// [`ReadError`] when this manager does not lead, or cannot be sure that it does.
    pub async fn ensure_current(&self, consistency: Consistency) -> Result<(), ReadError> {
        let policy = match consistency {
            Consistency::Lease => ReadPolicy::LeaseRead,
            Consistency::Linearizable => ReadPolicy::ReadIndex,
        };
        match self.0.raft.ensure_linearizable(policy).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotLeader { leader: leader_of(&forward) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
            Err(RaftError::Fatal(fatal)) => Err(ReadError::Stopped(fatal.to_string())),
        }
    }

    /// Returns notices of what is applied from now on. Subscribe first, then read the state, and nothing is missed.
    pub fn subscribe(&self) -> NoticeStream {
        self.0.applied.subscribe()
    }

    /// Returns a receiver that follows the index of the last applied entry.
    pub fn applied_index(&self) -> watch::Receiver<LogIndex> {
        self.0.applied.index()
    }

    /// Waits until consensus stops by itself, and returns why. The process has to end then: after a storage error
    /// nothing that it holds in memory can be trusted. Never returns after [`Consensus::shutdown`].
    pub fn fatal(&self) -> impl Future<Output = String> + Send + 'static {
        let mut fatal = self.0.fatal.clone();
        async move {
            match fatal.wait_for(Option::is_some).await.map(|why| why.clone()) {
                Ok(Some(why)) => why,
                Ok(None) | Err(_) => std::future::pending().await,
            }
        }
    }

    /// Waits until the state covers all that this manager had acknowledged before it was started again.
    ///
    /// # Errors
    /// A text when that takes longer than `limit`, or consensus stops.
    pub async fn wait_for_recovery(&self, limit: std::time::Duration) -> Result<(), String> {
        self.0.raft.wait_for_recovery(Some(limit)).await.map(drop).map_err(|e| e.to_string())
    }

    /// Hands leadership over to another manager; returns before that has taken it.
    ///
    /// # Errors
    /// [`TransferError::Stopped`]. A manager that does not lead does nothing.
    pub async fn transfer_leader(&self, to: ManagerId) -> Result<(), TransferError> {
        self.0.raft.trigger().transfer_leader(to.get()).await.map_err(|e| TransferError::Stopped(e.to_string()))
    }

    /// Makes a snapshot now.
    ///
    /// # Errors
    /// A text when consensus has stopped.
    pub async fn snapshot(&self) -> Result<(), String> {
        self.0.raft.trigger().snapshot().await.map_err(|e| e.to_string())
    }

    /// Stops, and leaves everything on disk in good order. Errors are told in the log: the next start makes up for
    /// them.
    ///
    /// After a storage error there is no good order: nothing more is flushed, and the projection is not closed, so that
    /// the next start makes it again from what is durable.
    pub async fn shutdown(&self) {
        let failed = self.0.raft.metrics().borrow_watched().running_state.is_err();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop in good order");
        }
        if failed {
            return;
        }
        if let Err(error) = (self.0.flush_log)().await {
            tracing::warn!(%error, "log could not be flushed");
            return;
        }
        let store = Arc::clone(&self.0.state_store);
        if let Err(error) = store.close() {
            tracing::warn!(error = &error as &dyn std::error::Error, "state store could not be closed");
        }
    }
}

/// Reads how far each store has come.
async fn stored<L: LogStore>(
    manager: ManagerId,
    mut log: L,
    snapshots: &dyn SnapshotStore,
    applied: Option<LogId>,
) -> Result<Stored, StartError> {
    let failed = |source| StartError::Log { manager, source };
    let LogState { last_purged_log_id: purged, last_log_id: last } = log.get_log_state().await.map_err(failed)?;
    let vote = log.get_log_reader().await.read_vote().await.map_err(failed)?;
    let snapshot = snapshots.covers().await?.and_then(|meta| meta.last_log_id);
    Ok(Stored { vote, last, purged, snapshot, applied })
}
