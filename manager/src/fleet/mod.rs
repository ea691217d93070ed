//! The fleet: every node, watcher and other manager that this manager hears, and the streams to them.
//!
//! ```text
//!  node, watcher --stream--> session task --> book (who said what, and how fresh it is) --> events --> detector
//!  other manager --evidence--> peer task  --/                        \--> evidence frames --> the other managers
//!  node --heartbeats--> their own book ------------------------------/
//! ```
//!
//! Everything in here is soft state. It says how fresh a word is and hands it on; what a word means is the detector's
//! matter, and what is recorded is the reconcilers'.
//!
//! The books of heartbeats, of the managers' health and of durations have locks of their own, each of which is held alone. Two other locks meet here: the book's, and the one
//! of the applied state. Their order is **book, then state**: whoever holds the book may read the state, but nothing in
//! [`Consensus::read_state`] may call the fleet. The other way round, a reader that waits for the book, a holder of the
//! book that waits to read, and a writer between them would wait for ever.

mod answers;
mod asks;
mod book;
mod durations;
mod evidence;
mod health;
mod hearing;
mod heartbeat_tasks;
mod heartbeats;
mod links;
pub(crate) mod looks;
mod node_words;
mod orders;
mod peer;
mod peer_session;
mod probe_words;
mod session_tasks;
mod sessions;
mod ticks;
mod watcher_words;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vouch_detector::Event;
use vouch_types::{Incarnation, ManagerId, Network, NodeId, Timing};
use vouch_wire::links::{DatagramLink, PeerLink};
use vouch_wire::proto;

use crate::counters::Counters;
use crate::detect::DetectorInput;
use crate::members::Members;
use crate::raft::Consensus;
use crate::seams::{Clock, Followed, Follower, Rng};

use book::Book;
use durations::DurationBook;
use health::HealthBook;
use heartbeats::HeartbeatBook;
pub(crate) use node_words::NodeWords;
pub(crate) use orders::Route;
pub(crate) use probe_words::{ProbeWord, ProbeWords};

/// How long a new stream may take to its first message.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a stream may be silent before it is closed: its other side dials again.
pub const SILENT_MAX: Duration = Duration::from_secs(30);
/// How long a forwarded message may take.
pub const FORWARD_WITHIN: Duration = Duration::from_secs(2);

/// What the fleet is made of.
pub(crate) struct FleetParts {
    pub(crate) own: ManagerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) timing: Timing,
    pub(crate) members: Members,
    pub(crate) clock: Clock,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) consensus: Consensus,
    pub(crate) peer_link: Arc<dyn PeerLink>,
    /// Ways for heartbeats; none where there are to be none.
    pub(crate) datagrams: BTreeMap<Network, Arc<dyn DatagramLink>>,
    pub(crate) detector: mpsc::Sender<DetectorInput>,
    pub(crate) counters: Counters,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

struct Inner {
    parts: FleetParts,
    book: Mutex<Book>,
    heartbeats: Mutex<HeartbeatBook>,
    health: Mutex<HealthBook>,
    durations: Mutex<DurationBook>,
    changed: Followed<u64>,
}

/// The fleet of one manager. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<Inner>);

impl Fleet {
    pub(crate) fn new(parts: FleetParts) -> Self {
        let book = Book::new(parts.own, parts.incarnation, parts.timing.clone(), parts.counters.clone());
        let heartbeats = Mutex::new(HeartbeatBook::new(parts.own, parts.incarnation));
        Self(Arc::new(Inner {
            parts,
            book: Mutex::new(book),
            heartbeats,
            health: Mutex::default(),
            durations: Mutex::default(),
            changed: Followed::new(0),
        }))
    }

    /// Starts the ticks, the heartbeats and the evidence streams to the other managers.
    pub(crate) fn start(&self) {
        self.spawn(Self::run_ticks(self.clone()));
        self.spawn(Self::run_applied(self.clone()));
        self.start_heartbeats();
        self.spawn(Self::run_peers(self.clone()));
    }

    fn parts(&self) -> &FleetParts {
        &self.0.parts
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A panic while the book is held could leave half a message in it, and every word is soft: go on.
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn durations_book(&self) -> MutexGuard<'_, DurationBook> {
        // A sum that a panic left half made is a sum too small, and no more.
        self.0.durations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, HealthBook> {
        // Each of its notes stands alone.
        self.0.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task until it ends or the manager stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let stop = self.parts().stop.clone();
        let task = self.parts().tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
        task.abort_handle()
    }

    /// Returns a follower that is told whenever a stream, an introduction, a full report or an applied command may call
    /// for orders.
    pub(crate) fn changes(&self) -> Follower<u64> {
        self.0.changed.follow()
    }

    fn note_change(&self) {
        self.0.changed.send_if_modified(|n| {
            *n += 1;
            true
        });
    }

    /// Tells the followers of changes what is applied.
    async fn run_applied(self) {
        let mut index = self.parts().consensus.applied_index();
        while index.changed().await.is_ok() {
            self.note_change();
        }
    }

    /// Hands events to the detector; waits while its queue is full, so that the streams are held up and not memory.
    async fn tell(&self, events: Vec<Event>) {
        for event in events {
            if self.parts().detector.send(DetectorInput::Event(event)).await.is_err() {
                return;
            }
        }
    }

    /// Returns the statement key of a node as it is recorded.
    fn statement_key(&self, node: &NodeId) -> Option<Vec<u8>> {
        self.parts().consensus.read_state(|state| state.nodes().get(node).map(|n| n.statement_key.clone()))
    }

    async fn run_ticks(self) {
        let mut interval = tokio::time::interval(self.parts().timing.tick_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let others = self.parts().members.others();
            let now = self.parts().clock.now();
            let mut measured: BTreeMap<_, _> = {
                let mut heartbeats = self.heartbeats();
                others.iter().map(|manager| (*manager, heartbeats.news_for(*manager))).collect()
            };
            let health = self.own_health();
            let mut book = self.book();
            book.tick(now, now - SILENT_MAX);
            for manager in &others {
                let mut frame = book.frame(*manager, now);
                frame.health = Some(health.clone());
                if let Some(peer) = book.peers.get_mut(manager) {
                    frame.links = links::told(peer, measured.remove(manager).unwrap_or_default());
                    peer.send(frame);
                }
            }
        }
    }

    /// Sends a frame to one manager at once: an answer waits for it.
    fn flush(&self, to: ManagerId) {
        let now = self.parts().clock.now();
        let mut book = self.book();
        let frame = book.frame(to, now);
        if let Some(peer) = book.peers.get_mut(&to) {
            peer.send(frame);
        }
    }

    /// Waits until there is a cluster, and returns what every stream is greeted with.
    async fn welcome(&self) -> proto::ManagerWelcome {
        let mut changes = self.changes();
        loop {
            let cluster = self
                .parts()
                .consensus
                .read_state(|state| state.cluster().map(|c| (c.id, c.secrets.grant_public_key.clone())));
            if let Some((cluster, grant_public_key)) = cluster {
                return proto::ManagerWelcome {
                    manager: self.parts().own.get(),
                    incarnation: self.parts().incarnation.get(),
                    cluster: vouch_wire::convert::cluster_bytes(cluster),
                    grant_public_key,
                    timing: serde_json::to_string(&self.parts().timing).unwrap_or_default(),
                    ..Default::default()
                };
            }
            changes.changed().await;
        }
    }
}
