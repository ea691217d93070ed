//! Dialling one part of vouch by id: TCP, TLS with its server name, HTTP/2, each with a limit of its own.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use vouch_types::Network;

use super::forward_stream::Forwards;
use super::io::{GuardedIo, TlsFault, tls_error, tune};
use super::status::Callee;
use super::{CONNECTION_WINDOW, HTTP2_PING_INTERVAL, HTTP2_PING_TIMEOUT, STREAM_WINDOW};
use crate::links::LinkError;
use crate::pki::{Current, PeerIdentity};

/// The server name that is sent by one who does not know yet which manager answers.
const ANY_MANAGER: &str = "any.manager.vouch";

/// How to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialOptions {
    /// The local address to bind to, per network; none lets the system choose.
    pub local: BTreeMap<Network, IpAddr>,
    /// How long TCP may take to connect. Short, because a lost SYN is sent again only after a second.
    pub connect_timeout: Duration,
    /// How long TLS, and then opening a stream, may take once TCP is connected.
    pub handshake_timeout: Duration,
}

impl DialOptions {
    /// How long TCP may take to connect, unless told otherwise.
    pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
    /// How long TLS, and then opening a stream, may take, unless told otherwise.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            local: BTreeMap::new(),
            connect_timeout: Self::CONNECT_TIMEOUT,
            handshake_timeout: Self::HANDSHAKE_TIMEOUT,
        }
    }
}

/// Dials with the TLS configuration of now. A cheap clone.
#[derive(Debug, Clone)]
pub struct Dialler {
    tls: Current<ClientConfig>,
    options: Arc<DialOptions>,
}

/// One connection with HTTP/2 on it. Cut when the last clone of its `cut` guard says so, or by hand.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) cut: CancellationToken,
    pub(super) closed: CancellationToken,
    pub(super) callee: Callee,
    pub(super) forwards: Mutex<Forwards>,
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled() || self.cut.is_cancelled()
    }
}

impl Dialler {
    /// Returns a dialler with this configuration of [`crate::pki`]: of each connection the one of its beginning.
    pub fn new(tls: impl Into<Current<ClientConfig>>, options: DialOptions) -> Self {
        Self { tls: tls.into(), options: Arc::new(options) }
    }

    /// Returns how it dials.
    pub fn options(&self) -> &DialOptions {
        &self.options
    }

    /// Connects to `to` at `address` and checks that it is who it should be.
    pub(super) async fn connect(
        &self,
        to: &PeerIdentity,
        address: SocketAddr,
        network: Network,
        connect_timeout: Duration,
    ) -> Result<Connection, LinkError> {
        self.connect_as(to.server_name(), to.tls_name(), address, network, connect_timeout).await
    }

    /// Connects to a manager, whichever it is: who may answer is up to the TLS configuration.
    pub(super) async fn connect_to_any_manager(
        &self,
        address: SocketAddr,
        network: Network,
        connect_timeout: Duration,
    ) -> Result<Connection, LinkError> {
        let tls_name = ServerName::try_from(ANY_MANAGER).expect("a constant that is a DNS name");
        self.connect_as(ANY_MANAGER.to_owned(), tls_name, address, network, connect_timeout).await
    }

    async fn connect_as(
        &self,
        name: String,
        tls_name: ServerName<'static>,
        address: SocketAddr,
        network: Network,
        connect_timeout: Duration,
    ) -> Result<Connection, LinkError> {
        let unreachable = |why: String| LinkError::Unreachable { to: name.clone(), address: address.to_string(), why };
        let tcp = match timeout(connect_timeout, self.tcp(address, network)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(LinkError::NotListening { to: name, address: address.to_string() });
            }
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionReset => return Err(LinkError::Reset(e.to_string())),
            Ok(Err(e)) => return Err(unreachable(e.to_string())),
            Err(_) => return Err(unreachable(format!("no connection within {connect_timeout:?}"))),
        };
        let limit = self.options.handshake_timeout;
        let tls = match timeout(limit, TlsConnector::from(self.tls.get()).connect(tls_name, tcp)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(e)) => {
                return Err(match tls_error(&e) {
                    Some(why) => LinkError::Refused(format!("{name} at {address}: {why}")),
                    None => LinkError::Reset(format!("{name} at {address}: {e}")),
                });
            }
            Err(_) => return Err(LinkError::Timeout(limit)),
        };
        let (cut, closed, fault) = (CancellationToken::new(), CancellationToken::new(), TlsFault::default());
        let io = GuardedIo::new(tls, cut.clone(), closed.clone(), fault.clone());
        let mut once = Some(TokioIo::new(io));
        // tonic dials again when a connection has ended; this one must not come back behind its user's back.
        let connector = tower::service_fn(move |_uri: http::Uri| {
            let io = once.take().ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection has ended"));
            async move { io }
        });
        let endpoint = Endpoint::from_shared(format!("http://{name}"))
            .map_err(|e| unreachable(e.to_string()))?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = timeout(limit, endpoint.connect_with_connector(connector))
            .await
            .map_err(|_| LinkError::Timeout(limit))?
            .map_err(|e| LinkError::Reset(format!("{name} at {address}: {e}")))?;
        let callee = Callee { to: name, address: address.to_string(), fault };
        Ok(Connection { channel, cut, closed, callee, forwards: Mutex::default() })
    }

    async fn tcp(&self, address: SocketAddr, network: Network) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(local) = self.options.local.get(&network) {
            socket.bind(SocketAddr::new(*local, 0))?;
        }
        let stream = socket.connect(address).await?;
        tune(&stream)?;
        Ok(stream)
    }
}
