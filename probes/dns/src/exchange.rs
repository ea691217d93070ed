//! The exchange: ask over UDP, again if nothing comes, and over TCP if the answer was cut.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use probe_kit::{Budget, ConnectError, Conversation, Interruption};

use crate::message::{NotAnswer, Question, Reply, parse_reply, query};
use crate::settings::DnsSettings;

/// How often a question is sent over UDP at most, evenly over the time of the run: one lost packet is no silence.
pub const SENDS_MAX: u32 = 3;
/// The longest answer that is read over UDP, in bytes. Without extensions a server sends 512 at most (RFC 1035, section 4.2.1).
const UDP_MAX: usize = 4096;
/// How long the pauses between looks for an answer are, from the first to the longest. Sockets of WASI's C library know no
/// time limit for datagrams, so that a wait is made of looks.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// Over what a question was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, after an answer over UDP that was cut.
    Tcp,
}

/// What came of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// An answer, after so long, over this, when so many questions had been sent over UDP.
    Answered(Reply, Duration, Transport, u32),
    /// An answer that was cut, and none over TCP.
    OnlyCut(Reply, NoTcp),
    /// Something with the right id that is no answer.
    NotDns(NotAnswer),
    /// Nothing.
    NoAnswer(ConnectError),
}

/// Why there is no answer over TCP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoTcp {
    /// No connection, after so long.
    NotConnected(ConnectError, Duration),
    /// The conversation came to no end, after so long.
    Interrupted(Interruption, Duration),
    /// What came is no answer.
    NotDns(NotAnswer),
}

/// Asks a server.
pub fn ask(address: IpAddr, settings: &DnsSettings, budget: &Budget) -> Asked {
    let begun = Instant::now();
    // The keys of a hasher are random, and so is its hash of nothing.
    let id = RandomState::new().build_hasher().finish() as u16;
    let (reply, sent) = match over_udp(SocketAddr::new(address, settings.port), id, &settings.question, budget) {
        Ok((Ok(reply), sent)) => (reply, sent),
        Ok((Err(error), _)) => return Asked::NotDns(error),
        Err(error) => return Asked::NoAnswer(error),
    };
    if !reply.truncated {
        return Asked::Answered(reply, begun.elapsed(), Transport::Udp, sent);
    }
    match over_tcp(address, settings.port, id, &settings.question, budget) {
        Ok(whole) => Asked::Answered(whole, begun.elapsed(), Transport::Tcp, sent),
        Err(why) => Asked::OnlyCut(reply, why),
    }
}

type Heard = (Result<Reply, NotAnswer>, u32);

/// Asks until something with the right id comes.
fn over_udp(server: SocketAddr, id: u16, question: &Question, budget: &Budget) -> Result<Heard, ConnectError> {
    let question_bytes = query(id, question);
    let begun = Instant::now();
    let socket = connected(server).map_err(|e| ConnectError::from_io(&e).after(begun.elapsed()))?;
    let failed = |e: &io::Error| ConnectError::from_io(e).after(begun.elapsed());
    let between = budget.whole() / SENDS_MAX;
    let (mut sent, mut pause, mut buffer) = (0, PAUSE_MIN, [0; UDP_MAX]);
    loop {
        let left = budget.left().ok_or(ConnectError::Timeout)?;
        if sent < SENDS_MAX && begun.elapsed() >= between * sent {
            match socket.send(&question_bytes).map_err(|e| failed(&e)) {
                Ok(_) => (sent, pause) = (sent + 1, PAUSE_MIN),
                // No room for it on this side: it is sent after the next look.
                Err(ConnectError::Timeout) => {}
                Err(error) => return Err(error),
            }
        }
        match socket.recv(&mut buffer) {
            Ok(length) => match parse_reply(&buffer[..length], id, question) {
                Err(NotAnswer::Stray) => {}
                answer => return Ok((answer, sent)),
            },
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => match failed(&e) {
                ConnectError::Timeout => {
                    thread::sleep(pause.min(left));
                    pause = PAUSE_MAX.min(pause * 2);
                }
                error => return Err(error),
            },
        }
    }
}

fn connected(server: SocketAddr) -> io::Result<UdpSocket> {
    let anywhere = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((anywhere, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Asks over TCP, where each message comes after its length (RFC 1035, section 4.2.2).
fn over_tcp(address: IpAddr, port: u16, id: u16, question: &Question, budget: &Budget) -> Result<Reply, NoTcp> {
    let begun = Instant::now();
    let (mut conversation, _) =
        Conversation::begin(address, port, budget).map_err(|error| NoTcp::NotConnected(error, begun.elapsed()))?;
    let message = query(id, question);
    // Names have at most 255 bytes.
    let length = message.len() as u16;
    let answer = conversation.send(&[&length.to_be_bytes()[..], &message].concat()).and_then(|()| {
        let length = conversation.read_exact(2)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        conversation.read_exact(length)
    });
    let lasted = conversation.lasted();
    conversation.close();
    let bytes = answer.map_err(|interruption| NoTcp::Interrupted(interruption, lasted))?;
    parse_reply(&bytes, id, question).map_err(NoTcp::NotDns)
}

#[cfg(test)]
mod tests;
