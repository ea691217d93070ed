//! What openraft hands committed entries to: applies them to the state, keeps the projection, makes snapshots.
//!
//! openraft runs it in one task, so there is one apply at a time. One call of apply is one batch to the projection and one
//! notice to the rest of the manager, or more where a checkpoint falls into it; who proposed a command hears of it only
//! after both.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use vouch_types::{Applied, Command, DenyReason, LogIndex, ManagerId};

use super::applied::{AppliedState, Notice};
use super::checkpoints::CHECKPOINT_EVERY;
use super::types::{LogId, SnapshotMeta, StoredMembership, Types, manager_id};
use crate::store::codec::decode;
use crate::store::{
    Batch, Changes, Image, Position, Projection, SnapshotSource, SnapshotStore, StateHash, StateStore, StateStoreError,
    replace_all,
};

type Responder = openraft::storage::ApplyResponder<Types>;
type Snapshot = openraft::type_config::alias::SnapshotOf<Types, Bytes>;

/// What openraft hands committed entries to.
#[derive(Debug)]
pub struct StateMachine {
    applied: Arc<AppliedState>,
    position: Position,
    hash: StateHash,
    store: Arc<dyn StateStore>,
    snapshots: Arc<dyn SnapshotStore>,
}

impl StateMachine {
    /// Starts from what the projection holds; openraft brings it up to date from snapshot and log.
    ///
    /// # Errors
    /// [`StateStoreError`] when the projection cannot be read.
    pub fn open(store: Arc<dyn StateStore>, snapshots: Arc<dyn SnapshotStore>) -> Result<Self, StateStoreError> {
        let Projection { state, position, hash, digest: _ } = store.load()?.unwrap_or_default();
        let applied = Arc::new(AppliedState::new(state, index_of(&position)));
        Ok(Self { applied, position, hash, store, snapshots })
    }

    pub(super) fn applied(&self) -> Arc<AppliedState> {
        Arc::clone(&self.applied)
    }

    pub(super) fn last_applied(&self) -> Option<LogId> {
        self.position.applied
    }

    /// Returns whom a command speaks of as a member that is none: it was removed while the command was under way.
    fn stranger(&self, command: &Command) -> Option<ManagerId> {
        let (Command::RecordManagerLog { manager, .. } | Command::BeginManagerReturn { manager, .. }) = command else {
            return None;
        };
        let members = self.position.membership.membership();
        let is_member = members.nodes().any(|(id, _)| *id == manager.get());
        (!is_member).then_some(*manager)
    }

    fn view(&self) -> SnapshotView {
        SnapshotView {
            meta: SnapshotMeta {
                last_log_id: self.position.applied,
                last_membership: self.position.membership.clone(),
            },
            state: self.applied.read(Clone::clone),
            snapshots: Arc::clone(&self.snapshots),
        }
    }
}

fn index_of(position: &Position) -> LogIndex {
    LogIndex::new(position.applied.map_or(0, |id| id.index))
}

impl StateMachine {
    /// Keeps what was applied, and tells of it.
    fn publish(&mut self, all: Changes, answers: Vec<(Responder, Applied)>) -> io::Result<()> {
        let (position, hash) = (&self.position, &mut self.hash);
        let batch = self.applied.read(|state| Batch::of_changes(state, &all, position, hash))?;
        self.store.commit(batch).map_err(io::Error::other)?;
        let index = index_of(&self.position);
        let notice = (!all.is_empty()).then(|| Notice::Changed { index, changes: Arc::new(all) });
        self.applied.publish(index, notice);
        for (responder, applied) in answers {
            responder.send(applied);
        }
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = SnapshotView;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.position.applied, self.position.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut all = Changes::default();
        let mut answers = Vec::new();
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let applied = match entry.payload {
                EntryPayload::Blank => Applied::Nothing,
                EntryPayload::Membership(membership) => {
                    let members = membership.nodes().map(|(id, _)| manager_id(*id)).collect();
                    let index = LogIndex::new(entry.log_id.index);
                    all.merge(self.applied.write(|state| state.apply_members(index, &members)));
                    self.position.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Applied::Nothing
                }
                EntryPayload::Normal(logged) if let Some(stranger) = self.stranger(logged.command()) => {
                    Applied::Denied(DenyReason::NotMember(stranger))
                }
                EntryPayload::Normal(logged) => {
                    let index = LogIndex::new(entry.log_id.index);
                    let command = logged.command().clone();
                    let (applied, changes) = self.applied.write(|state| state.apply(index, command));
                    all.merge(changes);
                    applied
                }
            };
            self.position.applied = Some(entry.log_id);
            answers.extend(responder.map(|responder| (responder, applied)));
            if entry.log_id.index.is_multiple_of(CHECKPOINT_EVERY) {
                self.publish(std::mem::take(&mut all), std::mem::take(&mut answers))?;
                let index = LogIndex::new(entry.log_id.index);
                self.applied.checkpoints(|checkpoints| checkpoints.put(index, self.hash.digest()));
            }
        }
        self.publish(all, answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.view()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> Result<(), io::Error> {
        let image: Image = decode("snapshot", &snapshot)?;
        // Durable before anything of it counts.
        self.snapshots.save(meta.clone(), SnapshotSource::Received(snapshot)).await?;
        self.position = Position { applied: meta.last_log_id, membership: meta.last_membership.clone() };
        self.applied.write(|state| *state = image.into());
        let (store, position) = (self.store.as_ref(), &self.position);
        self.hash = self.applied.read(|state| replace_all(store, state, position)).map_err(io::Error::other)?;
        self.applied.publish(index_of(&self.position), Some(Notice::Replaced));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.load().await?.map(|stored| Snapshot { meta: stored.meta, snapshot: stored.image }))
    }
}

/// A view of the state as it was between two applies: pointers, while apply goes on with its own.
#[derive(Debug)]
pub struct SnapshotView {
    meta: SnapshotMeta,
    state: crate::store::State,
    snapshots: Arc<dyn SnapshotStore>,
}

impl RaftSnapshotBuilder<Types> for SnapshotView {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let source = SnapshotSource::View(Box::new(std::mem::take(&mut self.state)));
        let stored = self.snapshots.save(self.meta.clone(), source).await?;
        Ok(Snapshot { meta: stored.meta, snapshot: stored.image })
    }
}
