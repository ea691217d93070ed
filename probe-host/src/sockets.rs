//! The sockets of guests: how many there may be, and what stands in front of what wasmtime provides of them.
//!
//! A file descriptor belongs to each, and the process has so many of them. So a run has one socket of its own, as most need
//! no more, and takes further ones from a pool, half of it by one component at most: guests that hoard sockets are told that
//! there are none left, and other runs, and the streams of whoever runs them all, go on opening theirs.

use std::sync::Arc;

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{StoreContextMut, bail};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, Host as _, IpAddressFamily};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::bindings::sockets::udp::{
    HostUdpSocket, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{SocketError, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};

use crate::pool::Share;
use crate::run_state::RunState;
use crate::socket_trace::{self, SOCKETS};

/// The interfaces as wasmtime provides them.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const TCP_CREATE: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const UDP: &str = "wasi:sockets/udp@0.2.12";
const UDP_CREATE: &str = "wasi:sockets/udp-create-socket@0.2.12";

/// What a guest is told, unless it has to be stopped.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, ErrorCode>>;

/// The sockets that a run has open.
#[derive(Debug)]
pub(crate) struct RunSockets {
    open: usize,
    /// What the component's runs take further ones from.
    share: Arc<Share>,
}

impl RunSockets {
    /// Returns those of a run that has none.
    pub(crate) const fn none(share: Arc<Share>) -> Self {
        Self { open: 0, share }
    }

    /// Counts one more; returns whether it may be opened.
    pub(crate) fn open(&mut self) -> bool {
        let may = self.open == 0 || self.share.take(1).is_ok();
        self.open += usize::from(may);
        may
    }

    /// One of them is closed.
    pub(crate) fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
        if self.open > 0 {
            self.share.give_back(1);
        }
    }
}

impl Drop for RunSockets {
    fn drop(&mut self) {
        self.share.give_back(self.open.saturating_sub(1));
    }
}

/// Puts what counts and tells of sockets in front of what wasmtime provides.
///
/// # Errors
/// When wasmtime provides these interfaces under other versions: in front of nothing, it would neither count nor tell.
pub(crate) fn add_to_linker(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    for (interface, function) in [
        (TCP_CREATE, "create-tcp-socket"),
        (UDP_CREATE, "create-udp-socket"),
        (TCP, "[method]tcp-socket.finish-connect"),
        (UDP, "[method]incoming-datagram-stream.receive"),
        (UDP, "[method]outgoing-datagram-stream.send"),
    ] {
        let nothing = |_: StoreContextMut<'_, RunState>, (): ()| Ok(());
        if linker.instance(interface)?.func_wrap(function, nothing).is_ok() {
            bail!("wasmtime provides no `{function}` of `{interface}`");
        }
    }
    linker.allow_shadowing(true);
    add_tcp(linker)?;
    add_udp(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn add_tcp(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    linker.instance(TCP_CREATE)?.func_wrap(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, RunState>, (family,): (IpAddressFamily,)| {
            let state = store.data_mut();
            if !may_open(state) {
                return Ok((Err(ErrorCode::NewSocketLimit),));
            }
            let made = tcp_create_socket::Host::create_tcp_socket(&mut state.sockets(), family);
            Ok((opened(state, made)?,))
        },
    )?;
    let mut tcp = linker.instance(TCP)?;
    tcp.resource("tcp-socket", ResourceType::host::<TcpSocket>(), |mut store, number| {
        let state: &mut RunState = store.data_mut();
        HostTcpSocket::drop(&mut state.sockets(), Resource::new_own(number))?;
        state.open_sockets.close();
        Ok(())
    })?;
    tcp.func_wrap(
        "[method]tcp-socket.finish-connect",
        |mut store: StoreContextMut<'_, RunState>, (socket,): (Resource<TcpSocket>,)| {
            Ok((socket_trace::finish_connect(store.data_mut(), &socket)?,))
        },
    )
}

fn add_udp(linker: &mut Linker<RunState>) -> wasmtime::Result<()> {
    linker.instance(UDP_CREATE)?.func_wrap_async(
        "create-udp-socket",
        |mut store: StoreContextMut<'_, RunState>, (family,): (IpAddressFamily,)| {
            Box::new(async move {
                let state = store.data_mut();
                if !may_open(state) {
                    return Ok((Err(ErrorCode::NewSocketLimit),));
                }
                let made = udp_create_socket::Host::create_udp_socket(&mut state.sockets(), family).await;
                Ok((opened(state, made)?,))
            })
        },
    )?;
    let mut udp = linker.instance(UDP)?;
    udp.resource("udp-socket", ResourceType::host::<UdpSocket>(), |mut store, number| {
        let state: &mut RunState = store.data_mut();
        HostUdpSocket::drop(&mut state.sockets(), Resource::new_own(number))?;
        state.open_sockets.close();
        Ok(())
    })?;
    udp.func_wrap(
        "[method]incoming-datagram-stream.receive",
        |mut store: StoreContextMut<'_, RunState>, (stream, most): (Resource<IncomingDatagramStream>, u64)| {
            Ok((socket_trace::receive(store.data_mut(), stream, most)?,))
        },
    )?;
    udp.func_wrap(
        "[method]outgoing-datagram-stream.send",
        |mut store: StoreContextMut<'_, RunState>,
         (stream, datagrams): (Resource<OutgoingDatagramStream>, Vec<OutgoingDatagram>)| {
            Ok((socket_trace::send(store.data_mut(), stream, datagrams)?,))
        },
    )
}

