//! The exchange: connect, ask, read the answer, and say what it means.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use probe_kit::{Budget, ConnectError, connect};

use crate::x224::{Confirm, FailureCode, OFFERED, ParseError, Protocol, TPKT_LEN, parse_confirm, request, tpkt_length};

/// A service that stayed silent for less than this is slow, not wedged.
const WEDGED_AFTER: Duration = Duration::from_secs(1);

/// A negotiation that came to an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// What the server said.
    pub confirm: Confirm,
    /// How long the connect took.
    pub connect: Duration,
    /// How long the answer took.
    pub answer: Duration,
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The service answered.
    Answered(Negotiated),
    /// No connection.
    NotConnected(ConnectError),
    /// The connection was accepted and closed without an answer.
    Broken,
    /// The connection was accepted, and nothing came for the time given.
    Wedged(Duration),
    /// The connection was accepted, and too little time was left to tell a slow service from a wedged one.
    TooLate,
    /// Something answered that is not RDP.
    NotRdp(ParseError),
}

/// Asks the service once; once more with another offer, if it refuses the first for its offer alone.
pub fn negotiate(address: IpAddr, port: u16, budget: &Budget) -> Finding {
    let first = ask(address, port, OFFERED, budget);
    let Finding::Answered(Negotiated { confirm: Confirm::Refused(code), .. }) = first else { return first };
    let Some(offer) = code.offer_instead() else { return first };
    match ask(address, port, offer, budget) {
        // A refusal is an answer: the second attempt can only make it better.
        second @ Finding::Answered(_) => second,
        _ => first,
    }
}

/// Returns whether a service that refuses with this code works as it should.
pub fn is_healthy_refusal(code: FailureCode) -> bool {
    code.offer_instead().is_some()
}

/// Returns the protocol that was chosen, if one was.
pub fn selected(confirm: Confirm) -> Option<Protocol> {
    match confirm {
        Confirm::Selected(protocol) => Some(protocol),
        Confirm::Refused(_) => None,
    }
}

fn ask(address: IpAddr, port: u16, offer: u32, budget: &Budget) -> Finding {
    let (mut stream, connected) = match connect(address, port, budget) {
        Ok(connected) => connected,
        Err(error) => return Finding::NotConnected(error),
    };
    let begun = Instant::now();
    let finding = match exchange(&mut stream, offer, budget) {
        Ok(confirm) => Finding::Answered(Negotiated { confirm, connect: connected, answer: begun.elapsed() }),
        Err(Failure::Closed) => Finding::Broken,
        Err(Failure::NotRdp(error)) => Finding::NotRdp(error),
        Err(Failure::Silent) => match begun.elapsed() {
            waited if waited >= WEDGED_AFTER.min(budget.whole() / 2) => Finding::Wedged(waited),
            _ => Finding::TooLate,
        },
    };
    // The server may be gone already; then there is nothing left to close.
    let _ = stream.shutdown(Shutdown::Both);
    finding
}

enum Failure {
    Closed,
    Silent,
    NotRdp(ParseError),
}

fn exchange(stream: &mut TcpStream, offer: u32, budget: &Budget) -> Result<Confirm, Failure> {
    stream.write_all(&request(offer)).map_err(|_| Failure::Closed)?;
    let mut header = [0; TPKT_LEN];
    read_exact(stream, &mut header, budget)?;
    let mut packet = header.to_vec();
    packet.resize(tpkt_length(&header).map_err(Failure::NotRdp)?, 0);
    read_exact(stream, &mut packet[TPKT_LEN..], budget)?;
    parse_confirm(&packet).map_err(Failure::NotRdp)
}

/// Reads to the end of the buffer, each wait within what is left of the budget: a trickle of bytes can't stretch it.
fn read_exact(stream: &mut TcpStream, mut buffer: &mut [u8], budget: &Budget) -> Result<(), Failure> {
    while !buffer.is_empty() {
        let left = budget.left().ok_or(Failure::Silent)?;
        stream.set_read_timeout(Some(left)).map_err(|_| Failure::Closed)?;
        match stream.read(buffer) {
            Ok(0) => return Err(Failure::Closed),
            Ok(read) => buffer = &mut buffer[read..],
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Err(Failure::Silent),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(Failure::Closed),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Serves one connection after the other, each with the next of these answers.
    fn server(answers: Vec<fn(TcpStream)>) -> u16 {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || answers.into_iter().for_each(|answer| answer(listener.accept().unwrap().0)));
        port
    }

    fn answer(mut stream: TcpStream, negotiation: [u8; 8]) {
        stream.read_exact(&mut [0; 19]).unwrap();
        stream.write_all(&[&b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00"[..], &negotiation].concat()).unwrap();
    }

    fn confirm(finding: Finding) -> Confirm {
        match finding {
            Finding::Answered(negotiated) => negotiated.confirm,
            other => panic!("no answer: {other:?}"),
        }
    }

    #[test]
    fn a_refused_offer_is_followed_by_the_one_that_the_server_wants() {
        let port = server(vec![|s| answer(s, [3, 0, 8, 0, 5, 0, 0, 0]), |s| answer(s, [2, 0, 8, 0, 2, 0, 0, 0])]);
        let found = negotiate(LOCALHOST, port, &Budget::starting_now(5000));
        assert_eq!(confirm(found), Confirm::Selected(Protocol::CredSsp));
    }

    #[test]
    fn a_refusal_stands_when_asking_again_leads_to_nothing() {
        let port = server(vec![|s| answer(s, [3, 0, 8, 0, 5, 0, 0, 0]), |_| {}]);
        let found = negotiate(LOCALHOST, port, &Budget::starting_now(5000));
        assert_eq!(confirm(found), Confirm::Refused(FailureCode::CredSspRequired));
    }

    #[test]
    fn a_trickle_of_bytes_does_not_stretch_the_deadline() {
        let port = server(vec![|mut stream| {
            // Ends when the probe hangs up.
            while stream.write_all(&[3]).is_ok() {
                stream.flush().unwrap();
                thread::park_timeout(Duration::from_millis(400));
                if stream.write_all(&[0]).is_err() {
                    break;
                }
            }
        }]);
        let begun = Instant::now();
        let found = negotiate(LOCALHOST, port, &Budget::starting_now(600));
        assert!(!matches!(found, Finding::Answered(_)), "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_full_deadline_of_silence_is_wedged() {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let found = negotiate(LOCALHOST, listener.local_addr().unwrap().port(), &Budget::starting_now(400));
        assert!(matches!(found, Finding::Wedged(_)), "{found:?}");
    }

    #[test]
    fn a_connection_closed_at_once_is_broken() {
        let port = server(vec![drop]);
        assert_eq!(negotiate(LOCALHOST, port, &Budget::starting_now(2000)), Finding::Broken);
    }
}
