//! Fakes: tiny targets on 127.0.0.1 that behave as one kind of service does, well or badly.
//!
//! ```text
//! tcp:accept|refuse|hang   http:200|500|hang|slow   rdp:ok|refuse|hang|tls-hang|nla[=NAME]|nla-hang
//! qga:ok|hang|stale|disabled   ssh:ok|hang|busy|old   vnc:ok|refuse|hang   spice:ok|secured|hang
//! dns:ok|servfail|silent|truncated
//! ```
//!
//! They are named `Fake*` because they stand for what they are not: no fake ever serves anything outside a trial. Each
//! ends with its [`RunningFake`].

mod agent;
mod dns;
mod http;
mod rdp;
mod spice;
mod ssh;
mod tcp;
mod vnc;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use vouch_probe_host::GuestAgent;

pub use agent::{FakeAgent, FakeGuestAgent};
pub use dns::FakeDns;
pub use http::FakeHttp;
pub use rdp::{COMPUTER_NAME_MAX, ComputerName, FakeRdp, NotComputerName};
pub use spice::FakeSpice;
pub use ssh::FakeSsh;
pub use tcp::FakeTcp;
pub use vnc::FakeVnc;

/// One fake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fake {
    /// A port.
    Tcp(FakeTcp),
    /// A web server.
    Http(FakeHttp),
    /// A remote desktop.
    Rdp(FakeRdp),
    /// A guest agent.
    Agent(FakeAgent),
    /// An SSH service.
    Ssh(FakeSsh),
    /// A VNC service.
    Vnc(FakeVnc),
    /// A SPICE server.
    Spice(FakeSpice),
    /// A name server.
    Dns(FakeDns),
}

/// A text that names no fake.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum UnknownFake {
    /// No fake has this name.
    #[error("fake {given:?}: must be one of {}", list())]
    Name {
        /// The text.
        given: String,
    },
    /// It is a desktop, and what it is to be called is no name.
    #[error("fake rdp:nla=NAME: {0}")]
    ComputerName(NotComputerName),
}

impl Fake {
    /// All fakes, in the order in which they are told.
    pub const ALL: [Self; 31] = [
        Self::Tcp(FakeTcp::Accept),
        Self::Tcp(FakeTcp::Refuse),
        Self::Tcp(FakeTcp::Hang),
        Self::Http(FakeHttp::Ok),
        Self::Http(FakeHttp::ServerError),
        Self::Http(FakeHttp::Hang),
        Self::Http(FakeHttp::Slow),
        Self::Rdp(FakeRdp::Ok),
        Self::Rdp(FakeRdp::Refuse),
        Self::Rdp(FakeRdp::Hang),
        Self::Rdp(FakeRdp::TlsHang),
        Self::Rdp(FakeRdp::Nla(ComputerName::FAKE_DESKTOP)),
        Self::Rdp(FakeRdp::NlaHang),
        Self::Agent(FakeAgent::Ok),
        Self::Agent(FakeAgent::Hang),
        Self::Agent(FakeAgent::Stale),
        Self::Agent(FakeAgent::Disabled),
        Self::Ssh(FakeSsh::Ok),
        Self::Ssh(FakeSsh::Hang),
        Self::Ssh(FakeSsh::Busy),
        Self::Ssh(FakeSsh::Old),
        Self::Vnc(FakeVnc::Ok),
        Self::Vnc(FakeVnc::Refuse),
        Self::Vnc(FakeVnc::Hang),
        Self::Spice(FakeSpice::Ok),
        Self::Spice(FakeSpice::Secured),
        Self::Spice(FakeSpice::Hang),
        Self::Dns(FakeDns::Ok),
        Self::Dns(FakeDns::ServFail),
        Self::Dns(FakeDns::Silent),
        Self::Dns(FakeDns::Truncated),
    ];

    /// Returns its name, without what it was given.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp(fake) => match fake {
                FakeTcp::Accept => "tcp:accept",
                FakeTcp::Refuse => "tcp:refuse",
                FakeTcp::Hang => "tcp:hang",
            },
            Self::Http(fake) => match fake {
                FakeHttp::Ok => "http:200",
                FakeHttp::ServerError => "http:500",
                FakeHttp::Hang => "http:hang",
                FakeHttp::Slow => "http:slow",
            },
            Self::Rdp(fake) => match fake {
                FakeRdp::Ok => "rdp:ok",
                FakeRdp::Refuse => "rdp:refuse",
                FakeRdp::Hang => "rdp:hang",
                FakeRdp::TlsHang => "rdp:tls-hang",
                FakeRdp::Nla(_) => "rdp:nla",
                FakeRdp::NlaHang => "rdp:nla-hang",
            },
            Self::Agent(fake) => match fake {
                FakeAgent::Ok => "qga:ok",
                FakeAgent::Hang => "qga:hang",
                FakeAgent::Stale => "qga:stale",
                FakeAgent::Disabled => "qga:disabled",
            },
            Self::Ssh(fake) => match fake {
                FakeSsh::Ok => "ssh:ok",
                FakeSsh::Hang => "ssh:hang",
                FakeSsh::Busy => "ssh:busy",
                FakeSsh::Old => "ssh:old",
            },
            Self::Vnc(fake) => match fake {
                FakeVnc::Ok => "vnc:ok",
                FakeVnc::Refuse => "vnc:refuse",
                FakeVnc::Hang => "vnc:hang",
            },
            Self::Spice(fake) => match fake {
                FakeSpice::Ok => "spice:ok",
                FakeSpice::Secured => "spice:secured",
                FakeSpice::Hang => "spice:hang",
            },
            Self::Dns(fake) => match fake {
                FakeDns::Ok => "dns:ok",
                FakeDns::ServFail => "dns:servfail",
                FakeDns::Silent => "dns:silent",
                FakeDns::Truncated => "dns:truncated",
            },
        }
    }

    /// Starts it; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen, or make its certificate.
    pub async fn start(self) -> io::Result<RunningFake> {
        match self {
            Self::Tcp(fake) => fake.start().await,
            Self::Http(fake) => fake.start().await,
            Self::Rdp(fake) => fake.start().await,
            Self::Ssh(fake) => fake.start().await,
            Self::Vnc(fake) => fake.start().await,
            Self::Spice(fake) => fake.start().await,
            Self::Dns(fake) => fake.start().await,
            Self::Agent(fake) => Ok(RunningFake::answering(Arc::new(FakeGuestAgent::new(fake)))),
        }
    }
}

