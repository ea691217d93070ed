//! One manager over one network: dial, greet, report, obey; and again.
//!
//! ```text
//! Dialling --> Open --> Dialling ...
//!     \--the cluster has removed this node--> (the agent ends)
//! ```
//!
//! Attempts to dial overlap, because one that began while packets were lost waits for TCP's own timers after the path
//! has healed; the first that stands wins. A stream that carries no tick is taken for dead long before TCP says so.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};
use tracing::{info, warn};
use vouch_types::{Incarnation, TickSequence, Timing};
use vouch_wire::convert::{self, CreateWatcher, NodeReport};
use vouch_wire::heartbeat::Agreement;
use vouch_wire::links::{LinkError, ManagerEndpoint, SESSION_QUEUE, Session};
use vouch_wire::proto::{self, from_node, to_node};

use super::heartbeats::Agreed;
use super::orders::{Order, OrderKind, order_fence, update};
use super::report::{ReportBuilder, TickHistory};
use super::{Removed, Shared};
use crate::hearing::INTERVALS_HEARD;
use crate::hypervisor::ServiceState;
use crate::store::{KnownCluster, NodeMemory, OrderSubject};

/// How often a new attempt to dial begins.
pub(crate) const REDIAL_EVERY: Duration = Duration::from_millis(300);
/// How many attempts may be under way at once.
pub(crate) const ATTEMPTS_MAX: usize = 4;
/// How long one attempt may take.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// How many ticks may be missing before a stream is taken for dead.
pub(crate) const TICKS_MISSED: u32 = 4;
/// The least silence after which a stream is taken for dead.
pub(crate) const SILENCE_MIN: Duration = Duration::from_secs(1);
/// How often a report is full even if nobody asks.
pub(crate) const FULL_EVERY: Duration = Duration::from_secs(10);

type NodeSession = Session<proto::ToNode, proto::FromNode>;

/// Why a session ended.
#[derive(Debug, Error)]
enum End {
    #[error("{0}")]
    Reset(LinkError),
    #[error("closed by the manager")]
    Closed,
    #[error("no tick for {0:?}")]
    Silent(Duration),
    #[error("the manager takes no messages")]
    QueueFull,
}

pub(crate) struct SessionTask {
    shared: Arc<Shared>,
    endpoint: ManagerEndpoint,
}

impl SessionTask {
    pub(crate) fn new(shared: Arc<Shared>, endpoint: ManagerEndpoint) -> Self {
        Self { shared, endpoint }
    }

    /// Keeps a session until the cluster has removed this node.
    pub(crate) async fn run(self) -> Removed {
        loop {
            let session = match self.dial().await {
                Ok(session) => session,
                Err(removed) => return removed,
            };
            info!(manager_id = %self.endpoint.manager, network = %self.endpoint.network, from = "dialling", to = "open", "session");
            let end = OpenSession::new(&self, session).run().await;
            warn!(manager_id = %self.endpoint.manager, network = %self.endpoint.network, from = "open", to = "dialling", reason = %end, "session");
        }
    }

    /// Dials until a session stands, or the manager says that there will be none any more.
    async fn dial(&self) -> Result<NodeSession, Removed> {
        let mut attempts = FuturesUnordered::new();
        let mut beat = interval(REDIAL_EVERY);
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                Some(result) = attempts.next(), if !attempts.is_empty() => match result {
                    Ok(Ok(session)) => return Ok(session),
                    // Another manager may not know yet; this one has asked the leader.
                    Ok(Err(LinkError::Removed(why))) => return Err(Removed(why)),
                    Ok(Err(error)) if !told => {
                        told = true;
                        warn!(manager_id = %self.endpoint.manager, network = %self.endpoint.network, %error, "manager not reached, dialling on");
                    }
                    Ok(Err(_)) | Err(_) => {}
                },
                _ = beat.tick() => if attempts.len() < ATTEMPTS_MAX {
                    attempts.push(timeout(ATTEMPT_TIMEOUT, self.shared.link.open(&self.endpoint)));
                },
            }
        }
    }
}

/// A session that stands.
struct OpenSession<'a> {
    task: &'a SessionTask,
    outbound: mpsc::Sender<proto::FromNode>,
    inbound: mpsc::Receiver<Result<proto::ToNode, LinkError>>,
    results: (mpsc::Sender<proto::OrderResult>, mpsc::Receiver<proto::OrderResult>),
    ticks: TickHistory,
    builder: ReportBuilder,
    greeted: bool,
    heard: Instant,
    full_at: Instant,
}

