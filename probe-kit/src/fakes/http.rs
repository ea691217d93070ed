//! A web server that gives every request the same answer (RFC 9112).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{RunningFake, serve, until_closed};

/// How long the slow one thinks: longer than a probe should wait for, shorter than most deadlines.
const SLOW: Duration = Duration::from_millis(1500);
/// The longest head of a request that is read, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeHttp {
    /// Answers 200.
    Ok,
    /// Answers 500.
    ServerError,
    /// Reads the request and stays silent.
    Hang,
    /// Answers 200 after 1.5 s.
    Slow,
}

impl FakeHttp {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        // Who asks may hang up at any time; that is no failure of the fake.
        serve(move |mut stream| async move { drop(self.converse(&mut stream).await) }).await
    }

    async fn converse(self, stream: &mut TcpStream) -> io::Result<()> {
        read_head(stream).await?;
        let status = match self {
            Self::Ok => "200 OK",
            Self::ServerError => "500 Internal Server Error",
            Self::Hang => {
                until_closed(stream).await;
                return Ok(());
            }
            Self::Slow => {
                tokio::time::sleep(SLOW).await;
                "200 OK"
            }
        };
        let body = format!("fake {status}\n");
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n");
        stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).await?;
        stream.shutdown().await
    }
}

/// Reads to the empty line that ends the head of a request.
async fn read_head(stream: &mut TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(io::Error::other(format!("a request's head has more than {HEAD_MAX} bytes")));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(())
}
