//! A cluster's CA, a manager and a relay that answer in ways that can be told apart.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vouch_types::{ManagerId, Network, NodeId, WallTime, WatcherId};

use crate::grpc::{DialOptions, Dialler, serve_manager, serve_relay};
use crate::links::{
    Caller, LinkError, LogNames, ManagerEndpoint, ManagerService, RaftCall, RaftService, RelayService, Session,
};
use crate::pki::{
    AdjustableTime, CertificateAuthority, Identity, LiveIdentity, PeerIdentity, ShownCertificate, VALIDITY_MIN,
    client_config, client_config_without_certificate, server_config,
};
use crate::proto;

pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// The command that is never answered.
pub(super) const HANGS: &[u8] = b"hangs";
/// The node that every manager here has removed.
pub(super) const REMOVED: &str = "n9";

pub(super) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap())
}

pub(super) fn clock() -> Arc<AdjustableTime> {
    Arc::new(AdjustableTime::at_least(WallTime::default()))
}

pub(super) fn authority() -> CertificateAuthority {
    CertificateAuthority::generate("test", wall()).unwrap()
}

pub(super) fn manager(number: u64) -> PeerIdentity {
    PeerIdentity::Manager(ManagerId::new(number))
}

pub(super) fn node(name: &str) -> PeerIdentity {
    PeerIdentity::Node(NodeId::new(name).unwrap())
}

pub(super) fn watcher(number: u64) -> PeerIdentity {
    PeerIdentity::Watcher(WatcherId::new(number))
}

pub(super) fn identity(ca: &CertificateAuthority, owner: &PeerIdentity) -> Identity {
    ca.issue(owner, wall(), VALIDITY_MIN).unwrap().identity().unwrap()
}

pub(super) fn dialler(ca: &CertificateAuthority, owner: &PeerIdentity) -> Dialler {
    // The machine that runs the tests may be busy.
    let options = DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() };
    Dialler::new(client_config(&identity(ca, owner), clock()).unwrap(), options)
}

pub(super) fn bare_dialler(ca: &CertificateAuthority) -> Dialler {
    let options = DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() };
    Dialler::new(client_config_without_certificate(ca.certificate_pem(), clock()).unwrap(), options)
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
}

pub(super) fn endpoint(number: u64, address: SocketAddr) -> ManagerEndpoint {
    ManagerEndpoint { manager: ManagerId::new(number), network: Network::Management, address }
}

/// How a session that a manager had ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    InOrder,
    Broken(LinkError),
}

/// A manager that answers each message with a tick of its number, and tells how sessions end.
pub(super) struct Echo {
    pub(super) ca: CertificateAuthority,
    pub(super) ended: mpsc::UnboundedSender<(String, Ended)>,
}

impl Echo {
    async fn run<In, Out>(
        who: String,
        mut session: Session<In, Out>,
        answer: impl Fn(u64) -> Out,
        ended: mpsc::UnboundedSender<(String, Ended)>,
    ) {
        let mut count = 0;
        let end = loop {
            match session.inbound.recv().await {
                Some(Ok(_)) => {
                    count += 1;
                    // The end is told by the inbound side.
                    let _closed = session.outbound.send(answer(count)).await;
                }
                Some(Err(e)) => break Ended::Broken(e),
                None => break Ended::InOrder,
            }
        };
        let _test_is_over = ended.send((who, end));
    }
}

#[async_trait]
impl ManagerService for Echo {
    async fn node_session(
        &self,
        node: Caller<NodeId>,
        session: Session<proto::FromNode, proto::ToNode>,
    ) -> Result<(), LinkError> {
        let tick = |sequence| proto::ToNode { message: Some(proto::to_node::Message::Tick(proto::Tick { sequence })) };
        if node.id.as_str() == REMOVED {
            return Err(LinkError::Removed(format!("node {REMOVED} was removed: join again")));
        }
        tokio::spawn(Self::run(node.id.to_string(), session, tick, self.ended.clone()));
        Ok(())
    }

