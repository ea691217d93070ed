//! What a made-up process tells the API.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::{CaStage, ClusterId, DenyReason, ManagerId, Network, NodeId, ProbeName, VmId};
use vouch_wire::convert::{DurationHistogram, DurationKey};

use crate::api::ca_view::CaView;
use crate::api::live::{CaError, CaStep, MemberChange};
use crate::api::view::{
    CheckView, EvidenceView, FactView, HeardView, HearingView, LookView, ObservationView, ReasonView, SampleView,
    StateComparedView, StateHashView,
};
use crate::api::{CheckError, InitError, LiveView, Metric, MetricKind, Readiness};
use crate::raft::MembershipError;

/// Who hears which node, as the fleet would tell.
pub(super) type Heard = Arc<Mutex<Vec<HeardView>>>;

/// The made-up process.
pub(super) struct SimLive {
    pub(super) own: ManagerId,
    pub(super) heard: Heard,
}

#[async_trait]
impl LiveView for SimLive {
    async fn evidence(&self, vm: VmId) -> Option<EvidenceView> {
        let look = |watcher: &str, probe: &str, outcome: &str, reason: &str, age_ms| ObservationView {
            watcher: watcher.to_owned(),
            watcher_node: "n1".to_owned(),
            same_node: true,
            network: "service".to_owned(),
            probe: probe.to_owned(),
            outcome: outcome.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            age_ms,
            fresh: true,
            healthy: true,
            proven: true,
        };
        Some(EvidenceView {
            observations: vec![
                look("w1", "ping", "up", "replied", 5),
                look("w1", "rdp", "down", "closed", 5),
                look("w2", "rdp", "up", "handshake", 5),
                look("w1", "tcp", "up", "connected", 9_000),
            ],
            vm: vm.to_string(),
            manager: self.own.to_string(),
            leads: true,
            live: true,
            state: "up".to_owned(),
            reason: "its node says that it runs".to_owned(),
            used: vec!["node n1 says running, 0.2 s ago".to_owned()],
            discounted: vec!["w2, ping: never succeeded for this vm".to_owned()],
            would_change: vec!["its node's silence for 1.5 s".to_owned()],
            ..EvidenceView::default()
        })
    }

    async fn check(&self, vm: VmId) -> Result<CheckView, CheckError> {
        let look = |probe: &str, outcome: &str, reason: &str, seconds| LookView {
            watcher: "w1".to_owned(),
            network: "service".to_owned(),
            probe: probe.to_owned(),
            outcome: outcome.to_owned(),
            reason: reason.to_owned(),
            seconds,
            ..LookView::default()
        };
        let round_trip = SampleView { name: "round_trip_mean".to_owned(), value: 0.002, unit: "seconds".to_owned() };
        let fact = FactView { name: "name".to_owned(), value: "desk-7".to_owned() };
        Ok(CheckView {
            vm: vm.to_string(),
            asked: vec!["w1".to_owned()],
            answered: vec!["w1".to_owned()],
            took_ms: 7,
            looks: vec![
                LookView { samples: vec![round_trip], facts: vec![fact], ..look("ping", "up", "replied", 0.003) },
                look("rdp", "down", "closed", 0.001),
                look("tcp", "unknown", "unreachable", 0.0),
            ],
        })
    }

    async fn hearing(&self) -> HearingView {
        HearingView { nodes: self.heard.lock().unwrap().clone(), ..HearingView::default() }
    }

    async fn readiness(&self) -> Readiness {
        Readiness { reasons: vec![ReasonView::new("no_quorum", "no quorum of managers answers")], notes: Vec::new() }
    }

    fn state_hashes(&self) -> StateHashView {
        let compared = StateComparedView { log_index: 64, hash: "0c".to_owned(), same: false };
        StateHashView {
            log_index: Some(128),
            hash: Some("0b".to_owned()),
            compared: [("m2".to_owned(), compared)].into(),
        }
    }

    async fn metrics(&self) -> Vec<Metric> {
        vec![Metric {
            name: "messages_stale_dropped",
            help: "Messages dropped.",
            kind: MetricKind::Counter,
            labels: vec![("of", "node".to_owned())],
            value: 5,
        }]
    }

    fn durations(&self) -> Vec<(DurationKey, DurationHistogram)> {
        let (probe, node) = (ProbeName::new("rdp").unwrap(), NodeId::new("n9").unwrap());
        let mut histogram = DurationHistogram::default();
        [400, 700, 700, 9_000_000].iter().for_each(|micros| histogram.count(Duration::from_micros(*micros)));
        vec![(DurationKey { probe, network: Network::Service, node }, histogram)]
    }

    async fn init_cluster(&self) -> Result<ClusterId, InitError> {
        Err(InitError::AlreadyInitialised)
    }

    async fn ca(&self) -> Result<CaView, CaError> {
        let (stage, ca_certificates) = ("steady".to_owned(), String::new());
        Ok(CaView { stage, cas: Vec::new(), behind: Vec::new(), ca_certificates })
    }

    async fn rotate_ca(&self, step: CaStep) -> Result<CaView, CaError> {
        match step {
            CaStep::Begin => self.ca().await,
            CaStep::Switch { .. } => Err(CaError::Refused(DenyReason::CaStage(CaStage::Steady))),
            CaStep::Finish { without } => {
                let behind = ["n1.node.vouch", "n2.node.vouch"].map(ToOwned::to_owned);
                let behind = behind.into_iter().filter(|n| !without.iter().any(|w| w.server_name() == *n)).collect();
                Err(CaError::Behind { stage: CaStage::Renewing, behind })
            }
        }
    }

    async fn change_members(&self, change: MemberChange) -> Result<(), MembershipError> {
        match change {
            MemberChange::Add(manager, _) => Err(MembershipError::AlreadyMember(manager)),
            MemberChange::Promote(manager) => Err(MembershipError::Behind { manager, behind: 5_000 }),
            MemberChange::Remove(manager) if manager.get() > 3 => Err(MembershipError::NotMember(manager)),
            MemberChange::Remove(_) | MemberChange::Transfer(_) => Ok(()),
        }
    }
}
