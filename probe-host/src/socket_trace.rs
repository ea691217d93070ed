//! What is told of a run's sockets to who traces it: where they go, whether a connection came about, and what travels.
//!
//! Where they go is told at the level of debugging, as other calls of a run are. What travels may be secret and is much, so
//! it is told at the finest level alone, cut short, and up to a number of lines per run. A run that nobody traces at that
//! level has the streams of WASI as they are.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use vouch_types::VmId;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, Host as _};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostIncomingDatagramStream, HostOutgoingDatagramStream, IncomingDatagram, IncomingDatagramStream, OutgoingDatagram,
    OutgoingDatagramStream,
};
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, SocketError, StreamError, StreamResult,
    TcpSocket,
};
use wasmtime_wasi::sockets::{SocketAddrUse, WasiSocketsCtxView, WasiSocketsView};

use crate::limits::{TRACED_BYTES_MAX, TRACED_TRANSFERS_MAX};
use crate::run_state::RunState;

/// The interfaces as wasmtime provides them. A run is linked with the newest of `0.2` that there is: were that another one
/// than these, nothing would be traced, which a test would show.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";

/// What these lines are filed under.
const SOCKETS: &str = "sockets";

/// What a guest is told, unless it has to be stopped.
type Answer<T> = wasmtime::Result<Result<T, ErrorCode>>;
/// Both ways of a connection.
type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);

/// Puts what tells of sockets in front of what wasmtime provides.
pub(crate) fn add_to_linker(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TCP)?.func_wrap(
        "[method]tcp-socket.finish-connect",
        |mut store: StoreContextMut<'_, RunState>, (socket,): (Resource<TcpSocket>,)| {
            Ok((finish_connect(store.data_mut(), &socket)?,))
        },
    )?;
    let mut udp = linker.instance(UDP)?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store: StoreContextMut<'_, RunState>, (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            Ok((receive(store.data_mut(), stream, most)?,))
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store: StoreContextMut<'_, RunState>,
         (stream, datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            Ok((send(store.data_mut(), stream, datagrams)?,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Writes down where a guest wants to go with a socket, and whether it may.
pub(crate) fn note_use(probe: &str, vm: Option<VmId>, address: SocketAddr, usage: SocketAddrUse, permitted: bool) {
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
    if tracing::enabled!(tracing::Level::DEBUG) {
        let vm_id = vm.map(|vm| vm.to_string());
        let call = format!("{wanted} {address}: {}", if permitted { "permitted" } else { "not granted" });
        tracing::debug!(probe, vm_id, interface = SOCKETS, call, "probe calls");
    }
}

/// Whose transfers are told, and how many more of them.
#[derive(Clone)]
pub(crate) struct Transfers {
    probe: Arc<str>,
    vm: Option<VmId>,
    left: Arc<AtomicU32>,
}

impl Transfers {
    /// Returns those of a run, if somebody listens.
    pub(crate) fn listened_to(probe: &Arc<str>, vm: Option<VmId>) -> Option<Self> {
        tracing::enabled!(tracing::Level::TRACE).then(|| Self {
            probe: Arc::clone(probe),
            vm,
            left: Arc::new(AtomicU32::new(TRACED_TRANSFERS_MAX)),
        })
    }

    /// Writes one down: what happened, and the bytes of it.
    pub(crate) fn note(&self, interface: &'static str, what: &str, bytes: &[u8]) {
        let Ok(left) = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) else {
            return;
        };
        let call = match left {
            1 => format!("{what}: the last that is told of this run"),
            _ if bytes.is_empty() => what.to_owned(),
            _ => format!("{what}: {}", shown(bytes)),
        };
        let (probe, vm_id) = (&*self.probe, self.vm.map(|vm| vm.to_string()));
        tracing::trace!(probe, vm_id, interface, call, "probe transfers");
    }
}

/// Returns how bytes are shown: as text where they are that, else in hexadecimal; their beginning, if they are many.
fn shown(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(TRACED_BYTES_MAX)];
    let cut = if head.len() < bytes.len() { " ..." } else { "" };
    let is_text = head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if is_text {
        return format!("\"{}\"{cut}", head.escape_ascii());
    }
    let mut text = String::with_capacity(3 * head.len());
    for (index, byte) in head.iter().enumerate() {
        let space = if index == 0 { "" } else { " " };
        write!(text, "{space}{byte:02x}").expect("a string takes all");
    }
    text + cut
}

/// Ends a connect, and has what travels over the connection told from then on.
fn finish_connect(state: &mut RunState, socket: &Resource<TcpSocket>) -> Answer<Streams> {
    let mut sockets = state.sockets();
    let connected = HostTcpSocket::finish_connect(&mut sockets, borrowed(socket));
    let connected = wasi_result(&mut sockets, connected)?;
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return Ok(connected);
    }
    match &connected {
        Ok((input, output)) => {
            let address = HostTcpSocket::remote_address(&mut sockets, borrowed(socket)).map(SocketAddr::from);
            let address = address.map_or_else(|_| "a target that is gone".to_owned(), |address| address.to_string());
            state.note_connect(&format!("tcp connected to {address}"));
            if let Some(transfers) = state.transfers() {
                follow(state, input, output, &Arc::from(address), &transfers)?;
            }
        }
        Err(ErrorCode::WouldBlock) => {}
        Err(error) => state.note_connect(&format!("tcp connect: {}", error.name())),
    }
    Ok(connected)
}