/// Counts one more socket of a run; returns whether it may have that.
fn may_open(state: &mut RunState) -> bool {
    let may = state.open_sockets.open();
    if let (false, Some(trace)) = (may, &state.trace) {
        trace.call(SOCKETS, "one more socket: none is left".to_owned());
    }
    may
}

/// Returns what a guest is told of the socket that was counted.
fn opened<S>(state: &mut RunState, made: Result<Resource<S>, SocketError>) -> Answer<Resource<S>> {
    let made = wasi_result(&mut state.sockets(), made);
    if !matches!(made, Ok(Ok(_))) {
        state.open_sockets.close();
    }
    made
}

/// Returns what a guest is told of a call: an error of its own, unless it has to be stopped.
pub(crate) fn wasi_result<T>(sockets: &mut WasiSocketsCtxView<'_>, result: Result<T, SocketError>) -> Answer<T> {
    match result {
        Ok(done) => Ok(Ok(done)),
        Err(error) => sockets.convert_error_code(error).map(Err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Pool;

    fn opened(run: &mut RunSockets) -> usize {
        std::iter::from_fn(|| run.open().then_some(())).count()
    }

    #[test]
    fn each_run_has_one_of_its_own_and_a_component_half_of_what_there_is_beyond() {
        let host = Arc::new(Pool::new(8));
        let component = Arc::new(Share::of(Arc::clone(&host)));
        let (mut first, mut second) = (RunSockets::none(Arc::clone(&component)), RunSockets::none(component));
        assert_eq!((opened(&mut first), opened(&mut second)), (1 + 4, 1));
        first.close();
        assert_eq!((opened(&mut second), opened(&mut first)), (1, 0));
        drop(first);
        assert_eq!(opened(&mut second), 3);
        drop(second);
        assert_eq!(host.taken(), 0, "all is given back");
    }

    #[test]
    fn two_components_have_all_and_a_third_still_has_one_for_each_run() {
        let host = Arc::new(Pool::new(8));
        let run = || RunSockets::none(Arc::new(Share::of(Arc::clone(&host))));
        let (mut first, mut second, mut third) = (run(), run(), run());
        assert_eq!((opened(&mut first), opened(&mut second), opened(&mut third)), (5, 5, 1));
    }

    #[test]
    fn what_is_closed_again_can_be_opened_again_without_end() {
        let mut run = RunSockets::none(Arc::new(Share::of(Arc::new(Pool::new(0)))));
        for _ in 0..100 {
            assert!(run.open() && !run.open());
            run.close();
        }
    }
}
