//! Reconcilers: what the leader keeps bringing about, from what is recorded and what is heard.
//!
//! Each is idempotent, takes no input, runs when something changed and on a timer, and reports a status. They run only
//! while this manager leads with a quorum behind it; a new leader starts them from nothing but the state.

mod assignments;
mod disk;
mod inventory;
mod leadership;
mod maintenance;
mod member_logs;
mod ownership;
mod peer_plan;
mod placement;
mod placement_plan;
mod probes;
mod rollout_rule;
mod rollouts;
mod wall_clock;

pub use disk::{Disk, DiskReport, LOOK_INTERVAL};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vouch_types::{Applied, Command, DenyReason, LogIndex, ManagerId, ProbeRecord, Term, Timing};
use vouch_wire::convert::Fence;

use crate::counters::{Count, Counters};
use crate::fleet::Fleet;
use crate::raft::{Consensus, ProposeError};
use crate::seams::{Clock, Followed, Follower, WallClock};

/// How often a reconciler runs when nothing changes.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two rounds of a reconciler.
pub const ROUND_GAP: Duration = Duration::from_millis(20);
/// How long a round waits for one command, in greatest election timeouts.
const COMMAND_ELECTIONS: u32 = 10;

/// What a round of a reconciler found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ReconcilerReport {
    /// Things that it still has to bring about.
    pub pending: u64,
    /// What stands in its way, for people.
    pub problem: Option<String>,
}

/// Why a round ended early; the next one begins anew.
#[derive(Debug, Error)]
pub(crate) enum RoundError {
    /// A command was not applied.
    #[error("{command} was not applied")]
    Propose {
        /// Which.
        command: &'static str,
        /// Why.
        #[source]
        source: ProposeError,
    },
    /// A command was refused.
    #[error("{command} was refused: {reason}")]
    Denied {
        /// Which.
        command: &'static str,
        /// Why.
        reason: DenyReason,
    },
    /// A command took too long.
    #[error("{command} was not applied within {within:?}")]
    Timeout {
        /// Which.
        command: &'static str,
        /// How long it had.
        within: Duration,
    },
    /// The cluster's keys cannot be used.
    #[error("the cluster's keys cannot be used")]
    Keys(#[from] vouch_wire::sign::SignError),
}

/// One thing that the leader keeps bringing about.
#[async_trait]
pub(crate) trait Reconciler: Send + 'static {
    /// Returns its name.
    fn name(&self) -> &'static str;

    /// Forgets what it did as an earlier leader.
    fn reset(&mut self);

    /// Brings about what it can.
    async fn round(&mut self, desk: &Desk, term: Term) -> Result<ReconcilerReport, RoundError>;
}

/// What reconcilers work with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    pub(crate) consensus: Consensus,
    pub(crate) fleet: Fleet,
}

impl Desk {
    /// Has a command applied.
    pub(crate) async fn propose(&self, command: Command) -> Result<Applied, RoundError> {
        let name = command.name();
        let within = self.timing.raft_election_max * COMMAND_ELECTIONS;
        match tokio::time::timeout(within, self.consensus.propose(command)).await {
            Ok(Ok(Applied::Denied(reason))) => Err(RoundError::Denied { command: name, reason }),
            Ok(Ok(applied)) => Ok(applied),
            Ok(Err(source)) => Err(RoundError::Propose { command: name, source }),
            Err(_) => Err(RoundError::Timeout { command: name, within }),
        }
    }

    /// Returns what orders are fenced with now.
    pub(crate) fn fence(&self, term: Term) -> Fence {
        Fence { term, log_index: self.applied() }
    }

    fn applied(&self) -> LogIndex {
        *self.consensus.applied_index().borrow()
    }
}

/// What the background is made of.
pub(crate) struct BackgroundParts {
    pub(crate) own: ManagerId,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    pub(crate) consensus: Consensus,
    pub(crate) fleet: Fleet,
    pub(crate) counters: Counters,
    pub(crate) shipped: Vec<ProbeRecord>,
    pub(crate) disk: Disk,
}

/// Leadership and the reconcilers of one manager, before they start.
pub(crate) struct Background {
    parts: BackgroundParts,
    leading: Followed<Option<Term>>,
    reports: watch::Sender<BTreeMap<&'static str, ReconcilerReport>>,
    disk: watch::Sender<DiskReport>,
}

impl Background {
    pub(crate) fn new(parts: BackgroundParts) -> Self {
        let disk = watch::Sender::new(DiskReport::first(&parts.disk));
        Self { parts, leading: Followed::new(None), reports: watch::Sender::new(BTreeMap::new()), disk }
    }

