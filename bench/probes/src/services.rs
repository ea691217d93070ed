//! What answers: a process with a port that accepts, one that greets as SSH does, and a remote desktop.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vouch_probe_kit::fakes::FakeRdp;

use crate::measured::tell;

/// Connections that may wait to be accepted: more than any subject has under way.
const BACKLOG: i32 = 4_096;
/// The most connections that fill a queue, and how long the one that finds no room is waited for.
const FILLERS_MAX: usize = 8;
const FILLED: Duration = Duration::from_millis(200);
/// What the SSH service says.
const GREETING: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";

/// The ports of the services, the same at every target.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) tcp: u16,
    pub(crate) ssh: u16,
    pub(crate) rdp: u16,
    /// A port that gives no answer at all, as behind a firewall that drops.
    pub(crate) silent: u16,
}

impl FromStr for Ports {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

/// The process that serves; ends with this.
#[derive(Debug)]
pub(crate) struct Services {
    child: Child,
    pub(crate) ports: Ports,
}

impl Services {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let read = child.stdout.take().map(BufReader::new).map(|mut told| told.read_line(&mut line));
        let told = read.context("the services have no output")?.context("the services say nothing");
        let ports = told.and_then(|_| serde_json::from_str(&line).context("the services tell no ports"));
        match ports {
            Ok(ports) => Ok(Self { child, ports }),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a child process and waits for it.
pub(crate) fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Serves until the process is killed.
pub(crate) fn serve() -> Result<()> {
    let (tcp, ssh) = (listen(BACKLOG)?, listen(BACKLOG)?);
    let (silent, _held) = fall_silent()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let rdp = FakeRdp::Ok.start_at((Ipv4Addr::UNSPECIFIED, 0).into()).await?;
        let rdp_port = rdp.port().context("the desktop has no port")?;
        let (tcp_port, ssh_port) = (tcp.local_addr()?.port(), ssh.local_addr()?.port());
        let ports = Ports { tcp: tcp_port, ssh: ssh_port, rdp: rdp_port, silent };
        ssh.set_nonblocking(true)?;
        let ssh = tokio::net::TcpListener::from_std(ssh)?;
        tcp.set_nonblocking(true)?;
        std::thread::spawn(move || accept(&tcp));
        tell(&ports)?;
        loop {
            let Ok((mut stream, _)) = ssh.accept().await else { continue };
            tokio::spawn(async move {
                // Who asks may hang up at any time.
                if stream.write_all(GREETING).await.is_ok() {
                    while stream.read(&mut [0; 256]).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
    })
}

/// Accepts and hangs up, and never sleeps: a real target is another machine, and to wake a thread here would be charged to
/// whoever connects, the more the slower it is. It gives its core to whoever else wants it.
fn accept(listener: &TcpListener) {
    loop {
        if listener.accept().is_err() {
            std::thread::yield_now();
        }
    }
}

/// Makes a port whose queue is full for good: the kernel drops whatever asks for more. It is so for as long as what comes
/// with it is held.
fn fall_silent() -> Result<(u16, (TcpListener, Vec<TcpStream>))> {
    let listener = listen(0)?;
    let port = listener.local_addr()?.port();
    let mut held = Vec::new();
    for _ in 0..FILLERS_MAX {
        match TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), FILLED) {
            Ok(filler) => held.push(filler),
            Err(_) => return Ok((port, (listener, held))),
        }
    }
    bail!("a port with the shortest queue took {FILLERS_MAX} connections")
}

fn listen(backlog: i32) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}
