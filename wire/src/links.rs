//! The seams between managers, nodes and watchers, at message level.
//!
//! Nodes and watchers dial; managers accept. A dialled stream is a [`Session`]: a sender and a receiver of whole
//! messages, whatever carries them. The tonic implementations live in `grpc`; a simulator brings its own.

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::stream::BoxStream;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_types::{LogIndex, LogName, ManagerId, Network, NodeId, RecordedLog, WatcherId};

use crate::pki::ShownCertificate;
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
    /// The address answered that nothing listens there.
    #[error("nothing listens for {to} at {address}")]
    NotListening {
        /// Who.
        to: String,
        /// Where.
        address: String,
    },
    /// The connection was reset or closed by the other side or the network.
    #[error("the stream was reset: {0}")]
    Reset(String),
    /// The other side refused: wrong role, unknown peer, bad request.
    #[error("refused: {0}")]
    Refused(String),
    /// The other side refused for good: the cluster has removed who asks. It says what to do.
    #[error("{0}")]
    Removed(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    /// A message did not have the shape that the contract asks for.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// Who opened a stream to a manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller<Id> {
    /// As its certificate names it.
    pub id: Id,
    /// That certificate; none where a link has no TLS, as a simulator's.
    pub shown: Option<ShownCertificate>,
}

impl<Id> Caller<Id> {
    /// Returns a caller of a link without TLS.
    pub const fn without_tls(id: Id) -> Self {
        Self { id, shown: None }
    }
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

impl<In: Send + 'static, Out: Send + 'static> Session<In, Out> {
    /// Returns the two ends of a session inside this process, for simulators and tests. Must be called in a runtime.
    ///
    /// Dropping one end ends the other: its receiver yields what is under way and then `None`, its sender is closed.
    /// Up to `capacity` messages wait on each side of each direction.
    pub fn pair(capacity: usize) -> (Self, Session<Out, In>) {
        Self::pair_until(capacity, CancellationToken::new())
    }

    /// As [`Session::pair`]; when `reset` is cancelled, both ends see a reset at once, and what was under way is lost.
    pub fn pair_until(capacity: usize, reset: CancellationToken) -> (Self, Session<Out, In>) {
        let (outbound, out_source) = mpsc::channel(capacity);
        let (out_sink, their_inbound) = mpsc::channel(capacity);
        let (their_outbound, in_source) = mpsc::channel(capacity);
        let (in_sink, inbound) = mpsc::channel(capacity);
        // Dropping either channel of an end is dropping the end, as with a stream.
        let ended = reset.child_token();
        tokio::spawn(carry(out_source, out_sink, reset.clone(), ended.clone()));
        tokio::spawn(carry(in_source, in_sink, reset, ended));
        (Self { outbound, inbound }, Session { outbound: their_outbound, inbound: their_inbound })
    }
}

/// Carries one direction of a pair until either side is dropped or the reset comes.
async fn carry<T>(
    mut source: mpsc::Receiver<T>,
    sink: mpsc::Sender<Result<T, LinkError>>,
    reset: CancellationToken,
    ended: CancellationToken,
) {
    let mut draining = false;
    loop {
        let message = tokio::select! {
            biased;
            () = reset.cancelled() => break,
            () = ended.cancelled(), if !draining => {
                // The other end is gone; what it still sent is delivered, nothing new is taken.
                source.close();
                draining = true;
                continue;
            }
            () = sink.closed() => break,
            message = source.recv() => message,
        };
        let Some(message) = message else { break };
        tokio::select! {
            biased;
            () = reset.cancelled() => break,
            sent = sink.send(Ok(message)) => if sent.is_err() { break },
        }
    }
    let was_reset = reset.is_cancelled();
    ended.cancel();
    if was_reset {
        // The receiver may be full; the reset comes after what it already holds.
        let _receiver_may_be_gone = sink.send(Err(LinkError::Reset("the link was reset".to_owned()))).await;
    }
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

/// A way for datagrams over one network: each arrives whole, late, twice, out of order or not at all.
#[async_trait]
pub trait DatagramLink: Send + Sync + 'static {
    /// Sends a datagram. That it was sent says nothing of its arrival.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when it was not even sent.
    async fn send(&self, to: SocketAddr, datagram: &[u8]) -> Result<(), LinkError>;

    /// Waits for a datagram, and returns its length in `buffer` and where it came from. One that is longer than the
    /// buffer is cut. Cancel safe.
    ///
    /// # Errors
    /// [`LinkError::Reset`] when nothing could be received; the next call may succeed.
    async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), LinkError>;
}

/// The way to the managers for one's own certificate.
#[async_trait]
pub trait CertificateLink: Send + Sync + 'static {
    /// Asks any manager.
    ///
    /// # Errors
    /// [`LinkError`] of the last one that was asked, when none answered; [`LinkError::Refused`] when one refused;
    /// [`LinkError::Removed`] when the cluster has removed who asks.
    async fn check(&self, check: proto::CertificateCheck) -> Result<proto::CertificateAnswer, LinkError>;
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
    /// Each tells another outcome: [`LinkError::Unreachable`] when no connection came about in time or there is no
    /// route (`RelayOutcome::Silent`); [`LinkError::NotListening`] when the address answers that nothing listens
    /// there (`Refused`); [`LinkError::Timeout`] or [`LinkError::Reset`] when the connection stood and no answer
    /// came (`Stalled`); [`LinkError::Refused`] when the relay turns the grant or certificate down (`Denied`).
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

