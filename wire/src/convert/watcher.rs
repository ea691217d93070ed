//! What a watcher says: observations, relay observations, health.
//!
//! On the wire a check's beginning is a tick of the receiving manager; only that manager can turn it into a moment on
//! its own clock, so what is converted here still carries the tick.

use std::time::Duration;

use vouch_types::{
    AssignmentGeneration, Identity, ManagerId, Moment, Network, NodeId, Nonce, Observation, Outcome, PeerReach,
    ProbeName, RelayObservation, RelayOutcome, Sequence, TickSequence, VmId, WatcherHealth, WatcherId,
};

use super::findings::{WireFindings, findings};
use super::report::{micros, tick};
use super::{
    ConvertError, age, at_most, distinct, limits, manager_id, network, node_id, outcome, probe_name, relay_outcome,
    text, vm_bytes, vm_id, watcher_id,
};
use crate::proto;

/// One run of one probe, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireObservation {
    /// At which VM.
    pub vm: VmId,
    /// Over which network.
    pub network: Network,
    /// With which probe.
    pub probe: ProbeName,
    /// What it came to.
    pub outcome: Outcome,
    /// One word of the probe.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// The last tick of the receiving manager that the watcher had when the run began; 0 for none.
    pub begun: TickSequence,
    /// Time between that tick's arrival and the beginning. For information: no age is made of it.
    pub begun_after: Duration,
    /// How long the run took.
    pub took: Duration,
    /// Who answered, where the probe can tell.
    pub identity: Option<Identity>,
}

impl WireObservation {
    /// Returns it as the manager holds it, begun at the moment that the manager found for its tick.
    pub fn at(self, watcher: WatcherId, begun: Moment, asked: Option<Nonce>) -> Observation {
        Observation {
            watcher,
            vm: self.vm,
            network: self.network,
            probe: self.probe,
            outcome: self.outcome,
            reason: self.reason,
            message: self.message,
            identity: self.identity,
            begun,
            asked,
        }
    }
}

impl From<WireObservation> for proto::Observation {
    fn from(o: WireObservation) -> Self {
        Self {
            vm: vm_bytes(o.vm),
            network: proto::Network::from(o.network).into(),
            probe: o.probe.as_str().to_owned(),
            outcome: proto::Outcome::from(o.outcome).into(),
            reason: o.reason,
            message: o.message,
            begun: Some(proto::Tick { sequence: o.begun.get() }),
            begun_after_micros: micros(o.begun_after),
            took_micros: micros(o.took),
            identity: o.identity.map(Identity::get),
        }
    }
}

impl From<&WireObservation> for proto::Observation {
    fn from(o: &WireObservation) -> Self {
        o.clone().into()
    }
}

impl TryFrom<proto::Observation> for WireObservation {
    type Error = ConvertError;
    fn try_from(m: proto::Observation) -> Result<Self, ConvertError> {
        Ok(Self {
            vm: vm_id("observation.vm", &m.vm)?,
            network: network("observation.network", m.network)?,
            probe: probe_name("observation.probe", &m.probe)?,
            outcome: outcome("observation.outcome", m.outcome)?,
            reason: on_one_line(text("observation.reason", m.reason, limits::REASON_MAX)?),
            message: on_one_line(text("observation.message", m.message, limits::MESSAGE_MAX)?),
            begun: tick(m.begun),
            begun_after: age("observation.begun_after_micros", m.begun_after_micros)?,
            took: age("observation.took_micros", m.took_micros)?,
            identity: m.identity.map(Identity::new),
        })
    }
}

/// Takes out what would disturb a terminal or a log.
fn on_one_line(text: String) -> String {
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

/// One question to a node's relay, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRelayObservation {
    /// Which node's relay.
    pub node: NodeId,
    /// What came of it.
    pub outcome: RelayOutcome,
    /// Managers that the node's agent hears, as its relay said.
    pub hears: Vec<ManagerId>,
    /// The last tick of the receiving manager that the watcher had when it began; 0 for none.
    pub begun: TickSequence,
}

