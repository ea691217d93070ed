//! The seams between managers, nodes and watchers, at message level.
//!
//! Nodes and watchers dial; managers accept. A dialled stream is a [`Session`]: a sender and a receiver of whole
//! messages, whatever carries them. The tonic implementations live in `grpc`; a simulator brings its own.

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::stream::BoxStream;
use thiserror::Error;
use tokio::sync::mpsc;
use vouch_types::{ManagerId, Network, NodeId, WatcherId};

use crate::proto;

/// How many messages may wait in one direction of a session before the sender is held up or, where it must not
/// wait, the session is closed.
pub const SESSION_QUEUE: usize = 256;

/// Why a link did not carry a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// No connection in time.
    #[error("{to} is unreachable at {address}: {why}")]
    Unreachable {
        /// Who.
        to: String,
        /// Where.
        address: String,
        /// What the transport said.
        why: String,
    },
    /// The connection was reset or closed by the other side or the network.
    #[error("the stream was reset: {0}")]
    Reset(String),
    /// The other side refused: wrong role, unknown peer, bad request.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// A message did not have the shape that the contract asks for.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// One open stream: whole messages in both directions.
///
/// The receiver yields `Err` once when the stream was reset, and `None` after it ended.
#[derive(Debug)]
pub struct Session<In, Out> {
    /// Messages to the other side. Closed when the stream is gone.
    pub outbound: mpsc::Sender<Out>,
    /// Messages from the other side.
    pub inbound: mpsc::Receiver<Result<In, LinkError>>,
}

/// Where one manager is reached over one network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManagerEndpoint {
    /// The manager.
    pub manager: ManagerId,
    /// Over which network.
    pub network: Network,
    /// Address and port of its mutually authenticated service.
    pub address: SocketAddr,
}

/// A node's side of the manager-node link.
#[async_trait]
pub trait NodeLink: Send + Sync + 'static {
    /// Opens a stream to a manager.
    ///
    /// # Errors
    /// [`LinkError`] when there is no connection, or the manager refuses it.
    async fn open(&self, to: &ManagerEndpoint) -> Result<Session<proto::ToNode, proto::FromNode>, LinkError>;
}

/// A watcher's side of the manager-watcher link.
#[async_trait]
pub trait WatcherLink: Send + Sync + 'static {
    /// Opens a stream to a manager.
    ///
    /// # Errors
    /// [`LinkError`] when there is no connection, or the manager refuses it.
    async fn open(&self, to: &ManagerEndpoint) -> Result<Session<proto::ToWatcher, proto::FromWatcher>, LinkError>;

    /// Returns the component with this SHA-256, unchecked.
    ///
    /// # Errors
    /// [`LinkError`] when the manager does not have it or cannot be reached.
    async fn fetch_probe(&self, to: &ManagerEndpoint, digest: &[u8; 32]) -> Result<Vec<u8>, LinkError>;
}

/// A watcher's way to a node's relay.
#[async_trait]
pub trait RelayLink: Send + Sync + 'static {
    /// Asks for statements on all VMs of the grant.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when nothing answers at all, [`LinkError::Timeout`] when the connection stood and
    /// no answer came, [`LinkError::Refused`] when the relay turns the grant or certificate down, or when the
    /// address answers that nothing listens there (`Reset` tells that case).
    async fn state(
        &self,
        node: &NodeId,
        address: SocketAddr,
        request: proto::StateRequest,
    ) -> Result<proto::StateResponse, LinkError>;

    /// Has the relay ask the guest agent of a VM.
    ///
    /// # Errors
    /// As for [`RelayLink::state`].
    async fn guest_agent(
        &self,
        node: &NodeId,
        address: SocketAddr,
        request: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError>;
}

/// Which Raft message a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftCallKind {
    /// AppendEntries, single.
    Append,
    /// RequestVote.
    Vote,
    /// Pre-Vote.
    PreVote,
    /// A whole snapshot.
    Snapshot,
    /// TransferLeader.
    TransferLeader,
}

/// One Raft request, its body in the encoding of the manager's raft module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftCall {
    /// Which message.
    pub kind: RaftCallKind,
    /// Its encoding.
    pub body: Vec<u8>,
}

/// A manager's way to the other managers' Raft.
#[async_trait]
pub trait RaftLink: Send + Sync + 'static {
    /// Sends one request and returns the body of its answer.
    ///
    /// # Errors
    /// [`LinkError`] when it was not answered.
    async fn call(&self, to: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError>;

    /// Opens an ordered stream of AppendEntries; answers come in the order of the requests.
    ///
    /// # Errors
    /// [`LinkError`] when there is no connection.
    async fn append_stream(
        &self,
        to: ManagerId,
        requests: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError>;
}

/// A manager's way to the other managers beside Raft.
#[async_trait]
pub trait PeerLink: Send + Sync + 'static {
    /// Opens the evidence stream to another manager.
    ///
    /// # Errors
    /// [`LinkError`] when there is no connection.
    async fn evidence(
        &self,
        to: ManagerId,
    ) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError>;

    /// Has another manager do something.
    ///
    /// # Errors
    /// [`LinkError`] when it was not answered.
    async fn forward(
        &self,
        to: ManagerId,
        request: proto::ForwardRequest,
    ) -> Result<proto::ForwardResponse, LinkError>;
}

/// What a manager serves to the others' Raft; the caller's certificate has been checked.
#[async_trait]
pub trait RaftService: Send + Sync + 'static {
    /// Answers one request.
    ///
    /// # Errors
    /// [`LinkError`] when the request is malformed or this manager stops.
    async fn call(&self, from: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError>;

    /// Answers an ordered stream of AppendEntries, in order.
    async fn append_stream(
        &self,
        from: ManagerId,
        requests: BoxStream<'static, Vec<u8>>,
    ) -> BoxStream<'static, Result<Vec<u8>, LinkError>>;
}

/// What a manager does with streams and requests of others; the caller's certificate and role have been checked.
#[async_trait]
pub trait ManagerService: Send + Sync + 'static {
    /// A node opened a stream. Returns at once; the session lives until one side drops it.
    async fn node_session(&self, node: NodeId, session: Session<proto::FromNode, proto::ToNode>);

    /// A watcher opened a stream.
    async fn watcher_session(&self, watcher: WatcherId, session: Session<proto::FromWatcher, proto::ToWatcher>);

    /// Another manager opened its evidence stream.
    async fn evidence_session(
        &self,
        manager: ManagerId,
        session: Session<proto::EvidenceFrame, proto::EvidenceFrame>,
    );

    /// Another manager asks for something.
    async fn forward(&self, manager: ManagerId, request: proto::ForwardRequest) -> proto::ForwardResponse;

    /// A watcher without a certificate redeems its secret.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the secret is wrong; [`LinkError::Unreachable`] when no leader can be asked.
    async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError>;

    /// A watcher asks for a component; `None` when it is not there.
    async fn probe_bytes(&self, digest: [u8; 32]) -> Option<bytes::Bytes>;
}

/// What a node's relay serves; the caller's certificate has been checked, the grant not yet.
#[async_trait]
pub trait RelayService: Send + Sync + 'static {
    /// Signed statements on the VMs of the grant.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the grant does not hold for this watcher and node.
    async fn state(
        &self,
        watcher: WatcherId,
        request: proto::StateRequest,
    ) -> Result<proto::StateResponse, LinkError>;

    /// A read-only query to a VM's guest agent.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the grant does not hold for this watcher, node or VM.
    async fn guest_agent(
        &self,
        watcher: WatcherId,
        request: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError>;
}
