//! One connection of a run: plain text first, TLS once the probe asked for it.
//!
//! What it says of a failure is what is known of it: whether the target refused, was silent, or hung up. It is told for how
//! long each step may take, and holds no reply that is longer than its limit.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConnection, ProtocolVersion};

use super::reply_end::ReplyEnd;
use super::witness::Witness;
use crate::bindings::v1::vouch::probe::tls::{Error, Session};
use crate::connect::{NotConnected, connect};
use crate::limits::TLS_REPLY_MAX;

/// How much is read at a time, in bytes.
const CHUNK: usize = 4096;

/// What bytes go over.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// The target has ended it.
    Closed,
    /// Nothing goes over it any more.
    Broken,
}

/// One connection of a run.
pub struct Connection {
    stream: Stream,
    peer: IpAddr,
    /// What came and was not asked for yet.
    unread: Vec<u8>,
    /// What the target showed in the handshake; it outlives the stream, for a probe that asks after the end.
    certificates: Vec<CertificateDer<'static>>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the failure says of the target.
    pub(super) async fn open(address: SocketAddr, within: Duration) -> Result<Self, Error> {
        let stream = connect(address, within).await?;
        // Small requests go out at once; where that can't be set, they go out a little later.
        let _ = stream.set_nodelay(true);
        let (peer, unread, certificates) = (address.ip(), Vec::new(), Vec::new());
        Ok(Self { stream: Stream::Plain(stream), peer, unread, certificates })
    }

    /// Sends bytes and reads a reply.
    ///
    /// # Errors
    /// What the failure says of the target.
    pub(super) async fn exchange(&mut self, send: &[u8], end: &ReplyEnd, within: Duration) -> Result<Vec<u8>, Error> {
        let ends = Instant::now() + within;
        if !send.is_empty() {
            let sent = timeout_at(ends, self.send(send)).await.unwrap_or(Err(Error::Timeout));
            if let Err(error) = sent {
                // Of a request that was cut off, nobody knows how much arrived: nothing that comes after it makes sense.
                self.fail(&error);
                return Err(error);
            }
        }
        let mut searched = 0;
        loop {
            if let Some(length) = end.reply_len(&self.unread, searched) {
                return Ok(self.unread.drain(..length).collect());
            }
            searched = self.unread.len();
            let room = TLS_REPLY_MAX - searched;
            if room == 0 {
                return Err(Error::OutOfBounds(format!("the reply did not end within {TLS_REPLY_MAX} bytes")));
            }
            match timeout_at(ends, self.read(CHUNK.min(room))).await {
                Ok(Ok(Read::Bytes)) => {}
                Ok(Ok(Read::End)) if end.ends_with_stream() => return Ok(std::mem::take(&mut self.unread)),
                Ok(Ok(Read::End)) => {
                    self.fail(&Error::Closed);
                    return Err(Error::Closed);
                }
                Ok(Err(error)) => {
                    self.fail(&error);
                    let all_came = matches!(error, Error::Closed) && end.ends_with_stream() && !self.unread.is_empty();
                    return if all_came { Ok(std::mem::take(&mut self.unread)) } else { Err(error) };
                }
                Err(_) => return Err(Error::Timeout),
            }
        }
    }

    /// Notes that nothing goes over the stream any more. What came before stays to be read.
    fn fail(&mut self, error: &Error) {
        self.stream = if matches!(error, Error::Closed) { Stream::Closed } else { Stream::Broken };
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.stream {
            Stream::Plain(stream) => write(stream, bytes).await,
            Stream::Tls(stream) => write(stream, bytes).await,
            Stream::Closed => Err(Error::Closed),
            Stream::Broken => Err(failed_before()),
        }
    }