    async fn watcher_session(
        &self,
        watcher: Caller<WatcherId>,
        session: Session<proto::FromWatcher, proto::ToWatcher>,
    ) {
        let tick =
            |sequence| proto::ToWatcher { message: Some(proto::to_watcher::Message::Tick(proto::Tick { sequence })) };
        tokio::spawn(Self::run(watcher.id.to_string(), session, tick, self.ended.clone()));
    }

    async fn evidence_session(
        &self,
        manager: Caller<ManagerId>,
        session: Session<proto::EvidenceFrame, proto::EvidenceFrame>,
    ) {
        let frame =
            |sequence| proto::EvidenceFrame { tick: Some(proto::Tick { sequence }), ..proto::EvidenceFrame::default() };
        tokio::spawn(Self::run(manager.id.to_string(), session, frame, self.ended.clone()));
    }

    /// A command is answered with itself, but for [`HANGS`], which is never answered.
    async fn forward(&self, manager: ManagerId, request: proto::ForwardRequest) -> proto::ForwardResponse {
        use proto::forward_request::Request;
        use proto::forward_response::Response;
        let response = match request.request {
            Some(Request::Command(command)) if command == HANGS => std::future::pending().await,
            Some(Request::Command(command)) => Response::Applied(command),
            _ => Response::NotLeader(manager.get()),
        };
        proto::ForwardResponse { response: Some(response) }
    }

    async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError> {
        if request.secret != b"right" {
            return Err(LinkError::Refused("the secret is wrong".to_owned()));
        }
        let owner = PeerIdentity::Watcher(WatcherId::new(request.watcher));
        let certificate = self
            .ca
            .sign_request(&request.csr, &owner, wall(), VALIDITY_MIN)
            .map_err(|e| LinkError::Refused(e.to_string()))?;
        Ok(proto::EnrollResponse { certificate })
    }

    async fn join(
        &self,
        request: proto::JoinRequest,
        _from: Option<SocketAddr>,
    ) -> Result<proto::JoinResponse, LinkError> {
        if request.secret != b"right" {
            return Err(LinkError::Refused(vouch_types::JoinRefusal::Unknown.to_string()));
        }
        let certificate = self
            .ca
            .sign_request(&request.csr, &node(&request.name), wall(), VALIDITY_MIN)
            .map_err(|e| LinkError::Refused(e.to_string()))?;
        Ok(proto::JoinResponse { certificate, ca_certificate: self.ca.certificate_pem().to_owned() })
    }

    async fn check_certificate(
        &self,
        shown: ShownCertificate,
        check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError> {
        let sign = || self.ca.sign_request(&check.csr, &shown.owner, wall(), VALIDITY_MIN);
        let certificate =
            if check.csr.is_empty() { String::new() } else { sign().map_err(|e| LinkError::Refused(e.to_string()))? };
        let ca_certificates = self.ca.certificate_pem().to_owned();
        Ok(proto::CertificateAnswer { certificate, ca_certificates, renew_now: false, next_check_secs: 600 })
    }

    async fn probe_bytes(&self, digest: [u8; 32]) -> Option<bytes::Bytes> {
        (digest == [1; 32]).then(|| bytes::Bytes::from(vec![7; 700_000]))
    }
}

/// Raft that answers with the caller's number, the kind, the body, and the logs that the call says it is between. The first
/// answer of a stream is those, where they are said.
pub(super) struct EchoRaft;

#[async_trait]
impl RaftService for EchoRaft {
    async fn call(&self, from: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError> {
        Ok(format!("{from} {:?} {}{}", request.kind, request.body.len(), said(&request.names)).into_bytes())
    }

    async fn append_stream(
        &self,
        _from: ManagerId,
        names: LogNames,
        requests: BoxStream<'static, Result<Vec<u8>, LinkError>>,
    ) -> BoxStream<'static, Result<Vec<u8>, LinkError>> {
        let said = said(&names);
        let first = (!said.is_empty()).then(|| Ok(said.into_bytes()));
        futures::stream::iter(first).chain(requests).boxed()
    }
}

/// Returns between which logs a call is, as text; nothing where it does not say.
pub(super) fn said(names: &LogNames) -> String {
    if *names == LogNames::default() { String::new() } else { format!(" {names:?}") }
}

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) shutdown: CancellationToken,
    pub(super) ended: mpsc::UnboundedReceiver<(String, Ended)>,
    pub(super) task: JoinHandle<()>,
    pub(super) live: LiveIdentity,
}

