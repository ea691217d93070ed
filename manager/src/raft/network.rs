//! openraft's calls to other managers, as messages over a [`RaftLink`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream, Stream};
use openraft::OptionalSend;
use openraft::base::BoxFuture;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest, VoteResponse,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vouch_types::{ManagerId, ManagerNode};
use vouch_wire::links::{LinkError, RaftCall, RaftCallKind, RaftLink};

use super::append_stream::{Answers, InFlight, Requests, end_of};
use super::log_guard::LogGuard;
use super::matched::Matched;
use super::proposals::Backlog;
use super::types::{SnapshotMeta, Types, Vote, manager_id};
use crate::store::codec::{CodecError, decode, encode};

/// A snapshot on its way, but for its image: that follows these bytes, after their length (u32, little-endian).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotHead {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
}

/// Makes a way to each other manager.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) this: ManagerId,
    pub(super) link: Arc<dyn RaftLink>,
    /// How long an append may go unanswered before its stream is given up.
    pub(super) stalled_after: Duration,
    pub(super) matched: Matched,
    pub(super) guard: LogGuard,
    pub(super) backlog: Backlog,
}

/// The way to one other manager.
pub(super) struct Peer {
    this: ManagerId,
    to: ManagerId,
    link: Arc<dyn RaftLink>,
    stalled_after: Duration,
    matched: Matched,
    guard: LogGuard,
    backlog: Backlog,
}

/// Why a call did not bring an answer.
enum CallError {
    Link(LinkError),
    Codec(CodecError),
    Timeout,
}

impl From<CodecError> for CallError {
    fn from(e: CodecError) -> Self {
        Self::Codec(e)
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &ManagerNode) -> Peer {
        Peer {
            this: self.this,
            to: manager_id(target),
            link: Arc::clone(&self.link),
            stalled_after: self.stalled_after,
            matched: self.matched.clone(),
            guard: self.guard.clone(),
            backlog: self.backlog.clone(),
        }
    }
}

impl Peer {
    async fn call<Answer: DeserializeOwned>(
        &self,
        kind: RaftCallKind,
        body: Vec<u8>,
        option: &RPCOption,
    ) -> Result<Answer, CallError> {
        let call = self.link.call(self.to, RaftCall { kind, body, names: self.guard.names(self.to) });
        match tokio::time::timeout(option.hard_ttl(), call).await {
            Ok(Ok(answer)) => Ok(decode("answer", &answer)?),
            Ok(Err(e)) => Err(CallError::Link(e)),
            Err(_) => Err(CallError::Timeout),
        }
    }

    fn timeout(&self, action: RPCTypes, option: &RPCOption) -> Timeout<Types> {
        Timeout { action, id: self.this.get(), target: self.to.get(), timeout: option.hard_ttl() }
    }

    fn rpc_error(&self, error: CallError, action: RPCTypes, option: &RPCOption) -> RPCError<Types> {
        match error {
            CallError::Timeout => self.timeout(action, option).into(),
            CallError::Codec(e) => NetworkError::new(&e).into(),
            CallError::Link(e) => link_error(&e),
        }
    }
}

/// All of them make replication pause for the backoff: an error that came at once would come again at once.
fn link_error(error: &LinkError) -> RPCError<Types> {
    Unreachable::new(error).into()
}