    /// Reads once, at most so many bytes.
    async fn read(&mut self, most: usize) -> Result<Read, Error> {
        match &mut self.stream {
            Stream::Plain(stream) => read(stream, &mut self.unread, most).await,
            Stream::Tls(stream) => read(stream, &mut self.unread, most).await,
            Stream::Closed => Err(Error::Closed),
            Stream::Broken => Err(failed_before()),
        }
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// What the failure says of the target.
    pub(super) async fn handshake(
        &mut self,
        server_name: Option<String>,
        alpn: Vec<Vec<u8>>,
        within: Duration,
    ) -> Result<Session, Error> {
        let name = match server_name {
            // rustls sends no name of a server that is named by its address.
            None => ServerName::IpAddress(self.peer.into()),
            Some(name) => match ServerName::try_from(name.clone()) {
                Ok(name) => name,
                Err(e) => return Err(Error::OutOfBounds(format!("server-name is {name:?}: {e}"))),
            },
        };
        if !self.unread.is_empty() {
            let text = format!("{} bytes of plain text were not read before the handshake", self.unread.len());
            return Err(Error::Other(text));
        }
        let witness = Witness::new();
        let config = witness.config(alpn).map_err(|e| Error::Other(e.to_string()))?;
        let stream = match std::mem::replace(&mut self.stream, Stream::Broken) {
            Stream::Plain(stream) => stream,
            tls @ Stream::Tls(_) => {
                self.stream = tls;
                return Err(Error::Other("there was a handshake already".to_owned()));
            }
            Stream::Closed => {
                self.stream = Stream::Closed;
                return Err(Error::Closed);
            }
            Stream::Broken => return Err(failed_before()),
        };
        match timeout(within, TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream)).await {
            Ok(Ok(stream)) => {
                let tls = stream.get_ref().1;
                let session = session(tls, witness.key_proved());
                self.certificates =
                    tls.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
                self.stream = Stream::Tls(Box::new(stream));
                Ok(session)
            }
            Ok(Err(error)) => Err(no_handshake(&error)),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Returns the certificates that the target showed, its own first; none before the handshake.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(AsRef::as_ref)
    }

    /// Tells the target that nothing more comes, as far as that goes without waiting, and closes.
    pub(super) fn close(self) {
        if let Stream::Tls(stream) = self.stream {
            let (stream, mut tls) = stream.into_inner();
            tls.send_close_notify();
            let mut bytes = Vec::new();
            // The target may be gone; then there is nobody to tell.
            let _ = tls.write_tls(&mut bytes).and_then(|_| stream.try_write(&bytes));
        }
    }
}

/// What one look at a stream came to.
enum Read {
    Bytes,
    /// The target has closed its side.
    End,
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), Error> {
    stream.write_all(bytes).await.map_err(|e| lost(&e))?;
    stream.flush().await.map_err(|e| lost(&e))
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S, unread: &mut Vec<u8>, most: usize) -> Result<Read, Error> {
    let mut chunk = [0; CHUNK];
    match stream.read(&mut chunk[..most]).await {
        Ok(0) => Ok(Read::End),
        // rustls tells a stream that ends without a close alert; many servers end theirs that way.
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(Read::End),
        Ok(read) => {
            unread.extend_from_slice(&chunk[..read]);
            Ok(Read::Bytes)
        }
        Err(e) => Err(lost(&e)),
    }
}

fn failed_before() -> Error {
    Error::Other("the connection has failed before".to_owned())
}

impl From<NotConnected> for Error {
    fn from(error: NotConnected) -> Self {
        match error {
            NotConnected::NoRoute(why) => Self::NoRoute(why),
            NotConnected::Unreachable(why) => Self::Unreachable(why),
            NotConnected::Refused => Self::Refused,
            NotConnected::Timeout => Self::Timeout,
            NotConnected::Other(why) => Self::Other(why),
        }
    }
}

fn lost(error: &io::Error) -> Error {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe | ErrorKind::NotConnected => {
            Error::Closed
        }
        ErrorKind::TimedOut => Error::Timeout,
        _ => Error::Other(error.to_string()),
    }
}

fn no_handshake(error: &io::Error) -> Error {
    match error.kind() {
        // What rustls finds wrong comes as this.
        ErrorKind::InvalidData => Error::Handshake(error.to_string()),
        ErrorKind::UnexpectedEof => Error::Closed,
        _ => lost(error),
    }
}

fn session(tls: &ClientConnection, key_proved: bool) -> Session {
    let version = match tls.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
        other => format!("{other:?}"),
    };
    let cipher = tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or_default();
    Session {
        version,
        // rustls marks the suites of TLS 1.3 by their prefix; the registry does not.
        cipher: cipher.replace("TLS13_", "TLS_"),
        alpn: tls.alpn_protocol().map(|chosen| String::from_utf8_lossy(chosen).into_owned()),
        key_proved,
        certificates: tls.peer_certificates().map_or(0, |shown| u32::try_from(shown.len()).unwrap_or(u32::MAX)),
    }
}
