//! The network of a simulation: two networks of switches and links whose truth the schedule sets.
//!
//! Streams behave like TCP over such a path (`pipe`), single packets like UDP. It must never tell anybody of the product
//! what is cut: a cut is silence.

mod datagrams;
mod draw;
mod links;
mod pipe;
mod topology;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_manager::seams::Followed;
use vouch_types::{ManagerId, Network};
use vouch_wire::links::{LinkError, ManagerService, RaftService, SESSION_QUEUE, Session};

use super::host::{Host, NodeNo, RackNo};

pub use datagrams::SimDatagrams;
pub use draw::Draw;
pub use links::SimLinks;
pub use topology::{Condition, Element, LinkNow, Topology, Toward};

/// Least and greatest time of a packet over a path that nothing is wrong with, in microseconds.
const USUAL_MICROS: (u64, u64) = (200, 1_500);
/// First retransmission timeout (RFC 6298, with the least value that Linux uses).
pub const RTO_FIRST: Duration = Duration::from_millis(200);
/// Greatest retransmission timeout (Linux, TCP_RTO_MAX).
pub const RTO_MAX: Duration = Duration::from_secs(120);
/// When a connection request is sent again (RFC 6298, 2.1).
const SYN_AGAIN: Duration = Duration::from_secs(1);
/// How long a connection may take to come about (`wire`, CONNECT_TIMEOUT).
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// What a manager serves.
#[derive(Clone)]
pub struct Served {
    /// To nodes, watchers and managers.
    pub manager: Arc<dyn ManagerService>,
    /// To other managers' Raft.
    pub raft: Arc<dyn RaftService>,
}

/// One of several independent ways between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Raft calls.
    Call,
    /// What is forwarded between managers.
    Forward,
    /// Connection requests.
    Connect,
    /// Questions to relays and guest agents.
    Relay,
    /// Probes.
    Probe,
    /// A baseline's checks.
    Baseline,
    /// Heartbeats.
    Heartbeat,
    /// Echoes between watchers.
    Echo,
    /// A stream of this number.
    Stream(u64),
}

/// Both ends of an open stream, to end it from outside.
struct Ends {
    hosts: [Host; 2],
    network: Network,
    gone: [CancellationToken; 2],
}

#[derive(Default)]
struct Streams {
    next: BTreeMap<(Host, Host), u64>,
    open: BTreeMap<(Host, Host, u64), Ends>,
}

