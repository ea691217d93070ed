//! A port, and the three things that one can do.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::{RunningFake, serve, until_closed};

/// The most connections that are tried to fill the queue of a port that hangs.
const QUEUE_TRIES_MAX: usize = 8;

/// What the port does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeTcp {
    /// It accepts, and says nothing.
    Accept,
    /// It refuses: nothing listens there.
    Refuse,
    /// It gives no answer, as behind a firewall that drops.
    Hang,
}

impl FakeTcp {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        match self {
            Self::Accept => serve(async |mut stream| until_closed(&mut stream).await).await,
            Self::Refuse => {
                // Bound, so that nobody else takes the port, and not listening.
                let (socket, port) = bound()?;
                Ok(RunningFake::listening(port, Vec::new(), vec![socket]))
            }
            Self::Hang => hang(),
        }
    }
}

fn bound() -> io::Result<(Socket, u16)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket();
    let port = address.ok_or_else(|| io::Error::other("a bound socket has no address"))?.port();
    Ok((socket, port))
}

/// Listens with the shortest queue, fills it, and accepts nothing: the kernel then drops what asks for more.
fn hang() -> io::Result<RunningFake> {
    let (listener, port) = bound()?;
    listener.listen(0)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
    let mut held = vec![listener];
    for _ in 0..QUEUE_TRIES_MAX {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let answered = filler.connect_timeout(&address, std::time::Duration::from_millis(50));
        held.push(filler);
        match answered {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {
                return Ok(RunningFake::listening(port, Vec::new(), held));
            }
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::other(format!("the kernel still answered after {QUEUE_TRIES_MAX} connections")))
}
