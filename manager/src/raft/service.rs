//! What other managers' Raft calls here: messages in, openraft's answers out.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use openraft::raft::TransferLeaderRequest;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vouch_types::ManagerId;
use vouch_wire::links::{LinkError, LogNames, RaftCall, RaftCallKind, RaftService};

use super::log_guard::LogGuard;
use super::network::{SnapshotHead, snapshot_parts};
use super::room::{Room, RoomNow};
use super::state_machine::StateMachine;
use super::succession::Succession;
use super::types::{Types, Vote};
use crate::store::codec::{decode, encode};

/// Serves other managers' Raft. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) raft: openraft::Raft<Types, StateMachine>,
    pub(super) room: RoomNow,
    pub(super) succession: Succession,
    pub(super) guard: LogGuard,
}

fn read<T: DeserializeOwned>(what: &'static str, body: &[u8]) -> Result<T, LinkError> {
    decode(what, body).map_err(|e| LinkError::Malformed(format!("{e}: {}", source_of(&e))))
}

fn write<T: Serialize>(what: &'static str, answer: &T) -> Result<Vec<u8>, LinkError> {
    encode(what, answer).map_err(|e| LinkError::Malformed(format!("{e}: {}", source_of(&e))))
}

fn source_of(e: &dyn std::error::Error) -> String {
    e.source().map(ToString::to_string).unwrap_or_default()
}

fn stopped(e: impl std::fmt::Display) -> LinkError {
    LinkError::Refused(format!("consensus has stopped: {e}"))
}

/// Refuses what would need room on the disk while there is none: an error inside a write would be the end.
fn has_room(room: &RoomNow) -> Result<(), LinkError> {
    match room.get() {
        Room::Enough => Ok(()),
        Room::Low => Err(LinkError::Refused("its disk is below the watermark: no entries are taken".to_owned())),
    }
}

/// A manager speaks for itself: its certificate is checked, and its vote must name it.
fn speaks_for(vote: &Vote, from: ManagerId) -> Result<(), LinkError> {
    if vote.leader_id.voted_for == from.get() {
        return Ok(());
    }
    Err(LinkError::Refused(format!("{from} speaks for m{}", vote.leader_id.voted_for)))
}

#[async_trait]
impl RaftService for Server {
    async fn call(&self, from: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError> {
        self.guard.check(from, request.kind, &request.names)?;
        let body = request.body;
        match request.kind {
            RaftCallKind::Append => {
                let rpc: AppendEntriesRequest<Types> = read("append request", &body)?;
                speaks_for(&rpc.vote, from)?;
                // Heartbeats carry none.
                if !rpc.entries.is_empty() {
                    has_room(&self.room)?;
                }
                write("append answer", &self.raft.append_entries(rpc).await.map_err(stopped)?)
            }
            RaftCallKind::Vote => {
                let rpc: VoteRequest<Types> = read("vote request", &body)?;
                speaks_for(&rpc.vote, from)?;
                write("vote answer", &self.raft.vote(rpc).await.map_err(stopped)?)
            }
            RaftCallKind::PreVote => {
                let rpc: VoteRequest<Types> = read("pre-vote request", &body)?;
                speaks_for(&rpc.vote, from)?;
                write("pre-vote answer", &self.raft.pre_vote(rpc).await.map_err(stopped)?)
            }
            RaftCallKind::Snapshot => {
                let (head, image) =
                    snapshot_parts(body).ok_or_else(|| LinkError::Malformed("snapshot cut short".to_owned()))?;
                let SnapshotHead { vote, meta } = read("snapshot head", &head)?;
                speaks_for(&vote, from)?;
                has_room(&self.room)?;
                let snapshot = openraft::Snapshot { meta, snapshot: image };
                write("snapshot answer", &self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?)
            }
            RaftCallKind::TransferLeader => {
                let rpc: TransferLeaderRequest<Types> = read("transfer request", &body)?;
                speaks_for(rpc.from_leader(), from)?;
                write("transfer answer", &self.raft.handle_transfer_leader(rpc).await.map_err(stopped)?)
            }
        }
    }

    async fn append_stream(
        &self,
        from: ManagerId,
        names: LogNames,
        requests: BoxStream<'static, Result<Vec<u8>, LinkError>>,
    ) -> BoxStream<'static, Result<Vec<u8>, LinkError>> {
        if let Err(refused) = self.guard.check(from, RaftCallKind::Append, &names) {
            return Box::pin(stream::iter([Err(refused)]));
        }
        let open = (requests, self.succession.opened(from));
        let requests = stream::unfold(open, |(mut requests, held)| async move {
            match requests.next().await {
                Some(Ok(body)) => Some((body, (requests, held))),
                // Cut off: a broken stream is an ended one, since what was not answered was not promised.
                Some(Err(_)) => None,
                None => {
                    held.ended_in_order();
                    None
                }
            }
        });
        // What cannot be read ends the stream: the sender sees it end and starts over.
        let room = self.room.clone();
        let requests = Box::pin(requests)
            .map(move |body| {
                let request: AppendEntriesRequest<Types> = read("append request", &body)?;
                speaks_for(&request.vote, from)?;
                if !request.entries.is_empty() {
                    has_room(&room)?;
                }
                Ok(request)
            })
            .take_while(move |request: &Result<_, LinkError>| {
                if let Err(error) = request {
                    tracing::warn!(manager_id = %from, %error, "append stream closed");
                }
                std::future::ready(request.is_ok())
            })
            .filter_map(|request| std::future::ready(request.ok()));
        let answers = self.raft.stream_append(requests);
        Box::pin(answers.map(|answer| write("append answer", &answer.map_err(stopped)?)))
    }
}
