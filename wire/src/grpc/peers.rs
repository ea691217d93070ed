//! A manager's way to the other managers: Raft, evidence, forwarding.
//!
//! Each peer may have an address per network. The network that was connected last is tried first, the other one shortly
//! after it, and the first that connects is used. Connections are dialled in tasks of their own, so that a caller with
//! a shorter patience than a handshake takes does not start it over for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use tokio::time::Instant;
use tonic::{Code, Response};
use vouch_types::{ManagerId, Network};

use super::dial::{Connection, Dialler};
use super::forward_stream::{self, ForwardStream, Forwards};
use super::log_names::named;
use super::session::{Outgoing, dialled};
use super::status::{from_status, is_answer};
use super::{PEER_MESSAGE_MAX, SNAPSHOT_CHUNK};
use crate::links::{LinkError, LogNames, PeerLink, RaftCall, RaftCallKind, RaftLink, Session};
use crate::pki::PeerIdentity;
use crate::proto;
use crate::proto::peer_service_client::PeerServiceClient;

/// How long the first network has before the other one is tried beside it.
const OTHER_NETWORK_AFTER: Duration = Duration::from_millis(100);
/// How long calls on a connection may go unanswered before it is given up and dialled anew.
const UNANSWERED_MAX: Duration = Duration::from_secs(1);
/// How long another manager may take to do what is forwarded to it.
pub(super) const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

type Dialled = Shared<BoxFuture<'static, Result<Arc<Connection>, LinkError>>>;

/// What must not wait behind what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// Votes and appends: small, and urgent.
    Raft,
    /// Snapshots and forwarded requests.
    Bulk,
}

#[derive(Debug, Default)]
struct Peer {
    addresses: Vec<(Network, SocketAddr)>,
    lanes: BTreeMap<Lane, Slot>,
}

struct Slot {
    dialled: Dialled,
    /// Since when calls on it have gone unanswered.
    waiting_since: Option<Instant>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("waiting_since", &self.waiting_since).finish_non_exhaustive()
    }
}

impl Slot {
    fn cut(&self) {
        if let Some(Ok(connection)) = self.dialled.peek() {
            connection.cut.cancel();
        }
    }

    /// Whether a caller may use it: still being dialled, or connected and not silent for too long.
    fn is_usable(&self) -> bool {
        match self.dialled.peek() {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(connection)) => {
                !connection.is_closed() && self.waiting_since.is_none_or(|since| since.elapsed() < UNANSWERED_MAX)
            }
        }
    }
}

/// [`RaftLink`] and [`PeerLink`] over mutual TLS. A cheap clone.
#[derive(Debug, Clone)]
pub struct GrpcPeerLinks {
    dialler: Dialler,
    peers: Arc<Mutex<BTreeMap<ManagerId, Peer>>>,
}

impl GrpcPeerLinks {
    /// Returns links that dial so, to nobody yet.
    pub fn new(dialler: Dialler) -> Self {
        Self { dialler, peers: Arc::default() }
    }

