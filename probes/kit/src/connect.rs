//! One TCP connection to a target, with every way to fail told apart.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Budget;

/// A connect that finds no way sooner than this was not even sent. WASI has one error for "no route from here" and for
/// "the last router says it is not there"; the first comes from our own kernel at once.
const NO_ROUTE_WITHIN: Duration = Duration::from_millis(10);

/// Why there is no connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectError {
    /// The target refused: something answers there, but nothing listens.
    Closed,
    /// Nothing came back in time.
    Timeout,
    /// A neighbour or router said that the target is not there.
    Unreachable,
    /// There is no way to that network from here: says nothing of the target.
    NoRoute,
    /// The host does not allow this address or port.
    NotGranted,
    /// Anything else.
    Other(String),
}

impl ConnectError {
    /// Returns the error that this I/O error stands for.
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Self::Closed,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout,
            ErrorKind::HostUnreachable => Self::Unreachable,
            ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable | ErrorKind::NetworkDown => Self::NoRoute,
            ErrorKind::PermissionDenied => Self::NotGranted,
            _ => Self::Other(error.to_string()),
        }
    }

    /// Returns what the error stands for when it came after so long.
    pub fn after(self, took: Duration) -> Self {
        match self {
            Self::Unreachable if took < NO_ROUTE_WITHIN => Self::NoRoute,
            error => error,
        }
    }
}

/// Connects to a port of the target within what is left of the budget, and returns how long it took.
///
/// # Errors
/// [`ConnectError`], by what the failure says of the target.
pub fn connect(address: IpAddr, port: u16, budget: &Budget) -> Result<(TcpStream, Duration), ConnectError> {
    let begun = Instant::now();
    let left = budget.left_at(begun).ok_or(ConnectError::Timeout)?;
    let connected = TcpStream::connect_timeout(&SocketAddr::new(address, port), left).and_then(|stream| {
        // In a guest, a connect that was refused while it was waited for comes back as a stream; the error waits in it.
        stream.take_error()?.map_or(Ok(()), Err)?;
        Ok(stream)
    });
    let took = begun.elapsed();
    connected.map(|stream| (stream, took)).map_err(|error| ConnectError::from_io(&error).after(took))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_listening_port_is_told_from_a_refusing_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert!(connect(address.ip(), address.port(), &Budget::starting_now(1000)).is_ok());
        drop(listener);
        let refused = connect(address.ip(), address.port(), &Budget::starting_now(1000));
        assert_eq!(refused.unwrap_err(), ConnectError::Closed);
    }

    #[test]
    fn a_spent_budget_is_a_timeout_and_not_a_panic() {
        let spent = connect(Ipv4Addr::LOCALHOST.into(), 1, &Budget::starting_now(0));
        assert_eq!(spent.unwrap_err(), ConnectError::Timeout);
    }
}
