//! A TCP handshake in a guest, straight over WASI.
//!
//! The standard library makes a connection ready for use and asks it for its error and its peer: twice as many calls into the
//! host, each of which costs more than the code of a probe that only connects.

use std::mem::ManuallyDrop;
use std::net::SocketAddr;
use std::time::Duration;

use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::io::poll::poll;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::ConnectError;

/// Connects, and leaves the connection to the end of the run: the host hangs up when the instance is gone. To give back the
/// four handles before that takes four calls more, of some ten.
///
/// # Errors
/// [`ConnectError`], by what the failure says of the target.
pub(crate) fn handshake(target: SocketAddr, left: Duration) -> Result<(), ConnectError> {
    let (family, remote) = of_wasi(target);
    let socket = ManuallyDrop::new(create_tcp_socket(family).map_err(error)?);
    let network = ManuallyDrop::new(instance_network());
    socket.start_connect(&network, remote).map_err(error)?;
    let settled = ManuallyDrop::new(socket.subscribe());
    let late = ManuallyDrop::new(subscribe_duration(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)));
    poll(&[&settled, &late]);
    match socket.remote_address() {
        Ok(_) => Ok(()),
        // Not settled yet, or a host that tells only whoever finishes the connect. The host of vouch knows by now, and so the
        // two streams of a connection that nobody uses are never made.
        Err(ErrorCode::InvalidState) => socket.finish_connect().map(drop).map_err(error),
        Err(code) => Err(error(code)),
    }
}

fn of_wasi(target: SocketAddr) -> (IpAddressFamily, IpSocketAddress) {
    match target {
        SocketAddr::V4(target) => {
            let address = target.ip().octets().into();
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port: target.port(), address }))
        }
        SocketAddr::V6(target) => {
            let (address, port) = (target.ip().segments().into(), target.port());
            let remote = Ipv6SocketAddress { port, flow_info: target.flowinfo(), address, scope_id: target.scope_id() };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(remote))
        }
    }
}

/// Returns what an error of the host stands for, as the standard library tells it.
fn error(code: ErrorCode) -> ConnectError {
    match code {
        ErrorCode::ConnectionRefused | ErrorCode::ConnectionReset | ErrorCode::ConnectionAborted => {
            ConnectError::Closed
        }
        // Not settled yet: the time is up.
        ErrorCode::WouldBlock | ErrorCode::Timeout => ConnectError::Timeout,
        ErrorCode::RemoteUnreachable => ConnectError::Unreachable,
        ErrorCode::AddressNotBindable => ConnectError::NoRoute,
        ErrorCode::AccessDenied => ConnectError::NotGranted,
        other => ConnectError::Other(other.message().to_owned()),
    }
}
