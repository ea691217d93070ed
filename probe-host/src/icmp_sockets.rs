//! Echo requests over the kernel's sockets: one socket per family, one task that receives for all series, many packets at a
//! time.
//!
//! Nothing waits for anything but its own replies: a series is an entry in a table, and one that stays silent costs no more
//! than that entry and its timer.
//!
//! A datagram socket (`net.ipv4.ping_group_range`) needs no privilege; where it is not allowed, a raw one is tried
//! (CAP_NET_RAW). A reply is known by the random nonce in its payload, never by its id: the kernel rewrites the id of
//! datagram sockets, and raw ones see everybody's replies. Over raw sockets every series has an id of its own, so that a
//! session that is stuck in some firewall is not used again.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::icmp_packet::{self, EchoMark, Family};
use crate::limits::ECHO_INTERVAL_MIN;
use crate::{EchoReply, EchoRequest, Icmp, IcmpError};

/// What is read of a packet: the longest IPv4 header and the whole of a reply. The rest of a longer one is no reply of ours.
const PACKET_READ: usize = 128;
/// The most packets that one call takes from the kernel.
const BATCH: usize = 64;
/// Replies that may wait in the kernel, in bytes, where it allows so many: a burst of thousands of targets.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
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

struct FamilySocket {
    family: Family,
    kind: IcmpSocketKind,
    /// An ICMP socket in the clothes of a UDP one: the calls to send and receive are the same.
    socket: UdpSocket,
    /// ICMP has no ports; tests do.
    port: u16,
    /// The series that wait for replies, by their nonce.
    waiting: Mutex<HashMap<u64, Heard>>,
}

/// What a series has heard so far.
struct Heard {
    /// How many requests it sends.
    count: u32,
    /// When the reply to each request came, as far as the last one that has come.
    arrived: Vec<Option<Instant>>,
    missing: u32,
    /// Told when none is missing.
    whole: Option<oneshot::Sender<()>>,
}

impl Heard {
    /// Notes a reply, if it is one to a request of this series that has none yet.
    fn note(&mut self, sequence: u32, at: Instant) {
        let Ok(index) = usize::try_from(sequence) else { return };
        if sequence >= self.count {
            return;
        }
        if self.arrived.len() <= index {
            self.arrived.resize(index + 1, None);
        }
        let slot = &mut self.arrived[index];
        if slot.is_none() {
            *slot = Some(at);
            self.missing -= 1;
        }
        if self.missing == 0
            && let Some(whole) = self.whole.take()
        {
            // A series that just ended no longer listens.
            let _ = whole.send(());
        }
    }
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
        let (series, whole) = Series::begin(socket, request.count);
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
        // Whether all have come or the time is up: what counts is what was heard.
        let _ = tokio::time::timeout_at(ends, whole).await;
        let replies = (0..).zip(sent.iter().zip(series.heard())).filter_map(|(sequence, (sent, arrived))| {
            Some(EchoReply { sequence, round_trip: arrived?.saturating_duration_since(*sent) })
        });
        Ok(replies.collect())
    }
}

impl FamilySocket {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Heard>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, address: IpAddr, packet: &[u8]) -> Result<(), IcmpError> {
        match self.socket.send_to(packet, SocketAddr::new(address, self.port)).await {
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
    fn begin(socket: &Arc<FamilySocket>, count: u32) -> (Self, oneshot::Receiver<()>) {
        let (told, whole) = oneshot::channel();
        let nonce = rand::random();
        let heard = Heard { count, arrived: Vec::new(), missing: count, whole: Some(told) };
        socket.waiting().insert(nonce, heard);
        (Self { socket: Arc::clone(socket), nonce }, whole)
    }

    /// Returns when the reply to each request came, as far as the last one that has come.
    fn heard(&self) -> Vec<Option<Instant>> {
        let heard = self.socket.waiting().remove(&self.nonce);
        heard.map_or_else(Vec::new, |heard| heard.arrived)
    }
}

impl Drop for Series {
    fn drop(&mut self) {
        self.socket.waiting().remove(&self.nonce);
    }
}

type Packets = [[u8; PACKET_READ]; BATCH];

async fn receive(socket: Arc<FamilySocket>) {
    let mut packets: Box<Packets> = Box::new([[0; PACKET_READ]; BATCH]);
    let mut lengths = [0; BATCH];
    loop {
        let received = socket.socket.async_io(Interest::READABLE, || take(&socket.socket, &mut packets, &mut lengths));
        match received.await {
            Ok(count) => {
                let at = Instant::now();
                let mut waiting = socket.waiting();
                for (packet, length) in packets.iter().zip(lengths).take(count) {
                    let mark = packet.get(..length).and_then(|packet| icmp_packet::reply(socket.family, packet));
                    if let Some(mark) = mark
                        && let Some(series) = waiting.get_mut(&mark.nonce)
                    {
                        series.note(mark.sequence, at);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(error = %error, "receiving echo replies failed");
                tokio::time::sleep(RECEIVE_RETRY).await;
            }
        }
    }
}

/// Takes the packets that are there, as many as there is room for; returns how many.
fn take(socket: &UdpSocket, packets: &mut Packets, lengths: &mut [usize; BATCH]) -> io::Result<usize> {
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    let mut slices = packets.each_mut().map(|packet| [IoSliceMut::new(packet)]);
    let taken = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    let mut count = 0;
    for (length, packet) in lengths.iter_mut().zip(taken) {
        *length = packet.bytes;
        count += 1;
    }
    Ok(count)
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
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    let socket = UdpSocket::from_std(socket.into())?;
    Ok(FamilySocket { family, kind, socket, port: 0, waiting: Mutex::default() })
}

#[cfg(test)]
mod tests;
