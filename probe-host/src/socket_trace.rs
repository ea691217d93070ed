//! What is told of a run's sockets: where they go, whether a connection came about, and what travels.
//!
//! A run of which nobody wants to know what travels has the streams of WASI as they are.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, IncomingDatagram, IncomingDatagramStream, OutgoingDatagram,
    OutgoingDatagramStream,
};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError, StreamResult, TcpSocket,
};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsView};

use crate::run_state::RunState;
use crate::run_trace::RunTrace;
use crate::sockets::{Answer, wasi_result};

/// What these lines are filed under.
pub(crate) const SOCKETS: &str = "sockets";

/// Both ways of a connection.
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// Tells where a guest wants to go with a socket, and whether it may.
pub(crate) fn note_use(trace: &RunTrace, address: SocketAddr, usage: SocketAddrUse, permitted: bool) {
    let wanted = match usage {
        SocketAddrUse::TcpConnect => "tcp connect to",
        SocketAddrUse::UdpSend => "udp send to",
        SocketAddrUse::UdpReceive => "udp receive from",
        SocketAddrUse::TcpListen => "tcp listen on",
        SocketAddrUse::TcpAccept => "tcp accept from",
        // Every connect binds before: only one that is refused is worth a line.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if permitted => return,
        SocketAddrUse::TcpBind => "tcp bind to",
        SocketAddrUse::UdpBind => "udp bind to",
    };
    trace.call(SOCKETS, format!("{wanted} {address}: {}", if permitted { "permitted" } else { "not granted" }));
}

/// Ends a connect, and has what travels over the connection told from then on.
pub(crate) fn finish_connect(state: &mut RunState, socket: &Resource<TcpSocket>) -> Answer<Streams> {
    let mut sockets = state.sockets();
    let connected = HostTcpSocket::finish_connect(&mut sockets, borrowed(socket));
    let connected = wasi_result(&mut sockets, connected)?;
    let Some(trace) = state.trace.clone() else { return Ok(connected) };
    match &connected {
        Ok((input, output)) => {
            let address = HostTcpSocket::remote_address(&mut state.sockets(), borrowed(socket)).map(SocketAddr::from);
            let address = address.map_or_else(|_| "a target that is gone".to_owned(), |address| address.to_string());
            trace.call(SOCKETS, format!("tcp connected to {address}"));
            if trace.follows_transfers() {
                follow(state, input, output, &Arc::from(address), &trace)?;
            }
        }
        Err(ErrorCode::WouldBlock) => {}
        Err(error) => trace.call(SOCKETS, format!("tcp connect: {}", error.name())),
    }
    Ok(connected)
}

/// Puts streams in the place of those of a connection that tell what they carry.
fn follow(
    state: &mut RunState,
    input: &Resource<DynInputStream>,
    output: &Resource<DynOutputStream>,
    address: &Arc<str>,
    trace: &RunTrace,
) -> wasmtime::Result<()> {
    let slot = state.table.get_mut(input)?;
    let inner = std::mem::replace(slot, Box::new(ClosedInputStream));
    *slot = Box::new(Followed::new(inner, address, trace));
    let slot = state.table.get_mut(output)?;
    let inner = std::mem::replace(slot, Box::new(ClosedOutputStream));
    *slot = Box::new(Followed::new(inner, address, trace));
    Ok(())
}

/// A stream of a connection that tells what it carries.
struct Followed<S> {
    inner: S,
    /// To whom it goes.
    address: Arc<str>,
    trace: RunTrace,
    /// Whether its end has been told.
    has_ended: bool,
}

impl<S> Followed<S> {
    fn new(inner: S, address: &Arc<str>, trace: &RunTrace) -> Self {
        Self { inner, address: Arc::clone(address), trace: trace.clone(), has_ended: false }
    }

    /// Tells once why nothing more goes this way.
    fn note_end(&mut self, doing: &str, error: &StreamError) {
        if !self.has_ended {
            self.has_ended = true;
            let why = match error {
                StreamError::Closed => "the end".to_owned(),
                StreamError::LastOperationFailed(error) | StreamError::Trap(error) => error.to_string(),
            };
            self.trace.transfer(SOCKETS, format!("{doing} {}: {why}", self.address), &[]);
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Followed<DynInputStream> {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Followed<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.inner.read(size);
        match &read {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => {
                let what = format!("received {} bytes from {}", bytes.len(), self.address);
                self.trace.transfer(SOCKETS, what, bytes);
            }
            Err(error) => self.note_end("receive from", error),
        }
        read
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait::async_trait]
impl Pollable for Followed<DynOutputStream> {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Followed<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let written = self.inner.write(bytes.clone());
        match &written {
            Ok(()) => {
                let what = format!("sent {} bytes to {}", bytes.len(), self.address);
                self.trace.transfer(SOCKETS, what, &bytes);
            }
            Err(error) => self.note_end("send to", error),
        }
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush().inspect_err(|error| self.note_end("send to", error))
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write().inspect_err(|error| self.note_end("send to", error))
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

/// Takes datagrams that came, and tells of them.
pub(crate) fn receive(
    state: &mut RunState,
    stream: Resource<IncomingDatagramStream>,
    most: u64,
) -> Answer<Vec<IncomingDatagram>> {
    let mut sockets = state.sockets();
    let received = HostIncomingDatagramStream::receive(&mut sockets, stream, most);
    let received = wasi_result(&mut sockets, received)?;
    let Some(trace) = &state.trace else { return Ok(received) };
    match &received {
        Ok(datagrams) => {
            for IncomingDatagram { data, remote_address } in datagrams {
                let from = SocketAddr::from(*remote_address);
                trace.transfer(SOCKETS, format!("received a datagram of {} bytes from {from}", data.len()), data);
            }
        }
        Err(error) => trace.transfer(SOCKETS, format!("receive a datagram: {}", error.name()), &[]),
    }
    Ok(received)
}

/// Sends datagrams, and tells of those that went.
pub(crate) fn send(
    state: &mut RunState,
    stream: Resource<OutgoingDatagramStream>,
    datagrams: Vec<OutgoingDatagram>,
) -> Answer<u64> {
    let trace = state.trace.clone().filter(RunTrace::follows_transfers);
    let told = if trace.is_some() { datagrams.clone() } else { Vec::new() };
    let mut sockets = state.sockets();
    let sent = HostOutgoingDatagramStream::send(&mut sockets, stream, datagrams);
    let sent = wasi_result(&mut sockets, sent)?;
    let Some(trace) = trace else { return Ok(sent) };
    match &sent {
        Ok(count) => {
            let count = usize::try_from(*count).unwrap_or(usize::MAX);
            for OutgoingDatagram { data, remote_address } in told.iter().take(count) {
                // Without one it goes to whom the socket is connected, of which there was a line.
                let to = remote_address.map_or_else(String::new, |to| format!(" to {}", SocketAddr::from(to)));
                trace.transfer(SOCKETS, format!("sent a datagram of {} bytes{to}", data.len()), data);
            }
        }
        Err(error) => trace.transfer(SOCKETS, format!("send a datagram: {}", error.name()), &[]),
    }
    Ok(sent)
}

fn borrowed(socket: &Resource<TcpSocket>) -> Resource<TcpSocket> {
    Resource::new_borrow(socket.rep())
}
