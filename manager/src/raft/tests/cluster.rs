//! Three managers in one process, and the links between them, which a test can cut.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use vouch_types::{Applied, Command, EventRecord, ManagerId, ManagerNode, Timing};
use vouch_wire::grpc::PEER_MESSAGE_MAX;
use vouch_wire::links::{LinkError, LogNames, RaftCall, RaftLink, RaftService};

use crate::raft::{Consensus, ConsensusConfig, ConsensusStatus, ProposeError, SeededRuntime};
use crate::store::{LogStore, MemoryLogStore, Stores};

/// How long anything that a test waits for may take, on the paused clock.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a message is on its way.
const LATENCY: Duration = Duration::from_millis(1);

pub(crate) fn m(number: u64) -> ManagerId {
    ManagerId::new(number)
}

/// The links between all managers of a test.
#[derive(Default)]
pub(crate) struct SimLinks {
    services: Mutex<BTreeMap<ManagerId, Arc<dyn RaftService>>>,
    cut: Mutex<BTreeSet<(ManagerId, ManagerId)>>,
    slow: Mutex<BTreeMap<(ManagerId, ManagerId), Duration>>,
    resets: watch::Sender<u64>,
}

impl SimLinks {
    /// Ends every stream, as the kernel of a killed process does.
    pub(super) fn reset_streams(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    pub(crate) fn isolate(&self, manager: ManagerId) {
        let mut cut = self.cut.lock().unwrap();
        for other in (1..=3).map(m).filter(|other| *other != manager) {
            cut.extend([(manager, other), (other, manager)]);
        }
    }

    pub(super) fn isolate_from(&self, one: ManagerId, other: ManagerId) {
        self.cut.lock().unwrap().extend([(one, other), (other, one)]);
    }

    /// Cuts one direction alone.
    pub(super) fn cut_way(&self, from: ManagerId, to: ManagerId) {
        self.cut.lock().unwrap().insert((from, to));
    }

    /// Holds up each answer that goes this way on a stream.
    pub(super) fn slow_answers(&self, from: ManagerId, to: ManagerId, by: Duration) {
        self.slow.lock().unwrap().insert((from, to), by);
    }

    pub(crate) fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }

    /// Returns one manager's end of the links.
    pub(crate) fn end_of(self: &Arc<Self>, manager: ManagerId) -> Arc<dyn RaftLink> {
        Arc::new(SimLink { this: manager, links: Arc::clone(self) })
    }

    fn is_cut(&self, from: ManagerId, to: ManagerId) -> bool {
        self.cut.lock().unwrap().contains(&(from, to))
    }

    fn way(&self, from: ManagerId, to: ManagerId) -> Result<Arc<dyn RaftService>, LinkError> {
        let service = self.services.lock().unwrap().get(&to).cloned();
        service.filter(|_| !self.is_cut(from, to)).ok_or_else(|| unreachable(to))
    }

    pub(crate) fn plug(&self, manager: ManagerId, service: Option<Arc<dyn RaftService>>) {
        let mut services = self.services.lock().unwrap();
        match service {
            Some(service) => services.insert(manager, service),
            None => services.remove(&manager),
        };
    }
}

fn unreachable(to: ManagerId) -> LinkError {
    LinkError::Unreachable { to: to.to_string(), address: "memory".to_owned(), why: "cut".to_owned() }
}

fn reset() -> LinkError {
    LinkError::Reset("by the test".to_owned())
}

/// One manager's end of the links.
struct SimLink {
    this: ManagerId,
    links: Arc<SimLinks>,
}

