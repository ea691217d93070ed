//! A SPICE server up to where a ticket would be shown (spice-protocol, `spice/protocol.h`).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{RunningFake, serve, until_closed};

/// Length of a `SpiceLinkHeader`.
const HEADER_LEN: usize = 16;
/// The longest request that is read, in bytes.
const REQUEST_MAX: usize = 4096;
/// `SPICE_LINK_ERR_OK` and `SPICE_LINK_ERR_NEED_SECURED`.
const OK: u32 = 0;
const NEED_SECURED: u32 = 5;
/// Length of a `SpiceLinkReply` without capabilities: error, public key, two counts and where capabilities begin.
const REPLY_LEN: u32 = 4 + 162 + 12;
/// Selection of the way to log in, by a ticket; small headers.
const CAPABILITIES: u32 = 0b1011;

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeSpice {
    /// It accepts a link.
    Ok,
    /// It wants TLS.
    Secured,
    /// It accepts and says nothing.
    Hang,
}

impl FakeSpice {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        // Who asks may hang up at any time; that is no failure of the fake.
        serve(move |mut stream| async move { drop(self.converse(&mut stream).await) }).await
    }

    async fn converse(self, stream: &mut TcpStream) -> io::Result<()> {
        let error = match self {
            Self::Hang => {
                until_closed(stream).await;
                return Ok(());
            }
            Self::Ok => OK,
            Self::Secured => NEED_SECURED,
        };
        let mut header = [0; HEADER_LEN];
        stream.read_exact(&mut header).await?;
        let [_, _, _, size] = header.as_chunks::<4>().0 else { return Ok(()) };
        let size = u32::from_le_bytes(*size) as usize;
        if !header.starts_with(b"REDQ") || size > REQUEST_MAX {
            return Err(io::Error::other(format!("no request for a link: it begins with {header:?}")));
        }
        stream.read_exact(&mut vec![0; size]).await?;
        stream.write_all(&reply(error)).await?;
        until_closed(stream).await;
        Ok(())
    }
}

/// Returns a header of version 2.2 and a `SpiceLinkReply` with one word of common capabilities.
fn reply(error: u32) -> Vec<u8> {
    let mut bytes = b"REDQ".to_vec();
    for number in [2, 2, REPLY_LEN + 4, error] {
        bytes.extend(u32::to_le_bytes(number));
    }
    bytes.extend([0; 162]);
    for number in [1, 0, REPLY_LEN, CAPABILITIES] {
        bytes.extend(u32::to_le_bytes(number));
    }
    bytes
}
