//! A TLS connection that can be cut from outside at once, and that remembers why TLS gave up.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::serve::PeerInfo;
use super::{TCP_KEEPALIVE, TCP_USER_TIMEOUT};

/// What TLS said when the other side, or this one, turned the connection down.
pub(super) type TlsFault = Arc<OnceLock<String>>;

/// The socket options of every connection, dialled or accepted.
///
/// # Errors
/// Those of the system.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE).with_retries(5),
    )?;
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))
}

/// A connection under a cut switch. Reading and writing fail as soon as `cut` is cancelled; `closed` is cancelled when
/// it is dropped, that is when nothing uses it any more.
pub(super) struct GuardedIo<S> {
    inner: S,
    cut: CancellationToken,
    cut_seen: Pin<Box<WaitForCancellationFutureOwned>>,
    closed: CancellationToken,
    fault: TlsFault,
    peer: Option<PeerInfo>,
}

impl<S> GuardedIo<S> {
    pub(super) fn new(inner: S, cut: CancellationToken, closed: CancellationToken, fault: TlsFault) -> Self {
        let cut_seen = Box::pin(cut.clone().cancelled_owned());
        Self { inner, cut, cut_seen, closed, fault, peer: None }
    }

    pub(super) fn with_peer(mut self, peer: PeerInfo) -> Self {
        self.peer = Some(peer);
        self
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result
            && let Some(tls) = tls_error(e)
        {
            // The first one is the cause; later ones follow from it.
            let _is_set_already = self.fault.set(tls.to_string());
        }
        result
    }

    fn cut_error() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up")
    }
}

/// Returns what TLS itself said, if this is an error of TLS.
pub(super) fn tls_error(e: &io::Error) -> Option<&rustls::Error> {
    e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
}

impl<S> Drop for GuardedIo<S> {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl<S> Connected for GuardedIo<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone().unwrap_or_default()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GuardedIo<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Polled even when data waits, so that a cut wakes the task that reads.
        if self.cut.is_cancelled() || self.cut_seen.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Self::cut_error()));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        Poll::Ready(self.note(result))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GuardedIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(Self::cut_error()));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(self.note(result))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(Self::cut_error()));
        }
        let result = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        Poll::Ready(self.note(result))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(Self::cut_error()));
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.is_cancelled() {
            return Poll::Ready(Err(Self::cut_error()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