/// Which logs a Raft call is between, as its sender knows them. Older managers say nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogNames {
    /// The sender's own log.
    pub sender: Option<LogName>,
    /// Where the sender's own state has that recorded.
    pub sender_recorded: Option<LogIndex>,
    /// The log that the sender has recorded of the receiver.
    pub receiver: Option<RecordedLog>,
}

/// One Raft request, its body in the encoding of the manager's raft module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftCall {
    /// Which message.
    pub kind: RaftCallKind,
    /// Its encoding.
    pub body: Vec<u8>,
    /// Between which logs.
    pub names: LogNames,
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
        names: LogNames,
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
    async fn evidence(&self, to: ManagerId) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError>;

    /// Has another manager do something.
    ///
    /// # Errors
    /// [`LinkError`] when it was not answered.
    async fn forward(&self, to: ManagerId, request: proto::ForwardRequest)
    -> Result<proto::ForwardResponse, LinkError>;
}

/// What a manager serves to the others' Raft; the caller's certificate has been checked.
#[async_trait]
pub trait RaftService: Send + Sync + 'static {
    /// Answers one request.
    ///
    /// # Errors
    /// [`LinkError`] when the request is malformed or this manager stops.
    async fn call(&self, from: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError>;

    /// Answers an ordered stream of AppendEntries, in order. Requests that end with an error were cut off: the sender
    /// did not end them.
    async fn append_stream(
        &self,
        from: ManagerId,
        names: LogNames,
        requests: BoxStream<'static, Result<Vec<u8>, LinkError>>,
    ) -> BoxStream<'static, Result<Vec<u8>, LinkError>>;
}

/// What a manager does with streams and requests of others; the caller's certificate and role have been checked.
#[async_trait]
pub trait ManagerService: Send + Sync + 'static {
    /// A node opened a stream. Returns once it is let in; the session lives until one side drops it.
    ///
    /// # Errors
    /// [`LinkError::Removed`] when the cluster has removed it; [`LinkError::Unreachable`] when nobody can tell now.
    async fn node_session(
        &self,
        node: Caller<NodeId>,
        session: Session<proto::FromNode, proto::ToNode>,
    ) -> Result<(), LinkError>;

    /// A watcher opened a stream.
    async fn watcher_session(&self, watcher: Caller<WatcherId>, session: Session<proto::FromWatcher, proto::ToWatcher>);

    /// Another manager opened its evidence stream.
    async fn evidence_session(
        &self,
        manager: Caller<ManagerId>,
        session: Session<proto::EvidenceFrame, proto::EvidenceFrame>,
    );

    /// Another manager asks for something.
    async fn forward(&self, manager: ManagerId, request: proto::ForwardRequest) -> proto::ForwardResponse;

    /// A watcher without a certificate redeems its secret.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the secret is wrong; [`LinkError::Unreachable`] when no leader can be asked.
    async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError>;

    /// Somebody without a certificate shows the secret of a join token; `from` is where it asks from.
    ///
    /// # Errors
    /// [`LinkError::Refused`] says why it may not join; [`LinkError::Unreachable`] when no leader can be asked.
    async fn join(
        &self,
        request: proto::JoinRequest,
        from: Option<SocketAddr>,
    ) -> Result<proto::JoinResponse, LinkError>;

    /// Somebody whose certificate was checked asks what is to be trusted, or for a new certificate. Whose it is about
    /// is what was shown, never what the request says.
    ///
    /// # Errors
    /// [`LinkError::Refused`] says why it gets none; [`LinkError::Removed`] that the cluster has removed it;
    /// [`LinkError::Unreachable`] when no leader can be asked.
    async fn check_certificate(
        &self,
        shown: ShownCertificate,
        check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError>;

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
    async fn state(&self, watcher: WatcherId, request: proto::StateRequest) -> Result<proto::StateResponse, LinkError>;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pair_carries_both_ways_and_ends_when_one_end_is_dropped() {
        let (mut one, mut other) = Session::<u8, String>::pair(4);
        one.outbound.send("hello".to_owned()).await.unwrap();
        assert_eq!(other.inbound.recv().await, Some(Ok("hello".to_owned())));
        other.outbound.send(7).await.unwrap();
        assert_eq!(one.inbound.recv().await, Some(Ok(7)));
        one.outbound.send("last word".to_owned()).await.unwrap();
        drop(one);
        assert_eq!(other.inbound.recv().await, Some(Ok("last word".to_owned())));
        assert_eq!(other.inbound.recv().await, None);
        other.outbound.closed().await;
    }

    #[tokio::test]
    async fn a_pair_that_is_reset_tells_both_ends_once() {
        let reset = CancellationToken::new();
        let (mut one, mut other) = Session::<u8, u8>::pair_until(4, reset.clone());
        reset.cancel();
        assert!(matches!(one.inbound.recv().await, Some(Err(LinkError::Reset(_)))));
        assert_eq!(one.inbound.recv().await, None);
        assert!(matches!(other.inbound.recv().await, Some(Err(LinkError::Reset(_)))));
        assert_eq!(other.inbound.recv().await, None);
        one.outbound.closed().await;
    }
}
