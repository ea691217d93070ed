//! A VNC service up to where a security type would be chosen (RFC 6143, sections 7.1.1 and 7.1.2).

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{RunningFake, serve, until_closed};

const VERSION: &[u8; 12] = b"RFB 003.008\n";
/// One security type: VNC authentication.
const TYPES: &[u8] = b"\x01\x02";
const REASON: &[u8] = b"No display";

/// What the service does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeVnc {
    /// It offers VNC authentication.
    Ok,
    /// It offers no security type, and says why.
    Refuse,
    /// It accepts and says nothing.
    Hang,
}

impl FakeVnc {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        // Who asks may hang up at any time; that is no failure of the fake.
        serve(move |mut stream| async move { drop(self.converse(&mut stream).await) }).await
    }

    async fn converse(self, stream: &mut TcpStream) -> io::Result<()> {
        if self != Self::Hang {
            stream.write_all(VERSION).await?;
            stream.read_exact(&mut [0; VERSION.len()]).await?;
        }
        match self {
            Self::Hang => {}
            Self::Ok => stream.write_all(TYPES).await?,
            Self::Refuse => {
                let length = (REASON.len() as u32).to_be_bytes();
                stream.write_all(&[&[0], &length[..], REASON].concat()).await?;
                return stream.shutdown().await;
            }
        }
        until_closed(stream).await;
        Ok(())
    }
}
