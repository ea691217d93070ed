//! The network of a simulation: links in memory with seeded delays, which can be cut and healed.
//!
//! A cut link loses nothing that was sent: it holds it back until it heals, as TCP would, and refuses new streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_manager::seams::Followed;
use vouch_types::{ManagerId, NodeId, WatcherId};
use vouch_wire::links::{LinkError, ManagerService, PeerLink, RaftCall, RaftLink, RaftService, SESSION_QUEUE, Session};
use vouch_wire::proto;

/// One end of a link.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// A manager.
    Manager(ManagerId),
    /// The agent of a node: reports and relay.
    Node(NodeId),
    /// A watcher.
    Watcher(WatcherId),
}

/// What a manager serves.
#[derive(Clone)]
pub struct Served {
    /// To nodes, watchers and managers.
    pub manager: Arc<dyn ManagerService>,
    /// To other managers' Raft.
    pub raft: Arc<dyn RaftService>,
}

/// The network.
pub struct SimNetwork {
    seed: u64,
    delays: Mutex<BTreeMap<(Part, Part, Lane), StdRng>>,
    streams: Mutex<BTreeMap<(Part, Part), u64>>,
    cut: Mutex<BTreeSet<(Part, Part)>>,
    healed: Followed<u64>,
    served: Mutex<BTreeMap<ManagerId, Served>>,
}

impl SimNetwork {
    /// Returns a network whose delays follow from the seed.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            delays: Mutex::default(),
            streams: Mutex::default(),
            cut: Mutex::default(),
            healed: Followed::new(0),
            served: Mutex::default(),
        })
    }

    /// Cuts a link, both ways.
    pub fn cut(&self, a: &Part, b: &Part) {
        self.cut.lock().unwrap().extend([(a.clone(), b.clone()), (b.clone(), a.clone())]);
    }

    /// Heals all links.
    pub fn heal(&self) {
        self.cut.lock().unwrap().clear();
        self.healed.send_if_modified(|n| {
            *n += 1;
            true
        });
    }

    /// Returns whether a link carries anything.
    pub fn is_open(&self, from: &Part, to: &Part) -> bool {
        !self.cut.lock().unwrap().contains(&(from.clone(), to.clone()))
    }

    /// Sets what a manager serves; `None` when it is dead.
    pub fn serve(&self, manager: ManagerId, served: Option<Served>) {
        let mut all = self.served.lock().unwrap();
        match served {
            Some(served) => all.insert(manager, served),
            None => all.remove(&manager),
        };
    }

    /// Waits for as long as the next message over this lane takes.
    ///
    /// Every lane has a generator of its own: which of two lanes is used first in one and the same instant must not
    /// change what either does.
    async fn delay(&self, from: &Part, to: &Part, lane: Lane) {
        let micros = {
            let mut delays = self.delays.lock().unwrap();
            let rng = delays.entry((from.clone(), to.clone(), lane)).or_insert_with(|| {
                let name = format!("{} {from:?} {to:?} {lane:?}", self.seed);
                StdRng::from_seed(Sha256::digest(name.as_bytes()).into())
            });
            rng.random_range(300..3_000)
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    /// Waits for a message's way to be open, and for its delay.
    async fn travel(&self, from: &Part, to: &Part, lane: Lane) {
        self.delay(from, to, lane).await;
        let mut healed = self.healed.follow();
        while !self.is_open(from, to) {
            healed.changed().await;
        }
    }

    /// Returns what a manager serves, if it can be reached now.
    pub fn reach(&self, from: &Part, to: ManagerId) -> Result<Served, LinkError> {
        let served = self.served.lock().unwrap().get(&to).cloned();
        served.filter(|_| self.is_open(from, &Part::Manager(to))).ok_or_else(|| LinkError::Unreachable {
            to: to.to_string(),
            address: "memory".to_owned(),
            why: "cut or dead".to_owned(),
        })
    }

    /// Returns both ends of a stream between two parts.
    pub fn stream<In, Out>(self: &Arc<Self>, a: &Part, b: &Part) -> (Session<In, Out>, Session<Out, In>)
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        let (a_out, a_source) = mpsc::channel(SESSION_QUEUE);
        let (b_sink, b_in) = mpsc::channel(SESSION_QUEUE);
        let (b_out, b_source) = mpsc::channel(SESSION_QUEUE);
        let (a_sink, a_in) = mpsc::channel(SESSION_QUEUE);
        let ended = CancellationToken::new();
        let lane = {
            let mut streams = self.streams.lock().unwrap();
            let count = streams.entry((a.clone(), b.clone())).or_default();
            *count += 1;
            Lane::Stream(*count)
        };
        let (there, back) = (Way::new(self, a, b, lane), Way::new(self, b, a, lane));
        tokio::spawn(carry(there, a_source, b_sink, ended.clone()));
        tokio::spawn(carry(back, b_source, a_sink, ended));
        (Session { outbound: a_out, inbound: a_in }, Session { outbound: b_out, inbound: b_in })
    }

    /// Returns one manager's way to the others.
    pub fn links_of(self: &Arc<Self>, own: ManagerId) -> Arc<SimLinks> {
        Arc::new(SimLinks { own, network: Arc::clone(self) })
    }
}

