//! The mutually authenticated port: accepting, the handshake, and who the caller is.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::{Request, Status};
use tracing::debug;
use vouch_types::{ManagerId, Network, NodeId, WatcherId};

use super::io::{GuardedIo, TlsFault, tune};
use super::status::Callee;
use super::{
    CONNECTION_WINDOW, HANDSHAKES_MAX, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, SERVER_HANDSHAKE_TIMEOUT,
    STREAM_WINDOW, STREAMS_PER_CONNECTION_MAX,
};
use crate::pki::{Current, PeerIdentity, Role, ShownCertificate};

/// How long a refused client has to read why.
const REFUSAL_LINGER: Duration = Duration::from_millis(300);
/// How long accepting pauses when the system has no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a port stopped to serve.
#[derive(Debug, Error)]
#[error("serving failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Who is at the other end of an accepted connection.
#[derive(Debug, Clone, Default)]
pub struct PeerInfo {
    /// The owner of its certificate; none when it showed none.
    pub identity: Option<PeerIdentity>,
    /// The certificate; none when it showed none.
    pub shown: Option<ShownCertificate>,
    /// The network whose port it came in by.
    pub network: Option<Network>,
    /// Its address.
    pub address: Option<SocketAddr>,
}

impl PeerInfo {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    pub(super) fn callee(&self) -> Callee {
        Callee {
            to: self.identity.as_ref().map_or_else(|| "a client without certificate".to_owned(), ToString::to_string),
            address: self.address.map(|a| a.to_string()).unwrap_or_default(),
            fault: TlsFault::default(),
        }
    }

    fn wrong_role(&self, wanted: Role) -> Status {
        match &self.identity {
            None => Status::unauthenticated(format!("a client certificate of a {wanted} is needed, none was shown")),
            Some(other) => Status::permission_denied(format!("{other} may not call this: it is for a {wanted}")),
        }
    }

    /// Returns the certificate of one who may have any role.
    pub(super) fn shown(&self) -> Result<ShownCertificate, Status> {
        let needed = || Status::unauthenticated("a client certificate is needed, none was shown");
        self.shown.clone().ok_or_else(needed)
    }

    pub(super) fn manager(&self) -> Result<ManagerId, Status> {
        match &self.identity {
            Some(PeerIdentity::Manager(id)) => Ok(*id),
            _ => Err(self.wrong_role(Role::Manager)),
        }
    }

    pub(super) fn node(&self) -> Result<NodeId, Status> {
        match &self.identity {
            Some(PeerIdentity::Node(id)) => Ok(id.clone()),
            _ => Err(self.wrong_role(Role::Node)),
        }
    }

    pub(super) fn watcher(&self) -> Result<WatcherId, Status> {
        match &self.identity {
            Some(PeerIdentity::Watcher(id)) => Ok(*id),
            _ => Err(self.wrong_role(Role::Watcher)),
        }
    }
}

type Accepted = GuardedIo<TlsStream<TcpStream>>;

/// Returns the server with the limits that all ports share.
pub(super) fn server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(HTTP2_PING_INTERVAL))
        .http2_keepalive_timeout(Some(HTTP2_PING_TIMEOUT))
}

/// Serves on all listeners until `shutdown`, which cuts every connection.
pub(super) async fn serve(
    listeners: Vec<(Option<Network>, TcpListener)>,
    tls: Current<ServerConfig>,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let (sink, incoming) = mpsc::channel::<io::Result<Accepted>>(HANDSHAKES_MAX);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    // Also cuts everything when this future is dropped instead of told.
    let running = shutdown.child_token();
    let _guard = running.clone().drop_guard();
    for (network, listener) in listeners {
        let port = Port { network, tls: tls.clone(), handshakes: handshakes.clone(), running: running.clone() };
        tokio::spawn(port.accept(listener, sink.clone()));
    }
    drop(sink);
    router.serve_with_incoming_shutdown(ReceiverStream::new(incoming), shutdown.cancelled_owned()).await?;
    Ok(())
}

/// One listening port.
#[derive(Clone)]
struct Port {
    network: Option<Network>,
    tls: Current<ServerConfig>,
    handshakes: Arc<Semaphore>,
    running: CancellationToken,
}

impl Port {
    async fn accept(self, listener: TcpListener, sink: mpsc::Sender<io::Result<Accepted>>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.running.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (port, sink) = (self.clone(), sink.clone());
            tokio::spawn(async move {
                let running = port.running.clone();
                tokio::select! {
                    biased;
                    () = running.cancelled() => {}
                    () = port.handshake(tcp, address, sink) => {}
                }
            });
        }
    }

    async fn handshake(self, tcp: TcpStream, address: SocketAddr, sink: mpsc::Sender<io::Result<Accepted>>) {
        let Ok(_permit) = self.handshakes.acquire().await else { return };
        if let Err(error) = tune(&tcp) {
            debug!(%address, %error, "socket options refused");
            return;
        }
        let accept = TlsAcceptor::from(self.tls.get()).accept(tcp).into_fallible();
        let stream = match timeout(SERVER_HANDSHAKE_TIMEOUT, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, tcp))) => {
                debug!(%address, %error, "TLS handshake refused");
                linger(tcp).await;
                return;
            }
            Err(_) => {
                debug!(%address, "no TLS handshake in time");
                return;
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let shown = match certificate.map(|der| ShownCertificate::new(der.into_owned())).transpose() {
            Ok(shown) => shown,
            Err(error) => {
                debug!(%address, %error, "certificate of no part of vouch");
                return;
            }
        };
        let identity = shown.as_ref().map(|shown| shown.owner.clone());
        let peer = PeerInfo { identity, shown, network: self.network, address: Some(address) };
        let io = GuardedIo::new(stream, self.running.child_token(), CancellationToken::new(), TlsFault::default());
        // The receiver is gone only when the server stops.
        let _server_stopped = sink.send(Ok(io.with_peer(peer))).await;
    }
}

/// Lets a refused client read the alert: closing with unread data would reset the connection and lose it.
async fn linger(mut tcp: TcpStream) {
    let mut rest = [0; 1024];
    let drain = async {
        if tcp.shutdown().await.is_ok() {
            while matches!(tcp.read(&mut rest).await, Ok(n) if n > 0) {}
        }
    };
    // A client that stays is cut off here.
    let _elapsed = timeout(REFUSAL_LINGER, drain).await;
}