    /// Sets where a manager is dialled, one address per network; an empty list forgets it.
    ///
    /// Connections to it are dialled anew when the list changed.
    pub fn set_addresses(&self, manager: ManagerId, addresses: Vec<(Network, SocketAddr)>) {
        let mut peers = self.lock();
        let peer = peers.entry(manager).or_default();
        // In whatever order: here the one that was connected last is in front.
        let known = peer.addresses.iter().copied().collect::<BTreeSet<_>>();
        if known == addresses.iter().copied().collect() {
            return;
        }
        std::mem::take(&mut peer.lanes).values().for_each(Slot::cut);
        if addresses.is_empty() {
            peers.remove(&manager);
        } else {
            peer.addresses = addresses;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ManagerId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns where a manager is dialled, the network that was connected last first.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when it is not in the table.
    pub fn addresses(&self, to: ManagerId) -> Result<Vec<(Network, SocketAddr)>, LinkError> {
        self.lock().get(&to).map(|p| p.addresses.clone()).ok_or_else(|| LinkError::Unreachable {
            to: to.to_string(),
            address: "no address".to_owned(),
            why: "this manager is not known here".to_owned(),
        })
    }

    /// Dials all addresses, each a little later than the one before; the first that connects is put first in the table.
    async fn dial(self, to: ManagerId) -> Result<Connection, LinkError> {
        let addresses = self.addresses(to)?;
        let peer = PeerIdentity::Manager(to);
        let connect_timeout = self.dialler.options().connect_timeout;
        let attempt = |index: usize, network: Network, address: SocketAddr| {
            let (dialler, peer) = (&self.dialler, &peer);
            let delay = OTHER_NETWORK_AFTER * u32::try_from(index).unwrap_or(u32::MAX);
            async move {
                tokio::time::sleep(delay).await;
                (network, dialler.connect(peer, address, network, connect_timeout).await)
            }
        };
        let mut attempts: FuturesUnordered<_> =
            addresses.iter().enumerate().map(|(i, (network, address))| attempt(i, *network, *address)).collect();
        let mut failed = None;
        while let Some((network, result)) = attempts.next().await {
            match result {
                Ok(connection) => {
                    drop(attempts);
                    if let Some(entry) = self.lock().get_mut(&to) {
                        // Stable: the others keep their order.
                        entry.addresses.sort_by_key(|(n, _)| *n != network);
                    }
                    return Ok(connection);
                }
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        Err(failed.unwrap_or_else(|| LinkError::Unreachable {
            to: to.to_string(),
            address: "no address".to_owned(),
            why: "no address is known".to_owned(),
        }))
    }

    async fn connection(&self, to: ManagerId, lane: Lane) -> Result<Arc<Connection>, LinkError> {
        self.addresses(to)?;
        let dialled = {
            let mut peers = self.lock();
            let peer = peers.entry(to).or_default();
            match peer.lanes.get(&lane) {
                Some(slot) if slot.is_usable() => slot.dialled.clone(),
                old => {
                    if let Some(slot) = old {
                        slot.cut();
                    }
                    let task = tokio::spawn(self.clone().dial(to));
                    let dialled: Dialled = async move {
                        match task.await {
                            Ok(result) => result.map(Arc::new),
                            Err(e) => Err(LinkError::Reset(e.to_string())),
                        }
                    }
                    .boxed()
                    .shared();
                    peer.lanes.insert(lane, Slot { dialled: dialled.clone(), waiting_since: None });
                    dialled
                }
            }
        };
        dialled.await
    }

    fn waiting(&self, to: ManagerId, lane: Lane) {
        if let Some(slot) = self.lock().get_mut(&to).and_then(|p| p.lanes.get_mut(&lane)) {
            slot.waiting_since.get_or_insert_with(Instant::now);
        }
    }

    fn answered(&self, to: ManagerId, lane: Lane) {
        if let Some(slot) = self.lock().get_mut(&to).and_then(|p| p.lanes.get_mut(&lane)) {
            slot.waiting_since = None;
        }
    }
}

fn client(connection: &Connection) -> PeerServiceClient<tonic::transport::Channel> {
    PeerServiceClient::new(connection.channel.clone())
        .max_decoding_message_size(PEER_MESSAGE_MAX)
        .max_encoding_message_size(PEER_MESSAGE_MAX)
}

fn raft_body(body: Vec<u8>) -> proto::RaftBody {
    proto::RaftBody { body }
}

/// Cuts a snapshot into pieces; an empty one is one empty piece.
fn chunks(body: Vec<u8>) -> Vec<proto::RaftBody> {
    if body.is_empty() {
        return vec![proto::RaftBody { body }];
    }
    body.chunks(SNAPSHOT_CHUNK).map(|c| proto::RaftBody { body: c.to_vec() }).collect()
}

#[async_trait]
impl RaftLink for GrpcPeerLinks {
    async fn call(&self, to: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError> {
        let RaftCall { kind, body, names } = request;
        if kind == RaftCallKind::Snapshot {
            let connection = self.connection(to, Lane::Bulk).await?;
            let answer = client(&connection).snapshot(named(names, futures::stream::iter(chunks(body)))).await;
            return answer.map(|a| a.into_inner().body).map_err(|s| from_status(&s, &connection.callee));
        }
        let connection = self.connection(to, Lane::Raft).await?;
        let mut client = client(&connection);
        let body = named(names, proto::RaftBody { body });
        self.waiting(to, Lane::Raft);
        let answer = match kind {
            RaftCallKind::Append => client.append(body).await,
            RaftCallKind::Vote => client.vote(body).await,
            RaftCallKind::PreVote => client.pre_vote(body).await,
            RaftCallKind::TransferLeader => client.transfer_leader(body).await,
            RaftCallKind::Snapshot => client.snapshot(body.map(|body| futures::stream::iter([body]))).await,
        };
        // An error is an answer too; a call that its caller gave up never comes here.
        self.answered(to, Lane::Raft);
        answer.map(|a| a.into_inner().body).map_err(|s| from_status(&s, &connection.callee))
    }

    async fn append_stream(
        &self,
        to: ManagerId,
        names: LogNames,
        requests: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError> {
        let connection = self.connection(to, Lane::Raft).await?;
        let limit = self.dialler.options().handshake_timeout;
        // Nothing is buffered here: HTTP/2's window holds the sender up.
        let requests = named(names, Outgoing(requests.map(raft_body).boxed()));
        let answers = tokio::time::timeout(limit, client(&connection).append_stream(requests))
            .await
            .map_err(|_| LinkError::Timeout(limit))?
            .map_err(|s| from_status(&s, &connection.callee))?
            .into_inner();
        let answers = answers.map(move |a| match a {
            Ok(message) => Ok(message.body),
            Err(status) => Err(from_status(&status, &connection.callee)),
        });
        Ok(answers.boxed())
    }
}

#[async_trait]
impl PeerLink for GrpcPeerLinks {
    async fn evidence(&self, to: ManagerId) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError> {
        let connection = self.clone().dial(to).await?;
        dialled(connection, self.dialler.options().handshake_timeout, |channel, requests| {
            async move {
                PeerServiceClient::new(channel)
                    .max_decoding_message_size(PEER_MESSAGE_MAX)
                    .max_encoding_message_size(PEER_MESSAGE_MAX)
                    .evidence(requests)
                    .await
            }
            .boxed()
        })
        .await
    }

    async fn forward(
        &self,
        to: ManagerId,
        request: proto::ForwardRequest,
    ) -> Result<proto::ForwardResponse, LinkError> {
        let connection = self.connection(to, Lane::Bulk).await?;
        tokio::time::timeout(FORWARD_TIMEOUT, forward(&connection, request))
            .await
            .map_err(|_| LinkError::Timeout(FORWARD_TIMEOUT))?
    }
}

/// Commands are many and short, and go over a stream; all else is a call of its own.
async fn forward(connection: &Connection, request: proto::ForwardRequest) -> Result<proto::ForwardResponse, LinkError> {
    let is_short = |command: &Vec<u8>| command.len() <= forward_stream::REQUEST_MAX;
    if matches!(&request.request, Some(proto::forward_request::Request::Command(command)) if is_short(command))
        && let Some(stream) = stream_of(connection).await?
    {
        return stream.forward(request).await;
    }
    let answer = client(connection).forward(request).await;
    answer.map(Response::into_inner).map_err(|s| from_status(&s, &connection.callee))
}

/// Returns a connection's stream, opened if need be; `None` where the other side knows none.
async fn stream_of(connection: &Connection) -> Result<Option<ForwardStream>, LinkError> {
    // Those who come meanwhile wait for the stream that the first one opens.
    let mut forwards = connection.forwards.lock().await;
    match &*forwards {
        Forwards::Open(stream) if !stream.is_closed() => return Ok(Some(stream.clone())),
        Forwards::Unknown => return Ok(None),
        Forwards::Open(_) | Forwards::Unopened => {}
    }
    let mut client = client(connection);
    let opened = ForwardStream::open(async |requests| client.forward_stream(requests).await.map(Response::into_inner));
    match opened.await {
        Ok(stream) => {
            *forwards = Forwards::Open(stream.clone());
            Ok(Some(stream))
        }
        Err(status) if is_answer(&status) && status.code() == Code::Unimplemented => {
            *forwards = Forwards::Unknown;
            Ok(None)
        }
        Err(status) => Err(from_status(&status, &connection.callee)),
    }
}
