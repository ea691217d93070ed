//! Echo requests over the kernel's sockets: one socket per family, one task that receives for all series.
//!
//! A datagram socket (`net.ipv4.ping_group_range`) needs no privilege; where it is not allowed, a raw one is tried
//! (CAP_NET_RAW). A reply is known by the random nonce in its payload, never by its id: the kernel rewrites the id of
//! datagram sockets, and raw ones see everybody's replies. Over raw sockets every series has an id of its own, so that a
//! session that is stuck in some firewall is not used again.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::icmp_packet::{self, EchoMark, Family};
use crate::limits::ECHO_INTERVAL_MIN;
use crate::{EchoReply, EchoRequest, Icmp, IcmpError};

/// A packet longer than this is no reply of ours.
const PACKET_MAX: usize = 2048;
/// The pause after a receive error that is not one of the network's.
const RECEIVE_RETRY: Duration = Duration::from_millis(100);

/// How a socket sends echo requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpSocketKind {
    /// A datagram ICMP socket, without privilege.
    Datagram,
    /// A raw socket, with CAP_NET_RAW.
    Raw,
}

type Arrivals = HashMap<u64, mpsc::UnboundedSender<(u32, Instant)>>;

struct FamilySocket {
    family: Family,
    kind: IcmpSocketKind,
    /// An ICMP socket in the clothes of a UDP one: the calls to send and receive are the same.
    socket: UdpSocket,
    waiting: Mutex<Arrivals>,
}

/// Sends echo requests over the kernel's sockets.
pub struct IcmpSockets {
    v4: Result<Arc<FamilySocket>, String>,
    v6: Result<Arc<FamilySocket>, String>,
    tasks: Vec<JoinHandle<()>>,
}

impl IcmpSockets {
    /// Opens one socket per family and starts to receive; must be called inside a tokio runtime.
    ///
    /// A family without a socket is no error here: it is told at each request, and by [`IcmpSockets::kind_of`].
    pub fn open() -> Self {
        let mut tasks = Vec::new();
        let mut start = |family| {
            let socket = Arc::new(open(family)?);
            tasks.push(tokio::spawn(receive(Arc::clone(&socket))));
            Ok(socket)
        };
        Self { v4: start(Family::V4), v6: start(Family::V6), tasks }
    }

    /// Returns how requests to this address are sent, or why they can't be.
    ///
    /// # Errors
    /// [`IcmpError::NoSocket`] when neither kind of socket could be opened.
    pub fn kind_of(&self, address: IpAddr) -> Result<IcmpSocketKind, IcmpError> {
        self.socket_for(address).map(|socket| socket.kind)
    }

    fn socket_for(&self, address: IpAddr) -> Result<&Arc<FamilySocket>, IcmpError> {
        let socket = match Family::of(address) {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        socket.as_ref().map_err(|why| IcmpError::NoSocket(why.clone()))
    }
}

impl Drop for IcmpSockets {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[async_trait::async_trait]
impl Icmp for IcmpSockets {
    async fn echo(&self, request: EchoRequest) -> Result<Vec<EchoReply>, IcmpError> {
        let address = request.address.to_canonical();
        let socket = self.socket_for(address)?;
        let (series, mut arrivals) = Series::begin(socket);
        let id = rand::random();
        let mut sent: Vec<Instant> = Vec::new();
        for sequence in 0..request.count {
            if sequence > 0 {
                tokio::time::sleep(request.interval.max(ECHO_INTERVAL_MIN)).await;
            }
            let mark = EchoMark { nonce: series.nonce, sequence };
            sent.push(Instant::now());
            socket.send(address, &icmp_packet::request(socket.family, id, mark)).await?;
        }
        let ends = tokio::time::Instant::now() + request.timeout;
        let mut arrived: Vec<Option<Instant>> = vec![None; sent.len()];
        while arrived.contains(&None) {
            let Ok(Some((sequence, at))) = tokio::time::timeout_at(ends, arrivals.recv()).await else { break };
            let slot = usize::try_from(sequence).ok().and_then(|i| arrived.get_mut(i));
            if let Some(slot) = slot.filter(|slot| slot.is_none()) {
                *slot = Some(at);
            }
        }
        let replies = (0..).zip(sent.iter().zip(arrived)).filter_map(|(sequence, (sent, arrived))| {
            Some(EchoReply { sequence, round_trip: arrived?.saturating_duration_since(*sent) })
        });
        Ok(replies.collect())
    }
}

impl FamilySocket {
    fn waiting(&self) -> MutexGuard<'_, Arrivals> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, address: IpAddr, packet: &[u8]) -> Result<(), IcmpError> {
        match self.socket.send_to(packet, SocketAddr::new(address, 0)).await {
            Ok(_) => Ok(()),
            // A neighbour that does not answer, or a full queue: to the target's observer that is silence.
            Err(e) if matches!(e.kind(), ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused) => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable) => {
                Err(IcmpError::NoRoute(e.to_string()))
            }
            Err(e) => Err(IcmpError::Send(e.to_string())),
        }
    }
}

