//! The agent: dials every manager over every configured network, reports what the hypervisor sees, obeys orders.
//!
//! One task reads the hypervisor and publishes snapshots; one task per manager and network keeps a session and sends
//! each snapshot on, another one exchanges heartbeats; one task carries out orders, one after the other. The agent
//! starts no VM and kills none: it can be killed and started again at any time, and the guests do not notice. It ends
//! by itself when the cluster has removed its node.

mod heartbeats;
mod orders;
mod report;
mod session;
mod snapshot;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vouch_types::{BootId, ManagerId, Network, NodeId, Sequence, Timing};
use vouch_wire::convert::NodeHello;
use vouch_wire::links::{DatagramLink, ManagerEndpoint, NodeLink};

use crate::hearing::Hearing;
use crate::hypervisor::Hypervisor;
use crate::store::NodeStore;
use heartbeats::{Agreed, HeartbeatTask, Path};
pub(crate) use orders::update;
use orders::{ORDERS_QUEUE, OrderTask};
use session::SessionTask;
use snapshot::{Snapshot, SnapshotTask};

/// The cluster has removed this node: what happened, and what to do, in one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Removed(pub String);

/// Position among all reports and statements of this agent's life, over all streams and watchers.
#[derive(Debug, Clone, Default)]
pub struct SequenceCounter(Arc<AtomicU64>);

impl SequenceCounter {
    /// Returns the next position, from 1.
    pub fn next(&self) -> Sequence {
        Sequence::new(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// What an agent is.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its node.
    pub node: NodeId,
    /// The node's rack.
    pub rack: Option<String>,
    /// This boot of the node.
    pub boot: BootId,
    /// Where its relay is reached.
    pub relay: SocketAddr,
    /// Public half of its statement key.
    pub statement_key: [u8; 32],
    /// Whether watchers may be created on it.
    pub hosts_watchers: bool,
    /// Where it dials managers; one session each.
    pub endpoints: Vec<ManagerEndpoint>,
}

/// What all tasks of an agent share.
pub(crate) struct Shared {
    config: AgentConfig,
    hypervisor: Arc<dyn Hypervisor>,
    link: Arc<dyn NodeLink>,
    store: NodeStore,
    sequence: SequenceCounter,
    /// Has the hypervisor read at once.
    read_now: Notify,
    /// When the last reading of the whole hypervisor began that has ended.
    last_read: watch::Sender<Option<Instant>>,
    hearing: Hearing,
    /// What each manager's last welcome said of heartbeats.
    agreed: BTreeMap<Path, watch::Sender<Option<Agreed>>>,
    timing: watch::Sender<Timing>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    orders: mpsc::Sender<orders::Order>,
}

impl Shared {
    fn hello(&self, network: Network) -> NodeHello {
        NodeHello {
            boot: self.config.boot,
            incarnation: self.store.incarnation(),
            statement_key: self.config.statement_key,
            relay: self.config.relay,
            rack: self.config.rack.clone(),
            driver: self.hypervisor.driver().to_owned(),
            hosts_watchers: self.config.hosts_watchers,
            network,
        }
    }
}

/// The agent of one node.
pub struct AgentTask {
    shared: Arc<Shared>,
    orders: mpsc::Receiver<orders::Order>,
    datagrams: BTreeMap<Path, Arc<dyn DatagramLink>>,
}

impl AgentTask {
    /// Returns an agent that does nothing before [`AgentTask::run`].
    pub fn new(
        config: AgentConfig,
        hypervisor: Arc<dyn Hypervisor>,
        link: Arc<dyn NodeLink>,
        store: NodeStore,
        sequence: SequenceCounter,
    ) -> Self {
        let (sender, orders) = mpsc::channel(ORDERS_QUEUE);
        let paths = config.endpoints.iter().map(|e| (e.manager, e.network));
        let shared = Shared {
            agreed: paths.map(|path| (path, watch::Sender::new(None))).collect(),
            config,
            snapshots: watch::Sender::new(Arc::new(Snapshot::take(&*hypervisor))),
            hypervisor,
            link,
            store,
            sequence,
            read_now: Notify::new(),
            last_read: watch::Sender::new(None),
            hearing: Hearing::default(),
            timing: watch::Sender::new(Timing::default()),
            orders: sender,
        };
        Self { shared: Arc::new(shared), orders, datagrams: BTreeMap::new() }
    }

    /// Exchanges heartbeats over these ways, one per manager and network. Without any it does with the streams.
    #[must_use]
    pub fn with_heartbeats(mut self, datagrams: BTreeMap<(ManagerId, Network), Arc<dyn DatagramLink>>) -> Self {
        self.datagrams = datagrams;
        self
    }

    /// Returns which managers it hears, for the relay to tell.
    pub fn hearing(&self) -> Hearing {
        self.shared.hearing.clone()
    }

    /// Runs until `stop`. Guests and watchers run on.
    ///
    /// # Errors
    /// [`Removed`] once a manager says so: they run on then as well.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Removed> {
        let (mut tasks, mut sessions) = (JoinSet::new(), JoinSet::new());
        tasks.spawn(SnapshotTask::new(Arc::clone(&self.shared)).run());
        tasks.spawn(OrderTask::new(Arc::clone(&self.shared), self.orders).run());
        for endpoint in &self.shared.config.endpoints {
            sessions.spawn(SessionTask::new(Arc::clone(&self.shared), endpoint.clone()).run());
            let path = (endpoint.manager, endpoint.network);
            if let (Some(link), Some(agreed)) = (self.datagrams.get(&path), self.shared.agreed.get(&path)) {
                let task = HeartbeatTask::new(Arc::clone(&self.shared), endpoint.clone(), Arc::clone(link));
                tasks.spawn(task.run(agreed.subscribe()));
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            ended = sessions.join_next(), if !sessions.is_empty() => match ended {
                Some(Ok(removed)) => return Err(removed),
                Some(Err(_)) | None => tracing::error!(?ended, "a session of the agent ended"),
            },
            // A task of the agent ends only by a panic; going on without it would be a silent half of an agent.
            ended = tasks.join_next() => tracing::error!(?ended, "a task of the agent ended"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
