//! The listener of the API: clear text on loopback, TLS with the manager's certificate anywhere else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use vouch_wire::pki::Current;

use super::limits::{HANDSHAKE_TIMEOUT, HANDSHAKES_MAX, PROOF_INTERVAL};
use super::{Api, freshness};

/// Why the API does not listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The address is taken, or not of this machine.
    #[error("api.listen {address}: cannot be bound")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing listens in clear text beyond loopback.
    #[error("api.listen {address}: is not a loopback address, so it must be served over TLS")]
    ClearText {
        /// The address.
        address: SocketAddr,
    },
}

/// A bound API that does not serve yet, so that a port in use is told before anything else starts.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Current<ServerConfig>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("tcp", &self.tcp).field("tls", &self.tls.is_some()).finish()
    }
}

impl Listener {
    /// Binds the address. `tls` is used for any address that is not loopback.
    ///
    /// # Errors
    /// [`ListenError`] when it cannot be bound, or would be served in clear text beyond loopback.
    pub async fn bind(address: SocketAddr, tls: Option<Current<ServerConfig>>) -> Result<Self, ListenError> {
        let tls = if address.ip().is_loopback() { None } else { Some(tls.ok_or(ListenError::ClearText { address })?) };
        let tcp = TcpListener::bind(address).await.map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self { tcp, tls })
    }

    /// Returns the address that it is bound to.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves the API until `stop`, and from then on until the requests that are under way have ended.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn serve(self, api: Api, stop: CancellationToken) -> io::Result<()> {
        let address = self.tcp.local_addr()?;
        let _prover = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(prove_again_and_again(api.clone())));
        let router = api.router();
        tracing::info!(%address, tls = self.tls.is_some(), "api listens");
        match self.tls {
            None => axum::serve(self.tcp, router).with_graceful_shutdown(stop.cancelled_owned()).await,
            Some(config) => {
                let listener = TlsListener::new(self.tcp, config)?;
                axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
            }
        }
    }
}

/// Keeps the age of `stale` answers honest: it is the time since the last of these that held.
async fn prove_again_and_again(api: Api) {
    let mut timer = tokio::time::interval(PROOF_INTERVAL);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        freshness::prove_quietly(&api, PROOF_INTERVAL).await;
    }
}

/// Hands out connections whose handshake is done; a slow one holds up no other.
struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    _accepting: tokio_util::task::AbortOnDropHandle<()>,
}

impl TlsListener {
    fn new(tcp: TcpListener, config: Current<ServerConfig>) -> io::Result<Self> {
        let address = tcp.local_addr()?;
        let (sender, ready) = mpsc::channel(HANDSHAKES_MAX);
        let accepting = tokio::spawn(accept_all(tcp, config, sender));
        Ok(Self { address, ready, _accepting: tokio_util::task::AbortOnDropHandle::new(accepting) })
    }
}

async fn accept_all(
    mut tcp: TcpListener,
    tls: Current<ServerConfig>,
    ready: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, peer) = axum::serve::Listener::accept(&mut tcp).await;
        let (acceptor, ready) = (TlsAcceptor::from(tls.get()), ready.clone());
        let _handshake = tokio::spawn(async move {
            let _permit = permit;
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                // The receiver is gone only when the listener stops.
                Ok(Ok(stream)) => drop(ready.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "api handshake failed"),
                Err(_) => tracing::debug!(%peer, "api handshake took too long"),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // The accepting task never ends before this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