    /// Returns a receiver that follows what is known of the disk.
    pub(crate) fn disk(&self) -> watch::Receiver<DiskReport> {
        self.disk.subscribe()
    }

    /// Returns a follower of the term in which this manager leads with a quorum behind it.
    pub(crate) fn leading(&self) -> Follower<Option<Term>> {
        self.leading.follow()
    }

    /// Returns a receiver that follows what the reconcilers report.
    pub(crate) fn reports(&self) -> watch::Receiver<BTreeMap<&'static str, ReconcilerReport>> {
        self.reports.subscribe()
    }

    /// Starts everything.
    pub(crate) fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let Self { parts, leading, reports, disk: disk_report } = self;
        let desk = Desk {
            timing: parts.timing.clone(),
            clock: parts.clock,
            wall_clock: Arc::clone(&parts.wall_clock),
            consensus: parts.consensus.clone(),
            fleet: parts.fleet,
        };
        let reconcilers: Vec<Box<dyn Reconciler>> = vec![
            Box::new(probes::ProbesReconciler::new(parts.shipped)),
            Box::new(inventory::InventoryReconciler::default()),
            Box::new(placement::PlacementReconciler::default()),
            Box::new(ownership::OwnershipReconciler::default()),
            Box::new(assignments::AssignmentsReconciler::default()),
            Box::new(rollouts::RolloutsReconciler::default()),
            Box::new(maintenance::MaintenanceReconciler::default()),
            Box::new(member_logs::MemberLogsReconciler::default()),
        ];
        for reconciler in reconcilers {
            let run = Run {
                reconciler,
                desk: desk.clone(),
                leading: leading.follow(),
                reports: reports.clone(),
                counters: parts.counters.clone(),
            };
            let stop = stop.clone();
            tasks.spawn(async move { stop.run_until_cancelled_owned(run.run()).await });
        }
        let task = wall_clock::WallClockTask {
            own: parts.own,
            clock: desk.clock,
            wall_clock: Arc::clone(&parts.wall_clock),
            consensus: parts.consensus.clone(),
        };
        let watched = stop.clone();
        tasks.spawn(async move { watched.run_until_cancelled_owned(task.run()).await });
        let disk = disk::DiskTask {
            own: parts.own,
            disk: parts.disk,
            consensus: parts.consensus.clone(),
            fleet: desk.fleet.clone(),
            report: disk_report,
        };
        let disk_stop = stop.clone();
        tasks.spawn(async move { disk_stop.run_until_cancelled_owned(disk.run()).await });
        let task = leadership::LeadershipTask {
            own: parts.own,
            timing: parts.timing,
            wall_clock: parts.wall_clock,
            consensus: parts.consensus,
            leading,
        };
        let stop = stop.clone();
        tasks.spawn(async move { stop.run_until_cancelled_owned(task.run()).await });
    }
}

/// One reconciler while it runs.
struct Run {
    reconciler: Box<dyn Reconciler>,
    desk: Desk,
    leading: Follower<Option<Term>>,
    reports: watch::Sender<BTreeMap<&'static str, ReconcilerReport>>,
    counters: Counters,
}

impl Run {
    async fn run(mut self) {
        let name = self.reconciler.name();
        let mut fleet = self.desk.fleet.changes();
        let mut interval = tokio::time::interval(RECONCILE_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Term> = None;
        loop {
            tokio::select! {
                biased;
                () = self.leading.changed() => {}
                () = fleet.changed() => {}
                _ = interval.tick() => {}
            }
            let Some(term) = self.leading.see() else {
                if last.take().is_some() {
                    self.reports.send_modify(|reports| drop(reports.remove(name)));
                }
                continue;
            };
            if last != Some(term) {
                self.reconciler.reset();
                last = Some(term);
            }
            // Seen now: what changes during the round calls for another one.
            fleet.see();
            let report = match self.reconciler.round(&self.desk, term).await {
                Ok(report) => report,
                Err(error) => {
                    self.counters.add(Count::ReconcilerFailures, name, 1);
                    tracing::warn!(reconciler = name, error = &error as &dyn std::error::Error, "round failed");
                    ReconcilerReport { pending: 1, problem: Some(error.to_string()) }
                }
            };
            self.reports.send_if_modified(|reports| reports.insert(name, report.clone()).as_ref() != Some(&report));
            tokio::time::sleep(ROUND_GAP).await;
        }
    }
}