/// One series that waits for its replies; forgets itself when it ends.
struct Series {
    socket: Arc<FamilySocket>,
    nonce: u64,
}

impl Series {
    fn begin(socket: &Arc<FamilySocket>) -> (Self, mpsc::UnboundedReceiver<(u32, Instant)>) {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let nonce = rand::random();
        socket.waiting().insert(nonce, arrived);
        (Self { socket: Arc::clone(socket), nonce }, arrivals)
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        self.socket.waiting().remove(&self.nonce);
    }
}

async fn receive(socket: Arc<FamilySocket>) {
    let mut packet = [0; PACKET_MAX];
    loop {
        match socket.socket.recv(&mut packet).await {
            Ok(length) => {
                let at = Instant::now();
                let Some(mark) = icmp_packet::reply(socket.family, &packet[..length]) else { continue };
                if let Some(series) = socket.waiting().get(&mark.nonce) {
                    // A series that just ended no longer listens.
                    let _ = series.send((mark.sequence, at));
                }
            }
            Err(error) => {
                tracing::debug!(error = %error, "receiving echo replies failed");
                tokio::time::sleep(RECEIVE_RETRY).await;
            }
        }
    }
}

fn open(family: Family) -> Result<FamilySocket, String> {
    let datagram = open_kind(family, IcmpSocketKind::Datagram);
    let raw = || open_kind(family, IcmpSocketKind::Raw);
    datagram.or_else(|datagram_error| {
        raw().map_err(|raw_error| format!("datagram socket: {datagram_error}; raw socket: {raw_error}"))
    })
}

fn open_kind(family: Family, kind: IcmpSocketKind) -> io::Result<FamilySocket> {
    let (domain, protocol) = match family {
        Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let form = match kind {
        IcmpSocketKind::Datagram => Type::DGRAM,
        IcmpSocketKind::Raw => Type::RAW,
    };
    let socket = Socket::new(domain, form.nonblocking().cloexec(), Some(protocol))?;
    Ok(FamilySocket { family, kind, socket: UdpSocket::from_std(socket.into())?, waiting: Mutex::default() })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn request(address: IpAddr, count: u32) -> EchoRequest {
        EchoRequest { address, count, interval: Duration::ZERO, timeout: Duration::from_secs(2) }
    }

    #[tokio::test]
    async fn loopback_answers_every_request_of_several_series_at_a_time() {
        let sockets = IcmpSockets::open();
        if let Err(error) = sockets.kind_of(Ipv4Addr::LOCALHOST.into()) {
            // Neither ping_group_range nor CAP_NET_RAW: then this must be what every request says.
            let said = sockets.echo(request(Ipv4Addr::LOCALHOST.into(), 1)).await;
            assert_eq!(said, Err(error));
            return;
        }
        let (a, b) = tokio::join!(
            sockets.echo(request(Ipv4Addr::new(127, 0, 0, 1).into(), 3)),
            sockets.echo(request(Ipv4Addr::new(127, 0, 0, 2).into(), 2)),
        );
        let sequences = |replies: Vec<EchoReply>| replies.iter().map(|r| r.sequence).collect::<Vec<_>>();
        assert_eq!((sequences(a.unwrap()), sequences(b.unwrap())), (vec![0, 1, 2], vec![0, 1]));
        assert!(sockets.v4.as_ref().unwrap().waiting().is_empty(), "a series that ended is forgotten");
    }
}
