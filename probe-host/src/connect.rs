//! A TCP connection to a target, with every way to fail told apart.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NotConnected {
    /// There is no route from here: says nothing of the target.
    NoRoute(String),
    /// A neighbour or router said that the target is not there.
    Unreachable(String),
    /// The target refused.
    Refused,
    /// Nothing came in time.
    Timeout,
    /// Anything else.
    Other(String),
}

/// A connect that finds no way sooner than this was not even sent. The kernel has one error for a host that its own routes
/// call unreachable, which it tells at once, and for one of which a neighbour or router said so.
const NO_ROUTE_WITHIN: Duration = Duration::from_millis(10);

/// Connects.
///
/// # Errors
/// What the failure says of the target.
pub(crate) async fn connect(address: SocketAddr, within: Duration) -> Result<TcpStream, NotConnected> {
    let begun = Instant::now();
    match timeout(within, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| NotConnected::after(&error, begun.elapsed())),
        Err(_) => Err(NotConnected::Timeout),
    }
}

impl NotConnected {
    /// Returns what an error stands for that came after so long.
    fn after(error: &io::Error, took: Duration) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Self::Refused,
            ErrorKind::TimedOut => Self::Timeout,
            ErrorKind::HostUnreachable if took >= NO_ROUTE_WITHIN => Self::Unreachable(error.to_string()),
            ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::AddrNotAvailable
            | ErrorKind::NetworkDown => Self::NoRoute(error.to_string()),
            _ => Self::Other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_unreachable_at_once_has_no_route_from_here() {
        let unreachable = io::Error::from(ErrorKind::HostUnreachable);
        let sent = NotConnected::after(&unreachable, NO_ROUTE_WITHIN);
        assert!(matches!(sent, NotConnected::Unreachable(_)), "{sent:?}");
        let unsent = NotConnected::after(&unreachable, NO_ROUTE_WITHIN / 2);
        assert!(matches!(unsent, NotConnected::NoRoute(_)), "{unsent:?}");
        let refused = NotConnected::after(&ErrorKind::ConnectionRefused.into(), Duration::ZERO);
        assert_eq!(refused, NotConnected::Refused);
    }
}