fn list() -> String {
    Fake::ALL.map(Fake::as_str).join(", ")
}

impl fmt::Display for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rdp(FakeRdp::Nla(name)) if *name != ComputerName::FAKE_DESKTOP => {
                f.pad(&format!("{}={name}", self.as_str()))
            }
            Self::Tcp(_)
            | Self::Http(_)
            | Self::Rdp(_)
            | Self::Agent(_)
            | Self::Ssh(_)
            | Self::Vnc(_)
            | Self::Spice(_)
            | Self::Dns(_) => f.pad(self.as_str()),
        }
    }
}

impl FromStr for Fake {
    type Err = UnknownFake;
    fn from_str(given: &str) -> Result<Self, UnknownFake> {
        if let Some(name) = given.strip_prefix("rdp:nla=") {
            let name = name.parse().map_err(UnknownFake::ComputerName)?;
            return Ok(Self::Rdp(FakeRdp::Nla(name)));
        }
        let found = Self::ALL.into_iter().find(|fake| fake.as_str() == given);
        found.ok_or_else(|| UnknownFake::Name { given: given.chars().take(80).collect() })
    }
}

/// What a running fake is: something that listens, or something that is asked.
enum Door {
    /// A port, on 127.0.0.1 unless it was started elsewhere.
    Port(u16),
    /// An agent.
    Agent(Arc<dyn GuestAgent>),
}

/// A fake that runs until this is dropped.
pub struct RunningFake {
    door: Door,
    tasks: Vec<JoinHandle<()>>,
    /// Sockets that have to stay open for as long as the fake is there.
    _held: Vec<socket2::Socket>,
}

impl RunningFake {
    fn listening(port: u16, tasks: Vec<JoinHandle<()>>, held: Vec<socket2::Socket>) -> Self {
        Self { door: Door::Port(port), tasks, _held: held }
    }

    fn answering(agent: Arc<dyn GuestAgent>) -> Self {
        Self { door: Door::Agent(agent), tasks: Vec::new(), _held: Vec::new() }
    }

    /// Returns the port on 127.0.0.1, if it is a fake that listens.
    pub fn port(&self) -> Option<u16> {
        match &self.door {
            Door::Port(port) => Some(*port),
            Door::Agent(_) => None,
        }
    }

    /// Returns the agent, if it is a fake of one.
    pub fn guest_agent(&self) -> Option<Arc<dyn GuestAgent>> {
        match &self.door {
            Door::Port(_) => None,
            Door::Agent(agent) => Some(Arc::clone(agent)),
        }
    }
}

impl Drop for RunningFake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Serves every connection on a port of its own with `serve`, each in a task that ends with the fake.
async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<RunningFake>
where
    F: Future<Output = ()> + Send + 'static,
{
    serve_at((Ipv4Addr::LOCALHOST, 0).into(), serve).await
}

/// The same at an address.
async fn serve_at<F>(address: SocketAddr, serve: impl Fn(TcpStream) -> F + Send + 'static) -> io::Result<RunningFake>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await?;
    let port = listener.local_addr()?.port();
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            // A connection that is gone before it is taken is none; the next may be.
            if let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(RunningFake::listening(port, vec![task], Vec::new()))
}

/// Reads and forgets until the other side hangs up.
async fn until_closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    // A reset is a way to hang up too.
    let _ = tokio::io::copy(stream, &mut tokio::io::sink()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fake_is_found_by_its_name_and_no_other_is() {
        for fake in Fake::ALL {
            assert_eq!(fake.as_str().parse(), Ok(fake));
        }
        let named: Fake = "rdp:nla=DESK-1".parse().unwrap();
        assert_eq!((named.as_str(), named.to_string().as_str()), ("rdp:nla", "rdp:nla=DESK-1"));
        assert_eq!("rdp:nla=FAKE-DESKTOP".parse::<Fake>().unwrap().to_string(), "rdp:nla");
        let refused = "rdp:nla=DESK_1".parse::<Fake>().unwrap_err().to_string();
        assert!(refused.starts_with("fake rdp:nla=NAME: computer name \"DESK_1\": must be 1 to 15"), "{refused}");
        let refused = "rdp:maybe".parse::<Fake>().unwrap_err().to_string();
        assert!(refused.starts_with("fake \"rdp:maybe\": must be one of tcp:accept, "), "{refused}");
    }
}
