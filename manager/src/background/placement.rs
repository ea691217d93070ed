//! Keeps watchers where they should be: places, creates, replaces, destroys and forgets them, and sets what they watch.
//!
//! ```text
//!  no watcher --PlaceWatcher--> Placed --order, until its node reports it--> (it enrols) Live
//!      Placed or Live, silent or gone, or not heard within its boot budget --> Lost --RetireWatcher--> Retired
//!      Retired --order, until its node no longer reports it--> ForgetWatcher
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{
    Applied, Command, HypervisorState, Moment, NodeId, Source, Term, WatcherId, WatcherLife, WatcherRecord,
};
use vouch_wire::convert::CreateWatcher;
use vouch_wire::links::ManagerEndpoint;
use vouch_wire::proto;

use super::placement_plan::{Plan, plan};
use super::{Desk, Reconciler, ReconcilerReport, RoundError};
use crate::secrets::{hash_of, watcher_secret};

/// How long a node has to do what it was ordered before it is ordered again.
pub const ORDER_RESEND: Duration = Duration::from_secs(2);
/// How long a node waits for its next watcher after one that never came up; doubled up to the greatest.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Watchers of one node that never came up, in a row.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    next: Moment,
}

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct PlacementReconciler {
    /// Since when this leader has waited for a placed watcher, while its node was heard.
    waiting: BTreeMap<WatcherId, Moment>,
    retired: BTreeMap<WatcherId, Moment>,
    ordered: BTreeMap<WatcherId, Moment>,
    failures: BTreeMap<NodeId, Failures>,
}

/// What the records say, read at once.
struct Recorded {
    watchers: Vec<WatcherRecord>,
    direct: Vec<NodeId>,
    plan: Plan,
    next_watcher: WatcherId,
}

fn is_gone(state: HypervisorState) -> bool {
    matches!(state, HypervisorState::Gone(_) | HypervisorState::Stopped)
}

impl PlacementReconciler {
    fn read(&self, desk: &Desk, now: Moment) -> Option<Recorded> {
        // Before the records are read: the book is never taken while they are.
        let routed = desk.fleet.routed_nodes();
        desk.consensus.read_state(|state| {
            state.cluster()?;
            let direct: Vec<NodeId> =
                state.nodes().values().filter(|n| n.path.source == Source::Direct).map(|n| n.id.clone()).collect();
            let may_place = |node: &NodeId| {
                direct.contains(node) && routed.contains(node) && self.failures.get(node).is_none_or(|f| f.next <= now)
            };
            Some(Recorded {
                watchers: state.watchers().values().map(|w| (**w).clone()).collect(),
                plan: plan(state, may_place),
                next_watcher: WatcherId::new(state.watchers_placed() + 1),
                direct,
            })
        })
    }

    /// Returns whether an order about a watcher is due, and notes that it is given.
    fn order_is_due(&mut self, watcher: WatcherId, now: Moment) -> bool {
        let due = self.ordered.get(&watcher).is_none_or(|at| now.since(*at) >= ORDER_RESEND);
        if due {
            self.ordered.insert(watcher, now);
        }
        due
    }

    fn note_failure(&mut self, node: &NodeId, now: Moment) {
        let count = self.failures.get(node).map_or(0, |f| f.count) + 1;
        let wait = BACKOFF_FIRST.saturating_mul(1 << (count - 1).min(16)).min(BACKOFF_MAX);
        self.failures.insert(node.clone(), Failures { count, next: now + wait });
    }

    /// Has a watcher created, until its node reports it; one that does not come up is lost.
    async fn bring_up(&mut self, desk: &Desk, term: Term, w: &WatcherRecord, heard: bool) -> Result<(), RoundError> {
        let now = desk.clock.now();
        if !heard {
            // A node that is not heard cannot be blamed for being slow.
            self.waiting.insert(w.id, now);
        }
        let since = *self.waiting.entry(w.id).or_insert(now);
        let reported = desk.fleet.reported_watchers(&w.node);
        let state = reported.and_then(|(_, list)| list.into_iter().find(|(id, _)| *id == w.id)).map(|(_, state)| state);
        let reason = match state {
            Some(state) if is_gone(state) => Some("its process ended before it was heard".to_owned()),
            Some(_) | None if now.since(since) >= desk.timing.watcher_boot_budget => {
                Some(format!("not heard within its boot budget ({:?})", desk.timing.watcher_boot_budget))
            }
            Some(_) => None,
            None => {
                if heard && self.order_is_due(w.id, now) {
                    self.order_creation(desk, term, w);
                }
                None
            }
        };
        if let Some(reason) = reason {
            self.note_failure(&w.node, now);
            tracing::warn!(watcher_id = %w.id, node_id = %w.node, reason, "watcher did not come up");
            desk.propose(Command::LoseWatcher { watcher: w.id, reason, at: desk.wall_clock.now() }).await?;
        }
        Ok(())
    }

