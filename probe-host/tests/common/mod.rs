//! What the tests of the probe host share: one host per process, compiled probes, targets, small servers.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use vouch_probe_host::{Capabilities, HostLimits, PortGrant, Probe, ProbeHost, RunFault, RunOutcome, Target};
use vouch_types::{Network, VmId};

pub const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const DEADLINE: Duration = Duration::from_secs(5);
pub const VM: &str = "7b2a1c3e-0000-4000-8000-000000000001";

static HOST: LazyLock<ProbeHost> = LazyLock::new(|| ProbeHost::new(HostLimits::default()).expect("an engine"));
static PROBES: LazyLock<Mutex<HashMap<&'static str, Probe>>> = LazyLock::new(Mutex::default);

pub fn host() -> &'static ProbeHost {
    &HOST
}

/// Returns a compiled probe of the bundle, `hostile`, or `v0-1` of the first contract; each is compiled once.
pub fn probe(name: &'static str) -> Probe {
    let mut probes = PROBES.lock().unwrap();
    let compile = || {
        let bytes = match name {
            "hostile" => vouch_probe_bundle::hostile().bytes,
            "v0-1" => vouch_probe_bundle::of_the_first_contract().bytes,
            name => vouch_probe_bundle::by_name(name).unwrap().bytes,
        };
        host().compile(bytes).unwrap()
    };
    probes.entry(name).or_insert_with(compile).clone()
}

pub fn target() -> Target {
    target_at(LOCALHOST)
}

pub fn target_at(address: IpAddr) -> Target {
    let vm: VmId = VM.parse().unwrap();
    Target { vm, addresses: vec![address], network: Network::Service, labels: Vec::new() }
}

pub fn port(port: u16) -> String {
    format!(r#"{{"port": {port}}}"#)
}

/// Gives the hostile guest an order.
pub async fn order(order: &str, capabilities: &Capabilities) -> Result<RunOutcome, RunFault> {
    probe("hostile").run(&target(), &format!("\"{order}\""), DEADLINE, capabilities).await
}

/// Serves every connection with `serve`; returns the port.
pub async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

/// Answers an X.224 connection request with this negotiation structure.
pub async fn confirm(mut stream: TcpStream, negotiation: [u8; 8]) {
    let mut request = [0; 19];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request[..6], [3, 0, 0, 19, 14, 0xe0], "a TPKT header and a connection request");
    let answer = [&b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x12\x34\x00"[..], &negotiation].concat();
    stream.write_all(&answer).await.unwrap();
    // The probe hangs up when it has read the answer.
    let _ = stream.read(&mut [0; 1]).await;
}

/// A port whose listener takes no more connections: the kernel drops further requests, as a filter would.
pub struct SilentPort {
    _listener: socket2::Socket,
    _queued: Vec<std::net::TcpStream>,
    pub port: u16,
}

/// Returns a port that answers nobody, for as long as it is held.
pub fn silent_port() -> SilentPort {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::new(LOCALHOST, 0).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    SilentPort { _listener: listener, _queued: queued, port: address.port() }
}

/// Returns what a run is lent that may reach this port of its target.
pub fn granted(port: u16) -> Capabilities {
    Capabilities { ports: PortGrant::Only([port].into()), ..Capabilities::default() }
}

/// Returns a port that refuses connections for as long as the socket is held: bound, but not listening.
pub fn refusing_port() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::new(LOCALHOST, 0).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}
