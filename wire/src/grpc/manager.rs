//! The manager's port: nodes, watchers, enrolment and the other managers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use vouch_types::Network;

use super::peer::Peers;
use super::serve::{PeerInfo, ServeError, serve, server};
use super::session::accepted;
use super::status::to_status;
use super::{MESSAGE_MAX, PEER_MESSAGE_MAX, PROBE_CHUNK};
use crate::links::{Caller, ManagerService, RaftService};
use crate::pki::Current;
use crate::proto;
use crate::proto::certificate_service_server::CertificateServiceServer;
use crate::proto::enroll_service_server::{EnrollService, EnrollServiceServer};
use crate::proto::join_service_server::JoinServiceServer;
use crate::proto::node_service_server::{NodeService, NodeServiceServer};
use crate::proto::peer_service_server::PeerServiceServer;
use crate::proto::watcher_service_server::{WatcherService, WatcherServiceServer};

/// Serves a manager on its listeners, one per network, until `shutdown`, which cuts every connection.
///
/// `tls` is [`crate::pki::server_config`], of each connection the one of its beginning. Enrolling and joining need no
/// client certificate, a check of a certificate needs one of any role, and every other call one of the right role.
///
/// # Errors
/// [`ServeError`] when HTTP/2 cannot be served at all.
pub async fn serve_manager(
    listeners: Vec<(Network, TcpListener)>,
    tls: impl Into<Current<ServerConfig>>,
    service: Arc<dyn ManagerService>,
    raft: Arc<dyn RaftService>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let port = Arc::new(ManagerPort(service.clone()));
    let peers = Peers { service, raft };
    let router = server()
        .add_service(
            NodeServiceServer::from_arc(port.clone())
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX),
        )
        .add_service(
            WatcherServiceServer::from_arc(port.clone())
                .max_decoding_message_size(MESSAGE_MAX)
                .max_encoding_message_size(MESSAGE_MAX),
        )
        .add_service(CertificateServiceServer::from_arc(port.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(JoinServiceServer::from_arc(port.clone()).max_decoding_message_size(MESSAGE_MAX))
        .add_service(EnrollServiceServer::from_arc(port).max_decoding_message_size(MESSAGE_MAX))
        .add_service(
            PeerServiceServer::new(peers)
                .max_decoding_message_size(PEER_MESSAGE_MAX)
                .max_encoding_message_size(PEER_MESSAGE_MAX),
        );
    let listeners = listeners.into_iter().map(|(network, l)| (Some(network), l)).collect();
    serve(listeners, tls.into(), router, shutdown).await
}

pub(super) struct ManagerPort(pub(super) Arc<dyn ManagerService>);

#[async_trait]
impl NodeService for ManagerPort {
    type SessionStream = BoxStream<'static, Result<proto::ToNode, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<proto::FromNode>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = PeerInfo::of(&request);
        let node = Caller { id: peer.node()?, shown: peer.shown.clone() };
        let (session, answers) = accepted(request.into_inner(), peer.callee());
        self.0.node_session(node, session).await.map_err(|e| to_status(&e))?;
        Ok(Response::new(answers))
    }
}

#[async_trait]
impl WatcherService for ManagerPort {
    type SessionStream = BoxStream<'static, Result<proto::ToWatcher, Status>>;
    type FetchProbeStream = BoxStream<'static, Result<proto::ProbeChunk, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<proto::FromWatcher>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = PeerInfo::of(&request);
        let watcher = Caller { id: peer.watcher()?, shown: peer.shown.clone() };
        let (session, answers) = accepted(request.into_inner(), peer.callee());
        self.0.watcher_session(watcher, session).await;
        Ok(Response::new(answers))
    }

    async fn fetch_probe(
        &self,
        request: Request<proto::FetchProbeRequest>,
    ) -> Result<Response<Self::FetchProbeStream>, Status> {
        PeerInfo::of(&request).watcher()?;
        let digest = crate::convert::digest("fetch_probe.digest", &request.into_inner().digest)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let component = self
            .0
            .probe_bytes(*digest.as_bytes())
            .await
            .ok_or_else(|| Status::not_found(format!("no component {}", digest.short())))?;
        let chunks = futures::stream::unfold(component, |mut rest: Bytes| async move {
            if rest.is_empty() {
                return None;
            }
            let chunk = rest.split_to(rest.len().min(PROBE_CHUNK));
            Some((Ok(proto::ProbeChunk { bytes: chunk.to_vec() }), rest))
        });
        Ok(Response::new(chunks.boxed()))
    }
}

#[async_trait]
impl EnrollService for ManagerPort {
    async fn enroll(&self, request: Request<proto::EnrollRequest>) -> Result<Response<proto::EnrollResponse>, Status> {
        self.0.enroll(request.into_inner()).await.map(Response::new).map_err(|e| to_status(&e))
    }
}