fn codec_error(error: CodecError) -> RPCError<Types> {
    NetworkError::new(&error).into()
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let body = encode("append request", &rpc).map_err(codec_error)?;
        let answer = self
            .call(RaftCallKind::Append, body, &option)
            .await
            .map_err(|e| self.rpc_error(e, RPCTypes::AppendEntries, &option))?;
        match (&answer, &rpc.prev_log_id) {
            (AppendEntriesResponse::Success, _) => self.matched.accepted(self.to, &rpc.vote, end_of(&rpc).as_ref()),
            (AppendEntriesResponse::PartialSuccess(last), _) => {
                self.matched.accepted(self.to, &rpc.vote, last.as_ref());
            }
            (AppendEntriesResponse::Conflict, Some(before)) => {
                self.matched.lacks(self.to, &rpc.vote, before).map_err(|lost| Unreachable::new(&lost))?;
            }
            (AppendEntriesResponse::Conflict, None) | (AppendEntriesResponse::HigherVote(_), _) => {}
        }
        Ok(answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // The first request is taken before the link is opened: openraft's pause after an error is in taking it, and
            // without it a link that fails at once would be opened again at once, for ever.
            let mut input = input;
            let Some(first) = input.next().await else {
                return Ok(Box::pin(stream::empty()) as BoxStream<'s, _>);
            };
            let vote = first.vote;
            let in_flight = InFlight::default();
            // An entry that cannot be written ends the stream; the answers then end too, and replication starts over.
            let requests = Requests::new(first, input, in_flight.clone(), self.backlog.clone())
                .map(|request| encode("append request", &request))
                .take_while(|encoded| {
                    if let Err(error) = encoded {
                        tracing::error!(error = error as &dyn std::error::Error, "append request dropped");
                    }
                    std::future::ready(encoded.is_ok())
                })
                .filter_map(|encoded| std::future::ready(encoded.ok()));
            let opened = self.link.append_stream(self.to, self.guard.names(self.to), Box::pin(requests));
            let answers = match tokio::time::timeout(option.hard_ttl(), opened).await {
                Ok(Ok(answers)) => answers,
                Ok(Err(e)) => return Err(link_error(&e)),
                Err(_) => return Err(self.timeout(RPCTypes::AppendEntries, &option).into()),
            };
            let stalled = self.timeout(RPCTypes::AppendEntries, &RPCOption::new(self.stalled_after));
            let matched = self.matched.clone();
            Ok(Answers { answers, in_flight, matched, from: self.to, vote, stalled }.handed_on() as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = encode("vote request", &rpc).map_err(codec_error)?;
        self.call(RaftCallKind::Vote, body, &option).await.map_err(|e| self.rpc_error(e, RPCTypes::Vote, &option))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let body = encode("pre-vote request", &rpc).map_err(codec_error)?;
        self.call(RaftCallKind::PreVote, body, &option).await.map_err(|e| self.rpc_error(e, RPCTypes::Vote, &option))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::type_config::alias::SnapshotOf<Types, Bytes>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let body = snapshot_body(&SnapshotHead { vote, meta: snapshot.meta }, &snapshot.snapshot)
            .map_err(|e| NetworkError::new(&e))?;
        let sent = std::pin::pin!(self.call(RaftCallKind::Snapshot, body, &option));
        let cancel = std::pin::pin!(cancel);
        let answer = match futures::future::select(sent, cancel).await {
            futures::future::Either::Left((answer, _)) => answer,
            futures::future::Either::Right((closed, _)) => return Err(closed.into()),
        };
        answer.map_err(|e| match e {
            CallError::Timeout => self.timeout(RPCTypes::InstallSnapshot, &option).into(),
            CallError::Codec(e) => NetworkError::new(&e).into(),
            CallError::Link(e) => Unreachable::new(&e).into(),
        })
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let body = encode("transfer request", &req).map_err(codec_error)?;
        self.call(RaftCallKind::TransferLeader, body, &option)
            .await
            .map_err(|e| self.rpc_error(e, RPCTypes::TransferLeader, &option))
    }
}

/// Returns head and image of a snapshot as one message.
fn snapshot_body(head: &SnapshotHead, image: &Bytes) -> Result<Vec<u8>, CodecError> {
    let head = encode("snapshot head", head)?;
    let head_len = u32::try_from(head.len()).expect("a membership is far smaller than 4 GiB");
    let mut body = Vec::with_capacity(4 + head.len() + image.len());
    body.extend_from_slice(&head_len.to_le_bytes());
    body.extend_from_slice(&head);
    body.extend_from_slice(image);
    Ok(body)
}

/// Returns head and image of such a message, or `None` where it is cut short.
pub(super) fn snapshot_parts(body: Vec<u8>) -> Option<(Bytes, Bytes)> {
    let body = Bytes::from(body);
    let head_len = u32::from_le_bytes(*body.first_chunk::<4>()?) as usize;
    let image_at = head_len.checked_add(4).filter(|at| *at <= body.len())?;
    Some((body.slice(4..image_at), body.slice(image_at..)))
}