impl<'a> OpenSession<'a> {
    fn new(task: &'a SessionTask, session: NodeSession) -> Self {
        let now = Instant::now();
        Self {
            task,
            outbound: session.outbound,
            inbound: session.inbound,
            results: mpsc::channel(SESSION_QUEUE),
            ticks: TickHistory::default(),
            builder: ReportBuilder::new(),
            greeted: false,
            heard: now,
            full_at: now + FULL_EVERY,
        }
    }

    async fn run(mut self) -> End {
        let shared = Arc::clone(&self.task.shared);
        let mut snapshots = shared.snapshots.subscribe();
        let hello = proto::NodeHello::from(&shared.hello(self.task.endpoint.network));
        if let Err(end) = self.send(from_node::Message::Hello(hello)) {
            return end;
        }
        loop {
            let silence = (shared.timing.borrow().tick_interval * TICKS_MISSED).max(SILENCE_MIN);
            let step = tokio::select! {
                biased;
                message = self.inbound.recv() => match message {
                    Some(Ok(message)) => self.hear(message).await,
                    Some(Err(error)) => Err(End::Reset(error)),
                    None => Err(End::Closed),
                },
                Ok(()) = snapshots.changed() => {
                    snapshots.mark_unchanged();
                    self.report()
                }
                Some(result) = self.results.1.recv() => self.send(from_node::Message::OrderResult(result)),
                () = sleep_until(self.heard + silence) => Err(End::Silent(silence)),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Sends, or ends the session: a report that waited would be told as fresh later.
    fn send(&self, message: from_node::Message) -> Result<(), End> {
        use mpsc::error::TrySendError;
        self.outbound.try_send(proto::FromNode { message: Some(message) }).map_err(|e| match e {
            TrySendError::Full(_) => End::QueueFull,
            TrySendError::Closed(_) => End::Closed,
        })
    }

    fn report(&mut self) -> Result<(), End> {
        // Before the welcome there is nobody to report to.
        if !self.greeted {
            return Ok(());
        }
        let shared = Arc::clone(&self.task.shared);
        let snapshot = Arc::clone(&shared.snapshots.borrow());
        let now = Instant::now();
        if now >= self.full_at {
            self.builder.owe_full();
        }
        let reported = self.builder.next(&snapshot, |vm| shared.store.generation(vm));
        if reported.full {
            self.full_at = now + FULL_EVERY;
        }
        let report = NodeReport {
            sequence: shared.sequence.next(),
            tick: self.ticks.at(snapshot.read_begun),
            age: now.saturating_duration_since(snapshot.read_begun),
            hypervisor_silent: snapshot.service == ServiceState::Silent,
            full: reported.full,
            vms: reported.vms,
            watchers: snapshot.view.watchers.iter().map(|w| (w.watcher, w.state)).collect(),
            legs: snapshot
                .view
                .watchers
                .iter()
                .filter(|w| !w.legs.is_empty())
                .map(|w| (w.watcher, w.legs.clone()))
                .collect(),
        };
        self.send(from_node::Message::Report(proto::NodeReport::from(&report)))
    }

    async fn hear(&mut self, message: proto::ToNode) -> Result<(), End> {
        let heard = match message.message {
            Some(to_node::Message::Tick(tick)) => return self.tick(TickSequence::new(tick.sequence)),
            Some(to_node::Message::Welcome(welcome)) => return self.welcome(welcome).await,
            Some(to_node::Message::Resync(proto::Resync {})) => {
                self.builder.owe_full();
                self.task.shared.read_now.notify_one();
                return self.report();
            }
            Some(to_node::Message::Ownership(ownership)) => self.own(ownership).await,
            Some(to_node::Message::CreateWatcher(order)) => {
                CreateWatcher::try_from(order).map(|o| self.order(OrderKind::Create(o))).map_err(|e| e.to_string())
            }
            Some(to_node::Message::DestroyWatcher(order)) => self.destroy(&order),
            None => Err("empty message".to_owned()),
        };
        if let Err(why) = heard {
            warn!(manager_id = %self.task.endpoint.manager, why, "message not obeyed");
        }
        Ok(())
    }

    fn tick(&mut self, tick: TickSequence) -> Result<(), End> {
        let first = self.ticks.at(Instant::now()) == TickSequence::default();
        self.heard = Instant::now();
        self.ticks.note(tick, self.heard);
        let counts_for = self.task.shared.timing.borrow().tick_interval * INTERVALS_HEARD;
        self.task.shared.hearing.heard(self.task.endpoint.manager, self.heard + counts_for);
        if first {
            // What was told before carries no echo, so the manager cannot tell how old it is.
            self.builder.owe_full();
            self.task.shared.read_now.notify_one();
        }
        Ok(())
    }

    async fn welcome(&mut self, welcome: proto::ManagerWelcome) -> Result<(), End> {
        self.heard = Instant::now();
        self.greeted = true;
        let shared = &self.task.shared;
        match serde_json::from_str::<Timing>(&welcome.timing) {
            Ok(timing) if timing.validate().is_ok() => {
                shared.timing.send_if_modified(|known| {
                    let changed = *known != timing;
                    *known = timing;
                    changed
                });
            }
            Ok(_) | Err(_) if welcome.timing.is_empty() => {}
            Ok(_) | Err(_) => warn!(timing = welcome.timing, "the manager's timing is not valid, going on with mine"),
        }
        self.agree(Incarnation::new(welcome.incarnation), welcome.heartbeats);
        // A manager of a cluster that is not initialised yet has neither id nor key.
        if let Ok(id) = convert::cluster_id("welcome.cluster", &welcome.cluster)
            && welcome.grant_public_key.len() == 32
        {
            let cluster = KnownCluster { id, grant_public_key: welcome.grant_public_key };
            if shared.store.with(|m| m.cluster.as_ref() != Some(&cluster)) {
                info!(cluster = %id, "cluster learnt");
                let learn = update(&shared.store, move |m| join(m, cluster)).await;
                if let Err(error) = learn {
                    warn!(%error, "cluster not remembered");
                }
            }
        }
        self.report()
    }

    /// Hands the key of this stream to the heartbeats with the same manager and network.
    fn agree(&self, manager: Incarnation, heartbeats: Option<proto::Heartbeats>) {
        let endpoint = &self.task.endpoint;
        let Some(agreed) = self.task.shared.agreed.get(&(endpoint.manager, endpoint.network)) else { return };
        match heartbeats.map(Agreement::try_from).transpose() {
            Ok(agreement) => {
                agreed.send_replace(agreement.map(|agreement| Agreed { manager, agreement }));
            }
            Err(error) => warn!(manager_id = %endpoint.manager, %error, "heartbeats not agreed on"),
        }
    }

    async fn own(&self, ownership: proto::Ownership) -> Result<(), String> {
        let (fence, vms) = convert::ownership(ownership).map_err(|e| e.to_string())?;
        let shared = &self.task.shared;
        let admitted = update(&shared.store, move |m| {
            m.admit(OrderSubject::Ownership, order_fence(fence))?;
            let changed = m.owned != vms;
            m.owned = vms;
            Ok::<bool, crate::store::StaleOrder>(changed)
        });
        match admitted.await {
            Ok(Ok(changed)) => {
                if changed {
                    shared.read_now.notify_one();
                }
                Ok(())
            }
            Ok(Err(stale)) => Err(stale.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn destroy(&self, order: &proto::DestroyWatcher) -> Result<(), String> {
        let fence = order.fence.ok_or("destroy_watcher.fence: must be present")?.into();
        let watcher = convert::watcher_id("destroy_watcher.watcher", order.watcher).map_err(|e| e.to_string())?;
        self.order(OrderKind::Destroy { fence, watcher });
        Ok(())
    }

    fn order(&self, kind: OrderKind) {
        let order = Order { kind, result: self.results.0.clone() };
        if self.task.shared.orders.try_send(order).is_err() {
            warn!(manager_id = %self.task.endpoint.manager, "too many orders wait; this one will be sent again");
        }
    }
}

/// Learns a cluster; what another one has ordered or granted does not count in it.
fn join(memory: &mut NodeMemory, cluster: KnownCluster) {
    if memory.cluster.as_ref().is_some_and(|known| known.id != cluster.id) {
        *memory =
            NodeMemory { incarnation: memory.incarnation, last_start: memory.last_start, ..NodeMemory::default() };
    }
    memory.cluster = Some(cluster);
}