    fn order_creation(&self, desk: &Desk, term: Term, w: &WatcherRecord) {
        let of_cluster = desk.consensus.read_state(|state| {
            state.cluster().map(|cluster| (watcher_secret(&cluster.secrets, w.id), cluster.secrets.trusted_cas()))
        });
        let Some((secret, ca_certificate)) = of_cluster else { return };
        let voters = desk.consensus.status().voters;
        let endpoints = voters.iter().flat_map(|(manager, node)| {
            node.addresses.iter().map(|(network, address)| ManagerEndpoint {
                manager: *manager,
                network: *network,
                address: *address,
            })
        });
        let order = CreateWatcher {
            fence: desk.fence(term),
            watcher: w.id,
            placed: w.placed,
            secret,
            ca_certificate,
            managers: endpoints.collect(),
        };
        tracing::info!(watcher_id = %w.id, node_id = %w.node, "watcher ordered");
        desk.fleet.send_to_node(&w.node, proto::to_node::Message::CreateWatcher((&order).into()));
    }

    fn order_destruction(&mut self, desk: &Desk, term: Term, node: &NodeId, watcher: WatcherId) {
        if self.order_is_due(watcher, desk.clock.now()) {
            tracing::info!(watcher_id = %watcher, node_id = %node, "watcher's destruction ordered");
            let order = proto::DestroyWatcher { fence: Some(desk.fence(term).into()), watcher: watcher.get() };
            desk.fleet.send_to_node(node, proto::to_node::Message::DestroyWatcher(order));
        }
    }

    /// Has a watcher destroyed, until its node does not report it any more.
    async fn take_down(&mut self, desk: &Desk, term: Term, w: &WatcherRecord) -> Result<(), RoundError> {
        let now = desk.clock.now();
        let since = *self.retired.entry(w.id).or_insert(now);
        let Some((arrived, list)) = desk.fleet.reported_watchers(&w.node) else { return Ok(()) };
        let state = list.into_iter().find(|(id, _)| *id == w.id).map(|(_, state)| state);
        let gone = state.is_none_or(is_gone);
        if gone && arrived > since {
            desk.propose(Command::ForgetWatcher { watcher: w.id }).await?;
            self.retired.remove(&w.id);
        } else if !gone {
            self.order_destruction(desk, term, &w.node, w.id);
        }
        Ok(())
    }

    /// Has watchers destroyed that a node runs and nobody knows: an order overtook its withdrawal.
    fn take_down_unknown(&mut self, desk: &Desk, term: Term, recorded: &Recorded) {
        for node in &recorded.direct {
            let Some((_, list)) = desk.fleet.reported_watchers(node) else { continue };
            for (id, state) in list {
                let known = recorded.watchers.iter().any(|w| w.id == id && w.node == *node);
                // One that was placed after the records were read is nothing to destroy.
                if !known && !is_gone(state) && id < recorded.next_watcher {
                    self.order_destruction(desk, term, node, id);
                }
            }
        }
    }
}

#[async_trait]
impl Reconciler for PlacementReconciler {
    fn name(&self) -> &'static str {
        "placement"
    }

    fn reset(&mut self) {
        self.waiting.clear();
        self.retired.clear();
        self.ordered.clear();
        self.failures.clear();
    }

    async fn round(&mut self, desk: &Desk, term: Term) -> Result<ReconcilerReport, RoundError> {
        let now = desk.clock.now();
        let Some(recorded) = self.read(desk, now) else { return Ok(ReconcilerReport::default()) };
        self.waiting.retain(|id, _| recorded.watchers.iter().any(|w| w.id == *id && w.life == WatcherLife::Placed));
        self.retired.retain(|id, _| recorded.watchers.iter().any(|w| w.id == *id));
        self.ordered.retain(|_, at| now.since(*at) < ORDER_RESEND * 2);
        let mut pending = recorded.plan.place.len() as u64;
        for watcher in &recorded.watchers {
            let heard = recorded.direct.contains(&watcher.node) && desk.fleet.node_route(&watcher.node).is_some();
            match watcher.life {
                WatcherLife::Placed => {
                    pending += 1;
                    self.bring_up(desk, term, watcher, heard).await?;
                }
                WatcherLife::Live => {
                    self.failures.remove(&watcher.node);
                }
                WatcherLife::Lost => pending += 1,
                WatcherLife::Retired => self.take_down(desk, term, watcher).await?,
            }
        }
        self.take_down_unknown(desk, term, &recorded);
        let at = desk.wall_clock.now();
        for watcher in recorded.plan.retire {
            desk.propose(Command::RetireWatcher { watcher, at }).await?;
        }
        if !recorded.plan.assign.is_empty() {
            desk.propose(Command::AssignWatchers { assignments: recorded.plan.assign }).await?;
        }
        // One at a time: the number of the next one has to be known before its secret is.
        if let Some(node) = recorded.plan.place.first() {
            let next = recorded.next_watcher;
            let secret = desk.consensus.read_state(|state| state.cluster().map(|c| watcher_secret(&c.secrets, next)));
            if let Some(secret) = secret {
                let command = Command::PlaceWatcher { node: node.clone(), secret_hash: hash_of(&secret), at };
                if let Applied::WatcherPlaced { watcher, .. } = desk.propose(command).await?
                    && watcher != next
                {
                    // Its secret would never fit.
                    desk.propose(Command::RetireWatcher { watcher, at }).await?;
                }
            }
        }
        let thin = recorded.plan.thin;
        let problem = (thin > 0).then(|| format!("{thin} vms lack a watcher on their own node or on another one"));
        Ok(ReconcilerReport { pending, problem })
    }
}
