//! The exchange: connect, ask, read the answer, and say what it means.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use probe_kit::{Budget, ConnectError, Conversation, Interruption, is_wedged};

use crate::x224::{Confirm, FailureCode, OFFERED, ParseError, Protocol, TPKT_LEN, parse_confirm, request, tpkt_length};

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
    /// The exchange failed for a reason that says nothing of the service.
    Failed(String),
}

/// The connection that an exchange goes over.
pub trait Line: Sized {
    /// Sends bytes, then reads so many, each wait within what is left of the budget.
    ///
    /// # Errors
    /// [`Interruption`], by what the failure says of the service.
    fn ask(&mut self, send: &[u8], count: usize, budget: &Budget) -> Result<Vec<u8>, Interruption>;

    /// Closes it.
    fn close(self);
}

/// Asks the service once; once more with another offer, if it refuses the first for its offer alone. Returns the line over
/// which a protocol was chosen, if one was.
pub fn negotiate<L: Line>(
    mut connect: impl FnMut() -> Result<(L, Duration), ConnectError>,
    budget: &Budget,
) -> (Finding, Option<L>) {
    let first = ask(&mut connect, OFFERED, budget);
    let (Finding::Answered(Negotiated { confirm: Confirm::Refused(code), .. }), _) = &first else { return first };
    let Some(offer) = code.offer_instead() else { return first };
    match ask(&mut connect, offer, budget) {
        // A refusal is an answer: the second attempt can only make it better.
        second @ (Finding::Answered(_), _) => second,
        _ => first,
    }
}

/// Connects for [`negotiate`] without the host's help.
pub fn plainly(address: IpAddr, port: u16, budget: &Budget) -> Result<(Conversation<'_>, Duration), ConnectError> {
    Conversation::begin(address, port, budget)
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

fn ask<L: Line>(
    connect: &mut impl FnMut() -> Result<(L, Duration), ConnectError>,
    offer: u32,
    budget: &Budget,
) -> (Finding, Option<L>) {
    let (mut line, connected) = match connect() {
        Ok(connected) => connected,
        Err(error) => return (Finding::NotConnected(error), None),
    };
    let begun = Instant::now();
    let finding = match exchange(&mut line, offer, budget) {
        Ok(confirm) => Finding::Answered(Negotiated { confirm, connect: connected, answer: begun.elapsed() }),
        Err(Failure::Line(Interruption::Closed)) => Finding::Broken,
        Err(Failure::Line(Interruption::Failed(why))) => Finding::Failed(why),
        Err(Failure::NotRdp(error)) => Finding::NotRdp(error),
        Err(Failure::Line(Interruption::Silent)) => match begun.elapsed() {
            waited if is_wedged(waited, budget) => Finding::Wedged(waited),
            _ => Finding::TooLate,
        },
    };
    match finding {
        Finding::Answered(Negotiated { confirm: Confirm::Selected(_), .. }) => (finding, Some(line)),
        _ => {
            line.close();
            (finding, None)
        }
    }
}

enum Failure {
    Line(Interruption),
    NotRdp(ParseError),
}

impl From<Interruption> for Failure {
    fn from(error: Interruption) -> Self {
        Self::Line(error)
    }
}

fn exchange(line: &mut impl Line, offer: u32, budget: &Budget) -> Result<Confirm, Failure> {
    let mut packet = line.ask(&request(offer), TPKT_LEN, budget)?;
    let header = packet.first_chunk().ok_or(Failure::Line(Interruption::Closed))?;
    let length = tpkt_length(header).map_err(Failure::NotRdp)?;
    packet.extend(line.ask(&[], length - TPKT_LEN, budget)?);
    parse_confirm(&packet).map_err(Failure::NotRdp)
}

impl Line for Conversation<'_> {
    fn ask(&mut self, send: &[u8], count: usize, _: &Budget) -> Result<Vec<u8>, Interruption> {
        self.send(send)?;
        self.read_exact(count)
    }

    fn close(self) {
        Conversation::close(self);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
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

    fn negotiate(port: u16, budget: Budget) -> Finding {
        let (finding, line) = super::negotiate(|| plainly(LOCALHOST, port, &budget), &budget);
        let chosen = matches!(&finding, Finding::Answered(n) if selected(n.confirm).is_some());
        assert_eq!(line.is_some(), chosen, "a line is kept only if something can go on over it");
        finding
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
        let found = negotiate(port, Budget::starting_now(5000));
        assert_eq!(confirm(found), Confirm::Selected(Protocol::CredSsp));
    }

    #[test]
    fn a_refusal_stands_when_asking_again_leads_to_nothing() {
        let port = server(vec![|s| answer(s, [3, 0, 8, 0, 5, 0, 0, 0]), |_| {}]);
        let found = negotiate(port, Budget::starting_now(5000));
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
        let found = negotiate(port, Budget::starting_now(600));
        assert!(!matches!(found, Finding::Answered(_)), "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_full_deadline_of_silence_is_wedged() {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let found = negotiate(listener.local_addr().unwrap().port(), Budget::starting_now(400));
        assert!(matches!(found, Finding::Wedged(_)), "{found:?}");
    }

    #[test]
    fn a_connection_closed_at_once_is_broken() {
        let port = server(vec![drop]);
        assert_eq!(negotiate(port, Budget::starting_now(2000)), Finding::Broken);
    }

    #[test]
    fn a_failure_that_says_nothing_of_the_service_is_no_finding_about_it() {
        struct Failing;
        impl Line for Failing {
            fn ask(&mut self, _: &[u8], _: usize, _: &Budget) -> Result<Vec<u8>, Interruption> {
                Err(Interruption::Failed("more than 64 exchanges".to_owned()))
            }
            fn close(self) {}
        }
        let (found, _) = super::negotiate(|| Ok((Failing, Duration::ZERO)), &Budget::starting_now(1000));
        assert_eq!(found, Finding::Failed("more than 64 exchanges".to_owned()));
    }
}