impl Running {
    /// Waits for the next end of a session.
    pub(super) async fn next_end(&mut self) -> (String, Ended) {
        tokio::time::timeout(LIMIT, self.ended.recv()).await.expect("a session ends in time").unwrap()
    }
}

/// Starts manager `number` of the cluster of `ca`, with the certificate of `owner`.
pub(super) async fn start_manager(ca: &CertificateAuthority, owner: &PeerIdentity) -> Running {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let live = LiveIdentity::new(identity(ca, owner), clock()).unwrap();
    let tls = live.server();
    let (ended, ends) = mpsc::unbounded_channel();
    let ca = CertificateAuthority::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
    let service = Arc::new(Echo { ca, ended });
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let listeners = vec![(Network::Management, listener)];
    let task = tokio::spawn(async move {
        serve_manager(listeners, tls, service, Arc::new(EchoRaft), stop).await.unwrap();
    });
    Running { address, shutdown, ended: ends, task, live }
}

/// A relay that can be made to hang.
#[derive(Default)]
pub(super) struct TestRelay {
    pub(super) hangs: AtomicBool,
    pub(super) asked: AtomicUsize,
}

#[async_trait]
impl RelayService for TestRelay {
    async fn state(&self, watcher: WatcherId, request: proto::StateRequest) -> Result<proto::StateResponse, LinkError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if request.grant.is_none() {
            return Err(LinkError::Refused(format!("{watcher} shows no grant")));
        }
        let statement = proto::Signed { payload: request.nonce.to_be_bytes().to_vec(), signature: Vec::new() };
        Ok(proto::StateResponse { hears: Vec::new(), statements: vec![statement] })
    }

    async fn guest_agent(
        &self,
        _watcher: WatcherId,
        _request: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError> {
        let result = proto::guest_agent_response::Result::Reply("{}".to_owned());
        Ok(proto::GuestAgentResponse { result: Some(result) })
    }
}

pub(super) async fn start_relay(
    ca: &CertificateAuthority,
    owner: &PeerIdentity,
    service: Arc<TestRelay>,
) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = server_config(&identity(ca, owner), clock()).unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve_relay(listener, tls, service, shutdown.clone()));
    (address, shutdown)
}

/// Carries bytes to `to` until it is told to be silent: then it accepts nothing and carries nothing, without a word.
pub(super) struct Forwarder {
    pub(super) address: SocketAddr,
    pub(super) silent: tokio::sync::watch::Sender<bool>,
}

impl Forwarder {
    pub(super) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (silent, seen) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    let Ok(onward) = tokio::net::TcpStream::connect(to).await else { return };
                    let (from, onward) = (from.into_split(), onward.into_split());
                    tokio::join!(Self::carry(from.0, onward.1, seen.clone()), Self::carry(onward.0, from.1, seen));
                });
            }
        });
        Self { address, silent }
    }

    async fn carry(
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut onward: tokio::net::tcp::OwnedWriteHalf,
        mut silent: tokio::sync::watch::Receiver<bool>,
    ) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut bytes = vec![0; 16_384];
        while let Ok(n) = from.read(&mut bytes).await {
            if silent.wait_for(|silent| !silent).await.is_err()
                || n == 0
                || onward.write_all(&bytes[..n]).await.is_err()
            {
                return;
            }
        }
    }
}
