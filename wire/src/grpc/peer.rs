//! What the other managers call: Raft, evidence, forwarding.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::SNAPSHOT_MAX;
use super::forward_stream;
use super::log_names::names_of;
use super::serve::PeerInfo;
use super::session::accepted;
use super::status::to_status;
use crate::links::{Caller, LinkError, ManagerService, RaftCall, RaftCallKind, RaftService};
use crate::proto;
use crate::proto::peer_service_server::PeerService;

pub(super) struct Peers {
    pub(super) service: Arc<dyn ManagerService>,
    pub(super) raft: Arc<dyn RaftService>,
}

impl Peers {
    async fn call(
        &self,
        kind: RaftCallKind,
        request: Request<proto::RaftBody>,
    ) -> Result<Response<proto::RaftBody>, Status> {
        let from = PeerInfo::of(&request).manager()?;
        let names = names_of(&request)?;
        let call = RaftCall { kind, body: request.into_inner().body, names };
        let body = self.raft.call(from, call).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(proto::RaftBody { body }))
    }
}

#[async_trait]
impl PeerService for Peers {
    type AppendStreamStream = BoxStream<'static, Result<proto::RaftBody, Status>>;
    type ForwardStreamStream = BoxStream<'static, Result<proto::ForwardResponses, Status>>;
    type EvidenceStream = BoxStream<'static, Result<proto::EvidenceFrame, Status>>;

    async fn append_stream(
        &self,
        request: Request<Streaming<proto::RaftBody>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let from = PeerInfo::of(&request).manager()?;
        let names = names_of(&request)?;
        let cut_off = |status: Status| LinkError::Reset(status.message().to_owned());
        let requests = request.into_inner().map(move |message| message.map(|m| m.body).map_err(cut_off)).boxed();
        let answers = self.raft.append_stream(from, names, requests).await;
        let answers = answers.map(|a| match a {
            Ok(body) => Ok(proto::RaftBody { body }),
            Err(e) => Err(to_status(&e)),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn append(&self, request: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        self.call(RaftCallKind::Append, request).await
    }

    async fn vote(&self, request: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        self.call(RaftCallKind::Vote, request).await
    }

    async fn pre_vote(&self, request: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        self.call(RaftCallKind::PreVote, request).await
    }

    async fn transfer_leader(&self, request: Request<proto::RaftBody>) -> Result<Response<proto::RaftBody>, Status> {
        self.call(RaftCallKind::TransferLeader, request).await
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<proto::RaftBody>>,
    ) -> Result<Response<proto::RaftBody>, Status> {
        let from = PeerInfo::of(&request).manager()?;
        let names = names_of(&request)?;
        let mut chunks = request.into_inner();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            if body.len() + chunk.body.len() > SNAPSHOT_MAX {
                return Err(Status::invalid_argument(format!("snapshot: must be at most {SNAPSHOT_MAX} bytes")));
            }
            body.extend_from_slice(&chunk.body);
        }
        let call = RaftCall { kind: RaftCallKind::Snapshot, body, names };
        let body = self.raft.call(from, call).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(proto::RaftBody { body }))
    }

    async fn evidence(
        &self,
        request: Request<Streaming<proto::EvidenceFrame>>,
    ) -> Result<Response<Self::EvidenceStream>, Status> {
        let peer = PeerInfo::of(&request);
        let manager = Caller { id: peer.manager()?, shown: peer.shown.clone() };
        let (session, answers) = accepted(request.into_inner(), peer.callee());
        self.service.evidence_session(manager, session).await;
        Ok(Response::new(answers))
    }

    async fn forward(
        &self,
        request: Request<proto::ForwardRequest>,
    ) -> Result<Response<proto::ForwardResponse>, Status> {
        let manager = PeerInfo::of(&request).manager()?;
        Ok(Response::new(self.service.forward(manager, request.into_inner()).await))
    }

    async fn forward_stream(
        &self,
        request: Request<Streaming<proto::ForwardRequests>>,
    ) -> Result<Response<Self::ForwardStreamStream>, Status> {
        let manager = PeerInfo::of(&request).manager()?;
        Ok(Response::new(forward_stream::serve(Arc::clone(&self.service), manager, request.into_inner())))
    }
}