impl WireRelayObservation {
    /// Returns it as the manager holds it, begun at the moment that the manager found for its tick.
    pub fn at(self, watcher: WatcherId, begun: Moment, asked: Option<Nonce>) -> RelayObservation {
        RelayObservation { watcher, node: self.node, outcome: self.outcome, hears: self.hears, begun, asked }
    }
}

impl From<&WireRelayObservation> for proto::RelayObservation {
    fn from(o: &WireRelayObservation) -> Self {
        Self {
            node: o.node.as_str().to_owned(),
            outcome: proto::RelayOutcome::from(o.outcome).into(),
            begun: Some(proto::Tick { sequence: o.begun.get() }),
            hears: o.hears.iter().map(|m| m.get()).collect(),
        }
    }
}

impl TryFrom<proto::RelayObservation> for WireRelayObservation {
    type Error = ConvertError;
    fn try_from(m: proto::RelayObservation) -> Result<Self, ConvertError> {
        at_most("relay_observation.hears", m.hears.len(), limits::MANAGERS_MAX, "managers")?;
        Ok(Self {
            node: node_id("relay_observation.node", &m.node)?,
            outcome: relay_outcome("relay_observation.outcome", m.outcome)?,
            hears: m.hears.into_iter().map(|id| manager_id("relay_observation.hears", id)).collect::<Result<_, _>>()?,
            begun: tick(m.begun),
        })
    }
}

impl From<&WatcherHealth> for proto::WatcherHealth {
    fn from(h: &WatcherHealth) -> Self {
        Self {
            loop_lag_micros: micros(h.loop_lag),
            steal_percent: h.steal_percent.into(),
            management_reached: h.management_reached,
            service_reached: h.service_reached,
            management_loss_per_mille: h.management_loss_per_mille.into(),
            service_loss_per_mille: h.service_loss_per_mille.into(),
            peers: h
                .peers
                .iter()
                .map(|p| proto::PeerReach {
                    watcher: p.peer.get(),
                    network: proto::Network::from(p.network).into(),
                    reached: p.reached,
                })
                .collect(),
        }
    }
}

impl TryFrom<proto::WatcherHealth> for WatcherHealth {
    type Error = ConvertError;
    fn try_from(m: proto::WatcherHealth) -> Result<Self, ConvertError> {
        let steal_percent = u8::try_from(m.steal_percent)
            .ok()
            .filter(|p| *p <= 100)
            .ok_or_else(|| ConvertError::new("health.steal_percent", m.steal_percent, "must be 0 to 100"))?;
        at_most("health.peers", m.peers.len(), limits::PEER_REACHES_MAX, "words on peers")?;
        distinct("health.peers", m.peers.iter().map(|p| (p.watcher, p.network)))?;
        let reach = |p: &proto::PeerReach| {
            let peer = watcher_id("health.peers.watcher", p.watcher)?;
            Ok(PeerReach { peer, network: network("health.peers.network", p.network)?, reached: p.reached })
        };
        Ok(Self {
            loop_lag: age("health.loop_lag_micros", m.loop_lag_micros)?,
            steal_percent,
            management_reached: m.management_reached,
            service_reached: m.service_reached,
            management_loss_per_mille: per_mille("health.management_loss_per_mille", m.management_loss_per_mille)?,
            service_loss_per_mille: per_mille("health.service_loss_per_mille", m.service_loss_per_mille)?,
            peers: m.peers.iter().map(reach).collect::<Result<_, ConvertError>>()?,
        })
    }
}

/// Returns a share in per mille.
///
/// # Errors
/// [`ConvertError`] when it is over 1000.
pub(super) fn per_mille(field: &'static str, value: u32) -> Result<u16, ConvertError> {
    u16::try_from(value).ok().filter(|v| *v <= 1000).ok_or_else(|| ConvertError::new(field, value, "must be 0 to 1000"))
}

/// What has changed for a watcher since its last report, and how fresh the rest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherReport {
    /// Position among the reports of this incarnation on this stream.
    pub sequence: Sequence,
    /// The assignment that it works by.
    pub assignment: AssignmentGeneration,
    /// All observations are here; else only changed ones.
    pub full: bool,
    /// Observations.
    pub observations: Vec<WireObservation>,
    /// Questions to relays.
    pub relays: Vec<WireRelayObservation>,
    /// Everything that is not here is as it was, from checks begun no longer ago than this.
    pub others_age: Option<Duration>,
    /// How the watcher itself is.
    pub health: Option<WatcherHealth>,
    /// The last tick of the receiving manager that the watcher had when it made the report; 0 for none.
    pub tick: TickSequence,
}

