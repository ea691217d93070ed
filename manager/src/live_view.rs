//! What the API asks the running manager for.

use async_trait::async_trait;
use tokio::sync::oneshot;
use vouch_types::{ClusterId, ManagerId, Network, VmId};
use vouch_wire::convert::{DurationHistogram, DurationKey};

use crate::api::ca_view::CaView;
use crate::api::live::{CaError, CaStep, MemberChange};
use crate::api::view::{CheckView, EvidenceView, HearingView, ReasonView, StateComparedView, StateHashView};
use crate::api::{CheckError, InitError, LiveView, Metric, MetricKind, Readiness};
use crate::detect::DetectorInput;
use crate::manager::ManagerHandle;
use crate::raft::{MembershipError, Room};

const MIB: u64 = 1024 * 1024;
/// How long a hand-over of the leadership may take, in greatest election timeouts.
const TRANSFER_ELECTIONS: u32 = 6;

/// The running manager as the API sees it.
pub(crate) struct Live(pub(crate) ManagerHandle);

fn gauge(name: &'static str, help: &'static str, labels: Vec<(&'static str, String)>, value: u64) -> Metric {
    Metric { name, help, kind: MetricKind::Gauge, labels, value }
}

#[async_trait]
impl LiveView for Live {
    async fn evidence(&self, vm: VmId) -> Option<EvidenceView> {
        let (reply, answer) = oneshot::channel();
        self.0.0.detector.send(DetectorInput::Evidence { vm, reply }).await.ok()?;
        answer.await.ok().flatten()
    }

    async fn check(&self, vm: VmId) -> Result<CheckView, CheckError> {
        let (reply, answer) = oneshot::channel();
        if self.0.0.detector.send(DetectorInput::Check { vm, reply }).await.is_err() {
            return Err(CheckError::NotLeader);
        }
        answer.await.unwrap_or(Err(CheckError::NotLeader))
    }

    async fn hearing(&self) -> HearingView {
        self.0.0.fleet.hearing()
    }

    async fn readiness(&self) -> Readiness {
        let inner = &self.0.0;
        let now = inner.clock.now();
        let status = inner.consensus.status();
        let mut reasons = Vec::new();
        let lost = inner.consensus.lost_log();
        if let Some(lost) = lost {
            let message = format!(
                "this manager has lost its log: {} knows it by log {}, and it has {}; the leader removes it and adds it \
                 again by itself",
                lost.by,
                lost.recorded,
                inner.consensus.log_name()
            );
            reasons.push(ReasonView::new("log_lost", message));
        }
        if lost.is_none() && inner.consensus.read_state(|state| state.cluster().is_none()) {
            reasons.push(ReasonView::new("not_initialised", "there is no cluster yet: run `vouch cluster init`"));
        }
        match status.leader {
            None => reasons.push(ReasonView::new("no_leader", "no manager leads, as far as this one knows")),
            Some(leader) if leader == inner.manager && self.0.leads().is_none() => {
                reasons.push(ReasonView::new("no_quorum", "this manager led and hears too few others to go on"));
            }
            Some(_) => {}
        }
        let window = inner.timing.window;
        if now.since(inner.started) < window {
            reasons.push(ReasonView::new("warming_up", format!("started less than one window ({window:?}) ago")));
        }
        let members = inner.members.now();
        let mut alive = inner.fleet.managers_heard(now - window);
        alive.insert(inner.manager);
        let voting = |id: &ManagerId| status.voters.is_empty() || status.voters.contains_key(id);
        let voters = members.keys().filter(|id| voting(id)).count();
        let answering = members.keys().filter(|id| voting(id) && alive.contains(id)).count();
        if answering * 2 <= voters {
            let message = format!("{answering} of {voters} managers with a vote are heard, this one included");
            reasons.push(ReasonView::new("no_quorum", message));
        }
        let others = members.keys().filter(|id| **id != inner.manager).count();
        let heard = members.keys().filter(|id| **id != inner.manager && alive.contains(id)).count();
        let mut notes = Vec::new();
        if !members.values().any(|m| m.address_on(Network::Service).is_some()) {
            let message = "managers have no address on the service network: a dead management network cannot be told";
            notes.push(ReasonView::new("one_network", message));
        }
        if heard < others {
            notes.push(ReasonView::new("managers_silent", format!("{heard} of {others} other managers are heard")));
        }
        for (name, report) in inner.reports.borrow().iter() {
            if let Some(problem) = &report.problem {
                notes.push(ReasonView::new("reconciler", format!("{name}: {problem}")));
            }
        }
        let disk = *inner.disk.borrow();
        if disk.room == Room::Low {
            let free = disk.free.unwrap_or_default() / MIB;
            let least = disk.least_free / MIB;
            let message =
                format!("{free} MiB are free, less than storage.free_min_mib = {least}: no entries are taken");
            notes.push(ReasonView::new("disk_low", message));
        }
        if let Some(message) = inner.certificates.overdue(inner.wall_clock.now()) {
            notes.push(ReasonView::new("certificate_not_renewed", message));
        }
        for manager in inner.fleet.managers_without_room() {
            notes.push(ReasonView::new("disk_low", format!("the disk of {manager} is below its watermark")));
        }
        for manager in inner.fleet.lost_logs() {
            let message = format!("{manager} has lost its log, and is removed and added again by itself");
            notes.push(ReasonView::new("log_lost", message));
        }
        let divergences = inner.fleet.divergences();
        // Whoever differs from most of the others is the one that is wrong, as far as can be told.
        let list = if divergences.len() * 2 > others { &mut reasons } else { &mut notes };
        for (manager, found) in divergences {
            let message = format!("its state differs from that of {manager} since log index {}", found.index);
            list.push(ReasonView::new("state_diverged", message));
        }
        Readiness { reasons, notes }
    }

    async fn metrics(&self) -> Vec<Metric> {
        let inner = &self.0.0;
        let mut metrics = inner.counters.metrics();
        let queued = inner.detector.max_capacity() - inner.detector.capacity();
        metrics.push(gauge("detector_queue", "Events that wait for the detector.", Vec::new(), queued as u64));
        let leads = u64::from(self.0.leads().is_some());
        metrics.push(gauge("leads", "Whether this manager leads with a quorum behind it.", Vec::new(), leads));
        let disk = *inner.disk.borrow();
        let low = u64::from(disk.room == Room::Low);
        metrics.push(gauge("disk_low", "Whether the disk of this manager is below its watermark.", Vec::new(), low));
        if let Some(free) = disk.free {
            metrics.push(gauge("disk_free_bytes", "Bytes that are free where the data is kept.", Vec::new(), free));
        }
        let diverged = inner.fleet.divergences().len() as u64;
        let help = "Other managers whose state differs from this one's.";
        metrics.push(gauge("state_divergences", help, Vec::new(), diverged));
        let lost = u64::from(inner.consensus.lost_log().is_some());
        metrics.push(gauge("log_lost", "Whether this manager has lost its log.", Vec::new(), lost));
        let lost = inner.fleet.lost_logs().len() as u64;
        let help = "Other managers that have lost their logs, and are not yet what they were before.";
        metrics.push(gauge("managers_log_lost", help, Vec::new(), lost));
        metrics.push(Metric {
            name: "state_checkpoints_compared",
            help: "Hashes of the state that were compared with those of other managers.",
            kind: MetricKind::Counter,
            labels: Vec::new(),
            value: inner.fleet.checkpoints_compared(),
        });
        metrics.extend(inner.certificates.metrics(inner.manager, self.0.certificates_seen()));
        for (name, report) in inner.reports.borrow().iter() {
            let labels = vec![("reconciler", (*name).to_owned())];
            let metric = gauge(
                "reconciler_pending",
                "Things that a reconciler still has to bring about.",
                labels,
                report.pending,
            );
            metrics.push(metric);
        }
        metrics
    }

    fn durations(&self) -> Vec<(DurationKey, DurationHistogram)> {
        self.0.0.fleet.durations()
    }

    fn state_hashes(&self) -> StateHashView {
        let inner = &self.0.0;
        let newest = inner.consensus.newest_checkpoints().into_iter().max_by_key(|checkpoint| checkpoint.index);
        let compared = inner.fleet.compared_with().into_iter().map(|(manager, compared)| {
            let view = StateComparedView {
                log_index: compared.index.get(),
                hash: compared.theirs.to_string(),
                same: compared.agrees,
            };
            (manager.to_string(), view)
        });
        StateHashView {
            log_index: newest.as_ref().map(|checkpoint| checkpoint.index.get()),
            hash: newest.map(|checkpoint| checkpoint.digest.to_string()),
            compared: compared.collect(),
        }
    }

    async fn init_cluster(&self) -> Result<ClusterId, InitError> {
        self.0.init_cluster().await
    }

    async fn ca(&self) -> Result<CaView, CaError> {
        self.0.ca().await
    }

    async fn rotate_ca(&self, step: CaStep) -> Result<CaView, CaError> {
        self.0.rotate_ca(step).await
    }

    async fn change_members(&self, change: MemberChange) -> Result<(), MembershipError> {
        let consensus = &self.0.0.consensus;
        match change {
            MemberChange::Add(manager, node) => consensus.add_member(manager, node).await,
            MemberChange::Promote(manager) => consensus.promote_member(manager).await,
            MemberChange::Remove(manager) => consensus.give_up_member(manager, self.0.0.wall_clock.now()).await,
            MemberChange::Transfer(to) => {
                let within = self.0.0.timing.raft_election_max * TRANSFER_ELECTIONS;
                consensus.hand_over(to, within).await
            }
        }
    }
}
