//! A node's relay: its port, and a watcher's way to it.
//!
//! What came of asking is evidence, so the caller must be able to tell "no connection" from "connected and no answer".
//! A kept connection cannot tell them apart when it falls silent; a new one beside it can.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{Either, select};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use vouch_types::{Network, NodeId};

use super::MESSAGE_MAX;
use super::dial::{Connection, Dialler};
use super::serve::{PeerInfo, ServeError, serve, server};
use super::status::{from_status, is_answer, to_status};
use crate::links::{LinkError, RelayLink, RelayService};
use crate::pki::{Current, PeerIdentity};
use crate::proto;
use crate::proto::relay_service_client::RelayServiceClient;
use crate::proto::relay_service_server::RelayServiceServer;

/// How long a kept connection may take to answer before a new one is dialled beside it.
const DOUBT_AFTER: Duration = Duration::from_millis(150);

/// Serves a node's relay until `shutdown`, which cuts every connection. Only watchers may call.
///
/// # Errors
/// [`ServeError`] when HTTP/2 cannot be served at all.
pub async fn serve_relay(
    listener: TcpListener,
    tls: impl Into<Current<ServerConfig>>,
    service: Arc<dyn RelayService>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let relay = RelayServiceServer::new(RelayPort(service))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    serve(vec![(None, listener)], tls.into(), server().add_service(relay), shutdown).await
}

struct RelayPort(Arc<dyn RelayService>);

#[async_trait]
impl proto::relay_service_server::RelayService for RelayPort {
    async fn state(&self, request: Request<proto::StateRequest>) -> Result<Response<proto::StateResponse>, Status> {
        let watcher = PeerInfo::of(&request).watcher()?;
        self.0.state(watcher, request.into_inner()).await.map(Response::new).map_err(|e| to_status(&e))
    }

    async fn guest_agent(
        &self,
        request: Request<proto::GuestAgentRequest>,
    ) -> Result<Response<proto::GuestAgentResponse>, Status> {
        let watcher = PeerInfo::of(&request).watcher()?;
        self.0.guest_agent(watcher, request.into_inner()).await.map(Response::new).map_err(|e| to_status(&e))
    }
}

/// [`RelayLink`] over mutual TLS. Connections are kept, one per relay.
#[derive(Debug)]
pub struct GrpcRelayLink {
    dialler: Dialler,
    call_timeout: Duration,
    kept: Mutex<BTreeMap<(NodeId, SocketAddr), Arc<Connection>>>,
}

impl GrpcRelayLink {
    /// Returns a link that dials so and gives each call `call_timeout` in all.
    ///
    /// A caller that gives up earlier by itself loses what the link would have found out.
    pub const fn new(dialler: Dialler, call_timeout: Duration) -> Self {
        Self { dialler, call_timeout, kept: Mutex::new(BTreeMap::new()) }
    }

    fn kept(&self, key: &(NodeId, SocketAddr)) -> Option<Arc<Connection>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|c| !c.is_closed()).cloned()
    }

    fn keep(&self, key: (NodeId, SocketAddr), connection: Arc<Connection>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, c| !c.is_closed());
        if let Some(old) = kept.insert(key, connection) {
            old.cut.cancel();
        }
    }

    async fn ask<T, Call, Answer>(
        &self,
        node: &NodeId,
        address: SocketAddr,
        limit: Duration,
        call: Call,
    ) -> Result<T, LinkError>
    where
        Call: Fn(Channel) -> Answer + Send + Sync,
        Answer: Future<Output = Result<Response<T>, Status>> + Send,
        T: Send,
    {
        let deadline = Instant::now() + limit;
        let key = (node.clone(), address);
        let fresh = self.ask_anew(&key, deadline, limit, &call);
        let Some(kept) = self.kept(&key) else { return fresh.await };
        let mut first = Box::pin(call(kept.channel.clone()));
        let settled = match timeout(DOUBT_AFTER.min(limit), &mut first).await {
            Ok(answer) => answer,
            Err(_) => match select(first, Box::pin(fresh)).await {
                Either::Left((answer, _)) => answer,
                Either::Right((answer, _)) => return answer,
            },
        };
        match settled {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) if is_answer(&status) => Err(from_status(&status, &kept.callee)),
            Err(_broken) => {
                kept.cut.cancel();
                self.ask_anew(&key, deadline, limit, &call).await
            }
        }
    }

    async fn ask_anew<T, Call, Answer>(
        &self,
        key: &(NodeId, SocketAddr),
        deadline: Instant,
        limit: Duration,
        call: &Call,
    ) -> Result<T, LinkError>
    where
        Call: Fn(Channel) -> Answer + Send + Sync,
        Answer: Future<Output = Result<Response<T>, Status>> + Send,
        T: Send,
    {
        let peer = PeerIdentity::Node(key.0.clone());
        let left = || deadline.saturating_duration_since(Instant::now());
        let connect_timeout = self.dialler.options().connect_timeout.min(left());
        let connect = self.dialler.connect(&peer, key.1, Network::Management, connect_timeout);
        // The connect timeout has run out first, if that is what hangs: only the handshake can be cut short here.
        let connection = Arc::new(
            tokio::time::timeout_at(deadline + DEADLINE_SLACK, connect)
                .await
                .map_err(|_| LinkError::Timeout(limit))??,
        );
        let answer = timeout(left(), call(connection.channel.clone())).await.map_err(|_| {
            connection.cut.cancel();
            LinkError::Timeout(limit)
        })?;
        match answer {
            Ok(answer) => {
                self.keep(key.clone(), connection);
                Ok(answer.into_inner())
            }
            Err(status) => {
                connection.cut.cancel();
                Err(from_status(&status, &connection.callee))
            }
        }
    }
}

/// Keeps two limits that end at the same moment from racing: the one that says more must win.
const DEADLINE_SLACK: Duration = Duration::from_millis(20);

impl Drop for GrpcRelayLink {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        kept.values().for_each(|c| c.cut.cancel());
    }
}

fn client(channel: Channel) -> RelayServiceClient<Channel> {
    RelayServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX)
}

#[async_trait]
impl RelayLink for GrpcRelayLink {
    async fn state(
        &self,
        node: &NodeId,
        address: SocketAddr,
        request: proto::StateRequest,
    ) -> Result<proto::StateResponse, LinkError> {
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).state(request).await }
        };
        self.ask(node, address, self.call_timeout, call).await
    }

    async fn guest_agent(
        &self,
        node: &NodeId,
        address: SocketAddr,
        request: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError> {
        // The relay itself waits for the guest that long.
        let limit = self.call_timeout + Duration::from_micros(request.timeout_micros);
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).guest_agent(request).await }
        };
        self.ask(node, address, limit, call).await
    }
}
