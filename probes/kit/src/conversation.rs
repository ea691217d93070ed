//! A conversation over one TCP connection, each wait within what is left of the run.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::{Budget, ConnectError, Fault, Outcome, State, connect};

/// A service that stayed silent for less than this is slow, not wedged.
const WEDGED_AFTER: Duration = Duration::from_secs(1);

/// Why a conversation came to no end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Interruption {
    /// The service hung up.
    Closed,
    /// Nothing came in time.
    Silent,
    /// It failed for a reason that says nothing of the service.
    Failed(String),
}

impl Interruption {
    /// Returns what this error of a socket says of the service.
    ///
    /// WASI has one error for whatever ends a stream, a reset among it, so only what is known to be ours is told apart.
    pub fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::Silent,
            ErrorKind::PermissionDenied
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
            | ErrorKind::OutOfMemory
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown => Self::Failed(error.to_string()),
            _ => Self::Closed,
        }
    }

    /// Returns what an interruption means after a wait of so long for the service on this port.
    ///
    /// # Errors
    /// [`Fault::Internal`], when it says nothing of the service.
    pub fn judge(self, port: u16, waited: Duration, budget: &Budget) -> Result<Outcome, Fault> {
        let (reason, message) = match self {
            Self::Closed => {
                ("broken", format!("port {port} accepts connections and hangs up before an answer is complete"))
            }
            Self::Silent if is_wedged(waited, budget) => {
                let waited = waited.as_millis();
                ("wedged", format!("port {port} accepts connections and gave no whole answer for {waited} ms"))
            }
            Self::Silent => ("timeout", format!("port {port} accepted a connection too late to answer in time")),
            Self::Failed(why) => return Err(Fault::Internal(format!("exchange with port {port}: {why}"))),
        };
        Ok(Outcome::new(State::Down, reason, message))
    }
}

/// Returns whether a service that was silent for so long is wedged, and not just slow.
pub fn is_wedged(waited: Duration, budget: &Budget) -> bool {
    waited >= WEDGED_AFTER.min(budget.whole() / 2)
}

/// Returns what it means that there is no connection.
///
/// # Errors
/// [`Fault::Internal`], when it says nothing of the target.
pub fn not_connected(address: IpAddr, port: u16, error: ConnectError) -> Result<Outcome, Fault> {
    let (state, reason, message) = match error {
        ConnectError::Closed => (State::Down, "closed", format!("port {port} refuses connections")),
        ConnectError::Timeout => (State::Down, "timeout", format!("port {port} stays silent")),
        ConnectError::Unreachable => (State::Down, "unreachable", format!("{address} is not reachable")),
        ConnectError::NoRoute => (State::Unknown, "no_route", format!("no route to {address} from here")),
        ConnectError::NotGranted => return Err(Fault::Internal(format!("port {port} is not granted to this run"))),
        ConnectError::Other(error) => return Err(Fault::Internal(format!("connect to port {port}: {error}"))),
    };
    Ok(Outcome::new(state, reason, message))
}

/// A conversation over one TCP connection.
#[derive(Debug)]
pub struct Conversation<'a> {
    stream: TcpStream,
    budget: &'a Budget,
    begun: Instant,
}

impl<'a> Conversation<'a> {
    /// Connects, and returns how long that took.
    ///
    /// # Errors
    /// [`ConnectError`], by what the failure says of the target.
    pub fn begin(address: IpAddr, port: u16, budget: &'a Budget) -> Result<(Self, Duration), ConnectError> {
        let (stream, took) = connect(address, port, budget)?;
        Ok((Self { stream, budget, begun: Instant::now() }, took))
    }

    /// Returns how long ago the connection was there.
    pub fn lasted(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Sends bytes: few, as a service that reads nothing would be waited for without an end.
    ///
    /// # Errors
    /// [`Interruption`], by what the failure says of the service.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Interruption> {
        self.stream.write_all(bytes).map_err(|e| Interruption::from_io(&e))
    }

    /// Returns what comes next: at least one byte, at most as many as the buffer has room for.
    ///
    /// # Errors
    /// [`Interruption`], by what the failure says of the service.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Interruption> {
        loop {
            let left = self.budget.left().ok_or(Interruption::Silent)?;
            self.stream.set_read_timeout(Some(left)).map_err(|e| Interruption::from_io(&e))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(Interruption::Closed),
                Ok(read) => return Ok(read),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Interruption::from_io(&e)),
            }
        }
    }

    /// Returns so many bytes.
    ///
    /// # Errors
    /// [`Interruption`], by what the failure says of the service.
    pub fn read_exact(&mut self, count: usize) -> Result<Vec<u8>, Interruption> {
        let mut bytes = vec![0; count];
        let mut done = 0;
        while done < count {
            done += self.read(&mut bytes[done..])?;
        }
        Ok(bytes)
    }

    /// Closes the connection in both directions.
    pub fn close(self) {
        // The service may be gone already; then there is nothing left to close.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn server(serve: fn(TcpStream)) -> u16 {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || serve(listener.accept().unwrap().0));
        port
    }

    #[test]
    fn bytes_that_come_in_pieces_are_put_together() {
        let port = server(|mut stream| {
            let mut asked = [0; 2];
            stream.read_exact(&mut asked).unwrap();
            for byte in asked.iter().chain(b"!") {
                stream.write_all(&[*byte]).unwrap();
            }
        });
        let budget = Budget::starting_now(5000);
        let (mut conversation, _) = Conversation::begin(LOCALHOST, port, &budget).unwrap();
        conversation.send(b"hi").unwrap();
        assert_eq!(conversation.read_exact(3).unwrap(), b"hi!");
        assert_eq!(conversation.read_exact(1), Err(Interruption::Closed));
        conversation.close();
    }

    #[test]
    fn a_silent_service_is_wedged_once_it_had_its_time() {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let budget = Budget::starting_now(400);
        let (mut conversation, _) =
            Conversation::begin(LOCALHOST, listener.local_addr().unwrap().port(), &budget).unwrap();
        let interrupted = conversation.read_exact(1).unwrap_err();
        assert_eq!(interrupted, Interruption::Silent);
        let judged = |waited| Interruption::Silent.judge(22, waited, &budget).unwrap().reason;
        assert_eq!(judged(conversation.lasted()), "wedged");
        assert_eq!(judged(Duration::from_millis(10)), "timeout");
    }

    #[test]
    fn what_says_nothing_of_the_service_is_a_fault() {
        let of = |kind: ErrorKind| Interruption::from_io(&kind.into());
        assert_eq!(
            (of(ErrorKind::ConnectionReset), of(ErrorKind::TimedOut)),
            (Interruption::Closed, Interruption::Silent)
        );
        let budget = Budget::starting_now(1000);
        let judged = of(ErrorKind::PermissionDenied).judge(22, Duration::ZERO, &budget);
        assert!(matches!(judged, Err(Fault::Internal(_))), "{judged:?}");
        assert_eq!(of(ErrorKind::BrokenPipe).judge(22, Duration::ZERO, &budget).unwrap().reason, "broken");
        assert!(matches!(not_connected(LOCALHOST, 22, ConnectError::NotGranted), Err(Fault::Internal(_))));
        let no_route = not_connected(LOCALHOST, 22, ConnectError::NoRoute).unwrap();
        assert_eq!((no_route.state, no_route.reason), (State::Unknown, "no_route"));
    }
}