/// The network.
pub struct SimNetwork {
    seed: u64,
    lanes: Mutex<BTreeMap<(Host, Host, Network, Lane), Draw>>,
    streams: Mutex<Streams>,
    topology: Mutex<Topology>,
    changed: Followed<u64>,
    lives: Mutex<BTreeMap<Host, u64>>,
    dead: Mutex<BTreeSet<Host>>,
    served: Mutex<BTreeMap<ManagerId, Served>>,
    older: Mutex<BTreeSet<ManagerId>>,
    inboxes: datagrams::Inboxes,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimNetwork {
    /// Returns a network whose delays and losses follow from the seed.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            lanes: Mutex::default(),
            streams: Mutex::default(),
            topology: Mutex::default(),
            changed: Followed::new(0),
            lives: Mutex::default(),
            dead: Mutex::default(),
            served: Mutex::default(),
            older: Mutex::default(),
            inboxes: datagrams::Inboxes::default(),
        })
    }

    /// Puts a node into a rack.
    pub fn place_node(&self, node: NodeNo, rack: RackNo) {
        lock(&self.topology).racks.insert(node, rack);
    }

    /// Puts a VM or watcher onto a node.
    pub fn place(&self, host: Host, node: NodeNo) {
        lock(&self.topology).places.insert(host, node);
    }

    /// Returns the racks of the nodes.
    pub fn racks(&self) -> BTreeMap<NodeNo, RackNo> {
        lock(&self.topology).racks.clone()
    }

    /// Changes what is wrong with the network.
    pub fn change(&self, change: impl FnOnce(&mut Topology)) {
        change(&mut lock(&self.topology));
        self.touch();
    }

    fn touch(&self) {
        self.changed.send_if_modified(|n| {
            *n += 1;
            true
        });
    }

    /// Returns how a packet fares now.
    pub fn link(&self, from: Host, to: Host, network: Network) -> LinkNow {
        lock(&self.topology).link(from, to, network)
    }

    /// Returns whether packets pass both ways.
    pub fn connects(&self, a: Host, b: Host, network: Network) -> bool {
        lock(&self.topology).connects(a, b, network)
    }

    /// Sets which managers are of a version that says nothing of logs, from their next calls and streams on.
    pub fn set_older(&self, managers: impl IntoIterator<Item = ManagerId>) {
        *lock(&self.older) = managers.into_iter().collect();
    }

    fn is_older(&self, manager: ManagerId) -> bool {
        lock(&self.older).contains(&manager)
    }

    /// Sets what a manager serves; `None` when it is dead.
    pub fn serve(&self, manager: ManagerId, served: Option<Served>) {
        match served {
            Some(served) => {
                lock(&self.dead).remove(&Host::Manager(manager));
                lock(&self.served).insert(manager, served);
            }
            None => {
                lock(&self.served).remove(&manager);
                self.process_died(Host::Manager(manager));
            }
        }
    }

    fn served_by(&self, manager: ManagerId) -> Option<Served> {
        lock(&self.served).get(&manager).cloned()
    }

    /// Returns whether something listens at a host.
    pub fn listens(&self, host: Host) -> bool {
        !lock(&self.dead).contains(&host)
    }

    /// The process of a host runs again: a new life, whose streams are new ones.
    pub fn process_started(&self, host: Host) {
        lock(&self.dead).remove(&host);
    }

    /// The process of a host died, and its machine says so to whoever it reaches: its streams are reset.
    pub fn process_died(&self, host: Host) {
        lock(&self.dead).insert(host);
        *lock(&self.lives).entry(host).or_default() += 1;
        for ends in lock(&self.streams).open.values() {
            for (own, other) in [(0, 1), (1, 0)] {
                if ends.hosts[own] == host {
                    ends.gone[own].cancel();
                    if self.connects(host, ends.hosts[other], ends.network) {
                        ends.gone[other].cancel();
                    }
                }
            }
        }
    }

    /// The machine of a host lost its power: its streams end, and nobody is told.
    pub fn power_lost(&self, host: Host) {
        *lock(&self.lives).entry(host).or_default() += 1;
        lock(&self.dead).insert(host);
        lock(&self.topology).silent.insert(host);
        for ends in lock(&self.streams).open.values() {
            for own in [0, 1] {
                if ends.hosts[own] == host {
                    ends.gone[own].cancel();
                }
            }
        }
        self.touch();
    }

    /// The machine of a host has power again; its process is still to be started.
    pub fn power_back(&self, host: Host) {
        lock(&self.topology).silent.remove(&host);
        self.touch();
    }

    fn life(&self, host: Host) -> u64 {
        lock(&self.lives).get(&host).copied().unwrap_or_default()
    }

    fn draw<T>(&self, from: Host, to: Host, network: Network, lane: Lane, draw: impl FnOnce(&mut Draw) -> T) -> T {
        let mut lanes = lock(&self.lanes);
        draw(lanes.entry((from, to, network, lane)).or_insert_with(|| {
            let (lane, number) = match lane {
                Lane::Call => (1, 0),
                Lane::Forward => (2, 0),
                Lane::Connect => (3, 0),
                Lane::Relay => (4, 0),
                Lane::Probe => (5, 0),
                Lane::Baseline => (6, 0),
                Lane::Stream(number) => (7, number),
                Lane::Heartbeat => (8, 0),
                Lane::Echo => (9, 0),
            };
            Draw::of([self.seed, host_word(from), host_word(to), network as u64, lane, number])
        }))
    }

    /// Sends one packet: returns how long it takes, `None` when it is lost.
    pub fn packet(&self, from: Host, to: Host, network: Network, lane: Lane) -> Option<Duration> {
        let link = self.link(from, to, network);
        self.draw(from, to, network, lane, |draw| {
            let jitter = draw.below(u64::try_from(link.jitter.as_micros()).unwrap_or(0) + 1);
            let usual = USUAL_MICROS.0 + draw.below(USUAL_MICROS.1 - USUAL_MICROS.0);
            let lost = !link.open || draw.happens(link.loss_per_million);
            (!lost).then(|| link.delay + Duration::from_micros(usual + jitter))
        })
    }

    /// Sends one packet and its answer: returns how long both take, `None` when either is lost.
    pub fn round_trip(&self, from: Host, to: Host, network: Network, lane: Lane) -> Option<Duration> {
        let there = self.packet(from, to, network, lane);
        let back = self.packet(to, from, network, lane);
        Some(there? + back?)
    }

    /// Waits until a message has travelled over a connection that stands: what is lost is sent again.
    pub async fn travel(&self, from: Host, to: Host, network: Network, lane: Lane) {
        let mut rto = RTO_FIRST;
        loop {
            if let Some(takes) = self.packet(from, to, network, lane) {
                return tokio::time::sleep(takes).await;
            }
            tokio::time::sleep(rto).await;
            rto = (rto * 2).min(RTO_MAX);
        }
    }

    /// Waits until a connection stands.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`] when nothing answers in time, [`LinkError::NotListening`] when the host refuses.
    pub async fn connect(&self, from: Host, to: Host, network: Network) -> Result<(), LinkError> {
        let address = || network.as_str().to_owned();
        let dial = async {
            loop {
                match self.round_trip(from, to, network, Lane::Connect) {
                    Some(takes) => return tokio::time::sleep(takes).await,
                    None => tokio::time::sleep(SYN_AGAIN).await,
                }
            }
        };
        if tokio::time::timeout(CONNECT_TIMEOUT, dial).await.is_err() {
            let why = "no answer".to_owned();
            return Err(LinkError::Unreachable { to: to.to_string(), address: address(), why });
        }
        if !self.listens(to) {
            return Err(LinkError::NotListening { to: to.to_string(), address: address() });
        }
        // The handshake of TLS.
        self.travel(from, to, network, Lane::Connect).await;
        self.travel(to, from, network, Lane::Connect).await;
        Ok(())
    }

    /// Returns what a manager serves, once a connection to it stands.
    ///
    /// # Errors
    /// As for [`SimNetwork::connect`].
    pub async fn dial(&self, from: Host, to: ManagerId, network: Network) -> Result<Served, LinkError> {
        self.connect(from, Host::Manager(to), network).await?;
        self.served_by(to).ok_or_else(|| LinkError::NotListening { to: to.to_string(), address: network.to_string() })
    }

    /// Returns both ends of a stream over a connection that stands.
    pub fn stream<In, Out>(self: &Arc<Self>, a: Host, b: Host, network: Network) -> (Session<In, Out>, Session<Out, In>)
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        let (a_out, a_source) = mpsc::channel(SESSION_QUEUE);
        let (b_sink, b_in) = mpsc::channel(SESSION_QUEUE);
        let (b_out, b_source) = mpsc::channel(SESSION_QUEUE);
        let (a_sink, a_in) = mpsc::channel(SESSION_QUEUE);
        let [there, back] = self.ways(a, b, network, pipe::OnEnd::Both);
        tokio::spawn(pipe::carry(there, a_source, b_sink));
        tokio::spawn(pipe::carry(back, b_source, a_sink));
        (Session { outbound: a_out, inbound: a_in }, Session { outbound: b_out, inbound: b_in })
    }

    /// Returns both directions of a new stream.
    fn ways(self: &Arc<Self>, a: Host, b: Host, network: Network, on_end: pipe::OnEnd) -> [pipe::Way; 2] {
        let gone = [CancellationToken::new(), CancellationToken::new()];
        let closed = CancellationToken::new();
        let mut streams = lock(&self.streams);
        let number = streams.next.entry((a, b)).or_default();
        *number += 1;
        let key = (a, b, *number);
        streams.open.insert(key, Ends { hosts: [a, b], network, gone: gone.clone() });
        drop(streams);
        let way = |from, to, sender: usize| pipe::Way {
            network: Arc::clone(self),
            over: network,
            key,
            from,
            to,
            receiver_life: self.life(to),
            sender_gone: gone[sender].clone(),
            receiver_gone: gone[1 - sender].clone(),
            closed: closed.clone(),
            on_end,
        };
        [way(a, b, 0), way(b, a, 1)]
    }

    fn forget_stream(&self, key: (Host, Host, u64)) {
        lock(&self.streams).open.remove(&key);
        let mut lanes = lock(&self.lanes);
        for network in Network::ALL {
            lanes.remove(&(key.0, key.1, network, Lane::Stream(key.2)));
            lanes.remove(&(key.1, key.0, network, Lane::Stream(key.2)));
        }
    }

    /// Returns one manager's way to the others.
    pub fn links_of(self: &Arc<Self>, own: ManagerId) -> Arc<SimLinks> {
        Arc::new(SimLinks::new(own, Arc::clone(self)))
    }
}

fn host_word(host: Host) -> u64 {
    match host {
        Host::Manager(id) => 1 << 40 | id.get(),
        Host::Node(no) => 2 << 40 | u64::from(no.0),
        Host::Watcher(id) => 3 << 40 | id.get(),
        Host::Vm(no) => 4 << 40 | u64::from(no.0),
    }
}