/// Puts streams in the place of those of a connection that tell what they carry.
fn follow(
    state: &mut RunState,
    input: &Resource<DynInputStream>,
    output: &Resource<DynOutputStream>,
    address: &Arc<str>,
    transfers: &Transfers,
) -> wasmtime::Result<()> {
    let slot = state.table.get_mut(input)?;
    let inner = std::mem::replace(slot, Box::new(ClosedInputStream));
    *slot = Box::new(Told { inner, address: Arc::clone(address), transfers: transfers.clone() });
    let slot = state.table.get_mut(output)?;
    let inner = std::mem::replace(slot, Box::new(ClosedOutputStream));
    *slot = Box::new(Told { inner, address: Arc::clone(address), transfers: transfers.clone() });
    Ok(())
}

/// A stream of a connection, and to whom it goes.
struct Told<S> {
    inner: S,
    address: Arc<str>,
    transfers: Transfers,
}

#[async_trait::async_trait]
impl Pollable for Told<DynInputStream> {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl InputStream for Told<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let read = self.inner.read(size);
        let what = match &read {
            Ok(bytes) if bytes.is_empty() => return read,
            Ok(bytes) => format!("received {} bytes from {}", bytes.len(), self.address),
            Err(StreamError::Closed) => format!("{} sends no more", self.address),
            Err(error) => format!("receive from {}: {error}", self.address),
        };
        self.transfers.note(SOCKETS, &what, read.as_deref().unwrap_or_default());
        read
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

#[async_trait::async_trait]
impl Pollable for Told<DynOutputStream> {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait::async_trait]
impl OutputStream for Told<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let written = self.inner.write(bytes.clone());
        let what = match &written {
            Ok(()) => format!("sent {} bytes to {}", bytes.len(), self.address),
            Err(error) => format!("send to {}: {error}", self.address),
        };
        self.transfers.note(SOCKETS, &what, &bytes);
        written
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.inner.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.inner.check_write()
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}

fn receive(state: &mut RunState, stream: Resource<IncomingDatagramStream>, most: u64) -> Answer<Vec<IncomingDatagram>> {
    let mut sockets = state.sockets();
    let received = HostIncomingDatagramStream::receive(&mut sockets, stream, most);
    let received = wasi_result(&mut sockets, received)?;
    if let (Ok(datagrams), Some(transfers)) = (&received, state.transfers()) {
        for IncomingDatagram { data, remote_address } in datagrams {
            let from = SocketAddr::from(*remote_address);
            transfers.note(SOCKETS, &format!("received a datagram of {} bytes from {from}", data.len()), data);
        }
    }
    Ok(received)
}

fn send(
    state: &mut RunState,
    stream: Resource<OutgoingDatagramStream>,
    datagrams: Vec<OutgoingDatagram>,
) -> Answer<u64> {
    let transfers = state.transfers();
    let told = if transfers.is_some() { datagrams.clone() } else { Vec::new() };
    let mut sockets = state.sockets();
    let sent = HostOutgoingDatagramStream::send(&mut sockets, stream, datagrams);
    let sent = wasi_result(&mut sockets, sent)?;
    if let (Ok(sent), Some(transfers)) = (&sent, transfers) {
        for OutgoingDatagram { data, remote_address } in told.iter().take(usize::try_from(*sent).unwrap_or(usize::MAX))
        {
            // Without one it goes to whom the socket is connected, of which there was a line.
            let to = remote_address.map_or_else(String::new, |to| format!(" to {}", SocketAddr::from(to)));
            transfers.note(SOCKETS, &format!("sent a datagram of {} bytes{to}", data.len()), data);
        }
    }
    Ok(sent)
}

fn borrowed(socket: &Resource<TcpSocket>) -> Resource<TcpSocket> {
    Resource::new_borrow(socket.rep())
}

/// Returns what a guest is told of a call: an error of its own, unless it has to be stopped.
fn wasi_result<T>(sockets: &mut WasiSocketsCtxView<'_>, result: Result<T, SocketError>) -> Answer<T> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(error) => sockets.convert_error_code(error).map(Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_the_rest_in_hexadecimal() {
        assert_eq!(shown(b"SSH-2.0-x\r\n"), r#""SSH-2.0-x\r\n""#);
        assert_eq!(shown(&[3, 0, 0, 0x13]), "03 00 00 13");
        assert_eq!(shown("naïve".as_bytes()), "6e 61 c3 af 76 65");
    }

    #[test]
    fn of_many_bytes_the_beginning_is_shown() {
        let text = shown(&[b'a'; TRACED_BYTES_MAX + 1]);
        assert_eq!(text, format!("\"{}\" ...", "a".repeat(TRACED_BYTES_MAX)));
        assert!(shown(&[0xff; TRACED_BYTES_MAX + 1]).ends_with("ff ff ..."));
        assert!(!shown(&[0xff; TRACED_BYTES_MAX]).contains("..."));
    }
}
