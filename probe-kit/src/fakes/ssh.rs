//! An SSH service up to where keys would be exchanged (RFC 4253, section 4.2).

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{RunningFake, serve, until_closed};

/// What the service does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeSsh {
    /// It greets.
    Ok,
    /// It accepts and says nothing.
    Hang,
    /// It has as many connections as it takes, says so and hangs up, as OpenSSH does.
    Busy,
    /// It speaks version 1 alone.
    Old,
}

impl FakeSsh {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        // Who asks may hang up at any time; that is no failure of the fake.
        serve(move |mut stream| async move { drop(self.converse(&mut stream).await) }).await
    }

    async fn converse(self, stream: &mut TcpStream) -> io::Result<()> {
        match self {
            Self::Hang => {}
            Self::Ok => stream.write_all(b"SSH-2.0-fake_1.0 for trials\r\n").await?,
            Self::Old => stream.write_all(b"SSH-1.5-fake_1.0\r\n").await?,
            Self::Busy => {
                stream.write_all(b"Exceeded MaxStartups\r\n").await?;
                return stream.shutdown().await;
            }
        }
        until_closed(stream).await;
        Ok(())
    }
}