impl From<&WatcherReport> for proto::WatcherReport {
    fn from(r: &WatcherReport) -> Self {
        Self {
            sequence: r.sequence.get(),
            assignment: r.assignment.get(),
            full: r.full,
            observations: r.observations.iter().map(Into::into).collect(),
            relays: r.relays.iter().map(Into::into).collect(),
            others_age_micros: r.others_age.map(micros),
            health: r.health.as_ref().map(Into::into),
            tick: Some(proto::Tick { sequence: r.tick.get() }),
        }
    }
}

fn observations(list: Vec<proto::Observation>) -> Result<Vec<WireObservation>, ConvertError> {
    at_most("observations", list.len(), limits::OBSERVATIONS_PER_REPORT_MAX, "observations")?;
    let list: Vec<_> = list.into_iter().map(WireObservation::try_from).collect::<Result<_, _>>()?;
    distinct("observations", list.iter().map(|o| (o.vm, o.network, o.probe.as_str())))?;
    Ok(list)
}

fn relays(list: Vec<proto::RelayObservation>) -> Result<Vec<WireRelayObservation>, ConvertError> {
    at_most("relays", list.len(), limits::RELAYS_PER_REPORT_MAX, "relay observations")?;
    distinct("relays", list.iter().map(|r| &r.node))?;
    list.into_iter().map(WireRelayObservation::try_from).collect()
}

impl TryFrom<proto::WatcherReport> for WatcherReport {
    type Error = ConvertError;
    fn try_from(m: proto::WatcherReport) -> Result<Self, ConvertError> {
        Ok(Self {
            sequence: Sequence::new(m.sequence),
            assignment: AssignmentGeneration::new(m.assignment),
            full: m.full,
            observations: observations(m.observations)?,
            relays: relays(m.relays)?,
            others_age: m.others_age_micros.map(|micros| age("report.others_age_micros", micros)).transpose()?,
            health: m.health.map(WatcherHealth::try_from).transpose()?,
            tick: tick(m.tick),
        })
    }
}

/// A watcher's answer to an ask: only checks begun after the ask came.
#[derive(Debug, Clone, PartialEq)]
pub struct WatcherAnswer {
    /// The ask.
    pub nonce: Nonce,
    /// The assignment that it works by.
    pub assignment: AssignmentGeneration,
    /// Observations.
    pub observations: Vec<WireObservation>,
    /// Questions to relays.
    pub relays: Vec<WireRelayObservation>,
    /// Statements that relays gave, still signed and unchecked.
    pub statements: Vec<proto::Signed>,
    /// Nothing more follows for this nonce.
    pub complete: bool,
    /// How the watcher itself is.
    pub health: Option<WatcherHealth>,
    /// What some of the observations rest on, if the ask wanted to know.
    pub findings: Vec<WireFindings>,
}

impl From<WatcherAnswer> for proto::Answer {
    fn from(a: WatcherAnswer) -> Self {
        Self {
            nonce: a.nonce.get(),
            observations: a.observations.iter().map(Into::into).collect(),
            relays: a.relays.iter().map(Into::into).collect(),
            statements: a.statements,
            complete: a.complete,
            health: a.health.as_ref().map(Into::into),
            assignment: a.assignment.get(),
            findings: a.findings.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::Answer> for WatcherAnswer {
    type Error = ConvertError;
    fn try_from(m: proto::Answer) -> Result<Self, ConvertError> {
        at_most("answer.statements", m.statements.len(), limits::STATEMENTS_PER_ANSWER_MAX, "statements")?;
        Ok(Self {
            nonce: Nonce::new(m.nonce),
            assignment: AssignmentGeneration::new(m.assignment),
            observations: observations(m.observations)?,
            relays: relays(m.relays)?,
            statements: m.statements,
            complete: m.complete,
            health: m.health.map(WatcherHealth::try_from).transpose()?,
            findings: findings(m.findings)?,
        })
    }
}