/// One of several independent ways between two parts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Lane {
    Call,
    Append,
    Evidence,
    Forward,
    Stream(u64),
}

/// One direction of a stream.
struct Way {
    network: Arc<SimNetwork>,
    from: Part,
    to: Part,
    lane: Lane,
}

impl Way {
    fn new(network: &Arc<SimNetwork>, from: &Part, to: &Part, lane: Lane) -> Self {
        Self { network: Arc::clone(network), from: from.clone(), to: to.clone(), lane }
    }
}

async fn carry<T>(
    way: Way,
    mut source: mpsc::Receiver<T>,
    sink: mpsc::Sender<Result<T, LinkError>>,
    ended: CancellationToken,
) {
    loop {
        let message = tokio::select! {
            biased;
            () = ended.cancelled() => break,
            () = sink.closed() => break,
            message = source.recv() => message,
        };
        let Some(message) = message else { break };
        tokio::select! {
            biased;
            () = ended.cancelled() => break,
            () = way.network.travel(&way.from, &way.to, way.lane) => {}
        }
        if sink.send(Ok(message)).await.is_err() {
            break;
        }
    }
    ended.cancel();
}

/// One manager's way to the others.
pub struct SimLinks {
    own: ManagerId,
    network: Arc<SimNetwork>,
}

impl SimLinks {
    fn part(&self) -> Part {
        Part::Manager(self.own)
    }

    async fn delay(&self, to: ManagerId, lane: Lane) {
        self.network.delay(&self.part(), &Part::Manager(to), lane).await;
    }
}

#[async_trait]
impl RaftLink for SimLinks {
    async fn call(&self, to: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError> {
        self.delay(to, Lane::Call).await;
        let answer = self.network.reach(&self.part(), to)?.raft.call(self.own, request).await;
        self.delay(to, Lane::Call).await;
        self.network.reach(&self.part(), to)?;
        answer
    }

    async fn append_stream(
        &self,
        to: ManagerId,
        requests: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError> {
        let served = self.network.reach(&self.part(), to)?;
        let (network, own, part) = (Arc::clone(&self.network), self.own, self.part());
        let sender = part.clone();
        let requests = requests.then(move |request| {
            let (network, from) = (Arc::clone(&network), sender.clone());
            async move {
                network.delay(&from, &Part::Manager(to), Lane::Append).await;
                request
            }
        });
        let (network, from) = (Arc::clone(&self.network), part.clone());
        let requests = requests.take_while(move |_| std::future::ready(network.is_open(&from, &Part::Manager(to))));
        let answers = served.raft.append_stream(own, Box::pin(requests)).await;
        let network = Arc::clone(&self.network);
        Ok(Box::pin(answers.map(move |answer| network.reach(&part, to).and(answer))))
    }
}

#[async_trait]
impl PeerLink for SimLinks {
    async fn evidence(&self, to: ManagerId) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError> {
        self.delay(to, Lane::Evidence).await;
        let served = self.network.reach(&self.part(), to)?;
        let (mine, theirs) = self.network.stream(&self.part(), &Part::Manager(to));
        served.manager.evidence_session(self.own, theirs).await;
        Ok(mine)
    }

    async fn forward(
        &self,
        to: ManagerId,
        request: proto::ForwardRequest,
    ) -> Result<proto::ForwardResponse, LinkError> {
        self.delay(to, Lane::Forward).await;
        let response = self.network.reach(&self.part(), to)?.manager.forward(self.own, request).await;
        self.delay(to, Lane::Forward).await;
        self.network.reach(&self.part(), to)?;
        Ok(response)
    }
}
