//! A name server that has one address for every name (RFC 1035, section 4), over UDP and TCP on one port.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::RunningFake;

/// Length of a message's header.
const HEADER_LEN: usize = 12;
/// The longest question that is read, in bytes.
const QUESTION_MAX: usize = 512;
/// How often a port is looked for that is free for both.
const PORT_TRIES_MAX: usize = 16;
/// Flags: a response of who owns the zone, and an answer that was cut.
const RESPONSE: u8 = 0x84;
const TRUNCATED: u8 = 0x02;
/// Response codes.
const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
/// An `A` record for the name of the question: a pointer to it, type, class, a minute, and 192.0.2.1.
const RECORD: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeDns {
    /// It answers with one address.
    Ok,
    /// It answers that it has failed.
    ServFail,
    /// It reads questions and says nothing.
    Silent,
    /// It answers over UDP that the answer is cut, and over TCP with the whole of it.
    Truncated,
}

/// Over what a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    Udp,
    Tcp,
}

impl FakeDns {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        let (udp, tcp) = bind().await?;
        let port = udp.local_addr()?.port();
        let udp = Arc::new(udp);
        let datagrams = tokio::spawn(async move {
            let mut question = [0; QUESTION_MAX];
            loop {
                // Who asked may be gone, which shows as an error of the next read; another may ask still.
                if let Ok((length, who)) = udp.recv_from(&mut question).await
                    && let Some(answer) = self.answer(&question[..length], Over::Udp)
                {
                    let _ = udp.send_to(&answer, who).await;
                }
            }
        });
        let streams = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((stream, _)) = tcp.accept().await {
                    connections.spawn(async move { drop(self.converse(stream).await) });
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(RunningFake::listening(port, vec![datagrams, streams], Vec::new()))
    }

    async fn converse(self, mut stream: TcpStream) -> io::Result<()> {
        let length = usize::from(stream.read_u16().await?);
        if length > QUESTION_MAX {
            return Err(io::Error::other(format!(
                "a question has {length} bytes, and at most {QUESTION_MAX} are read"
            )));
        }
        let mut question = vec![0; length];
        stream.read_exact(&mut question).await?;
        if let Some(answer) = self.answer(&question, Over::Tcp) {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await?;
        }
        super::until_closed(&mut stream).await;
        Ok(())
    }

    /// Returns the answer to a question without extensions, if there is to be one.
    fn answer(self, question: &[u8], over: Over) -> Option<Vec<u8>> {
        if question.len() < HEADER_LEN {
            return None;
        }
        let (flags, code, records): (u8, u8, &[&[u8]]) = match (self, over) {
            (Self::Silent, _) => return None,
            (Self::ServFail, _) => (RESPONSE, SERVFAIL, &[]),
            (Self::Truncated, Over::Udp) => (RESPONSE | TRUNCATED, NOERROR, &[]),
            (Self::Ok, _) | (Self::Truncated, Over::Tcp) => (RESPONSE, NOERROR, &[RECORD]),
        };
        let mut answer = question.to_vec();
        answer[2] |= flags;
        answer[3] = code;
        answer[7] = records.len() as u8;
        answer.extend(records.concat());
        Some(answer)
    }
}

/// Returns sockets of both kinds on one port.
async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..PORT_TRIES_MAX {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("no port is free for both")))
}