#[async_trait]
impl RaftLink for SimLink {
    async fn call(&self, to: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError> {
        tokio::time::sleep(LATENCY).await;
        let answer = self.links.way(self.this, to)?.call(self.this, request).await;
        tokio::time::sleep(LATENCY).await;
        self.links.way(to, self.this)?;
        answer
    }

    async fn append_stream(
        &self,
        to: ManagerId,
        names: LogNames,
        requests: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError> {
        let service = self.links.way(self.this, to)?;
        let (links, this) = (Arc::clone(&self.links), self.this);
        let forward = Arc::clone(&links);
        let requests = requests.then(|request| async move {
            tokio::time::sleep(LATENCY).await;
            request
        });
        // As the real ones do, they take no message that is too long.
        let cut =
            move |message: &Vec<u8>| std::future::ready(!forward.is_cut(this, to) && message.len() <= PEER_MESSAGE_MAX);
        let open = (requests.take_while(cut).boxed(), Some(self.links.resets.subscribe()));
        let requests = futures::stream::unfold(open, |(mut requests, resets)| async move {
            let mut resets = resets?;
            tokio::select! {
                biased;
                _ = resets.changed() => Some((Err(reset()), (requests, None))),
                request = requests.next() => Some((Ok(request?), (requests, Some(resets)))),
            }
        });
        let answers = service.append_stream(this, names, Box::pin(requests)).await;
        Ok(Box::pin(answers.then(move |answer| {
            let links = Arc::clone(&links);
            async move {
                let slow = links.slow.lock().unwrap().get(&(to, this)).copied();
                tokio::time::sleep(slow.unwrap_or_default()).await;
                if links.is_cut(to, this) { Err(unreachable(to)) } else { answer }
            }
        })))
    }
}

/// One manager of a test, and what it keeps when it is stopped.
pub(crate) struct SimManager<L> {
    pub(crate) stores: Stores<L>,
    pub(crate) consensus: Consensus,
}

/// Three managers.
pub(crate) struct SimCluster<L = MemoryLogStore> {
    pub(crate) links: Arc<SimLinks>,
    pub(crate) managers: BTreeMap<ManagerId, SimManager<L>>,
    pub(crate) config: ConsensusConfig,
}

impl SimCluster {
    /// Starts three managers in memory, and makes them a cluster.
    pub(crate) async fn start() -> Self {
        Self::start_with(ConsensusConfig::from(&Timing::default())).await
    }

    pub(crate) async fn start_with(config: ConsensusConfig) -> Self {
        let stores = (1..=3).map(|n| (m(n), Stores::memory())).collect();
        let cluster = Self::on(config, stores).await;
        let members = cluster.managers.keys().map(|id| (*id, ManagerNode::default())).collect();
        cluster.managers[&m(1)].consensus.initialize(members).await.unwrap();
        cluster
    }
}

impl<L: LogStore> SimCluster<L> {
    /// Starts managers on what these stores hold.
    pub(crate) async fn on(config: ConsensusConfig, stores: BTreeMap<ManagerId, Stores<L>>) -> Self {
        let mut cluster = Self { links: Arc::default(), managers: BTreeMap::new(), config };
        for (id, stores) in stores {
            cluster.run(id, stores).await;
        }
        cluster
    }

    pub(crate) async fn run(&mut self, id: ManagerId, stores: Stores<L>) {
        let consensus = Consensus::start(id, &self.config, stores.clone(), self.links.end_of(id)).await.unwrap();
        self.links.plug(id, Some(consensus.service()));
        self.managers.insert(id, SimManager { stores, consensus });
    }

    /// Stops a manager in good order and returns its stores.
    pub(crate) async fn stop(&mut self, id: ManagerId) -> Stores<L> {
        self.links.plug(id, None);
        let manager = self.managers.remove(&id).unwrap();
        manager.consensus.shutdown().await;
        manager.stores
    }

    pub(crate) fn consensus(&self, id: ManagerId) -> &Consensus {
        &self.managers[&id].consensus
    }

    /// Waits for a leader that this condition holds for.
    pub(crate) async fn leader(&self, holds: impl Fn(&ConsensusStatus) -> bool) -> ManagerId {
        let statuses = || self.managers.values().map(|manager| manager.consensus.status());
        until("a leader", || statuses().find(|status| status.leads() && holds(status)).map(|status| status.manager))
            .await
    }

    /// Has the leader propose, whoever that is, until it is applied there.
    pub(crate) async fn propose(&self, command: Command) -> Applied {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let leader = self.leader(|_| true).await;
            match self.consensus(leader).propose(command.clone()).await {
                Ok(applied) => return applied,
                Err(ProposeError::NotLeader { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LATENCY).await;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }

    /// Waits until all running managers have applied the same log, and returns the events that they agree on.
    pub(crate) async fn settled_events(&self) -> Vec<Arc<EventRecord>> {
        until("all managers to have applied the same", || {
            let mut indexes = self.managers.values().map(|manager| manager.consensus.status());
            let first = indexes.next()?;
            (first.applied.get() > 0
                && first.applied == first.last_log
                && indexes.all(|s| s.applied == first.applied && s.last_log == first.last_log))
            .then_some(())
        })
        .await;
        let mut events = self.managers.values().map(events_of);
        let first = events.next().unwrap();
        for other in events {
            assert_eq!(other, first, "managers that applied the same log hold the same events");
        }
        first
    }
}

pub(crate) fn events_of<L>(manager: &SimManager<L>) -> Vec<Arc<EventRecord>> {
    manager.consensus.read_state(|state| state.events().cloned().collect())
}

/// Waits until the condition gives a value; fails after [`PATIENCE`].
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = condition() {
                return value;
            }
            tokio::time::sleep(LATENCY).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Runs a test on one thread, a paused clock, and random numbers that follow from the seed.
pub(crate) fn simulate<T>(seed: u64, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(SeededRuntime::scope(seed, test))
}
