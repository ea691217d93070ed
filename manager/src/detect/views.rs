//! What the detector holds, in the words of the API.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_detector::VmEvidence;
use vouch_types::{
    Findings, HypervisorState, ManagerId, Moment, Network, NodeId, PauseReason, ProbeName, RelayOutcome, WatcherHealth,
    WatcherId,
};

use crate::api::view::{
    EvidenceView, FactView, LookView, NodeWordView, ObservationView, PhaseView, RelayView, SampleView, StatementView,
};
use crate::fleet::looks::Look;
use crate::store::State;

/// What a watcher last said of a relay, and how it was itself.
pub(crate) struct RelayWord {
    pub(crate) watcher: WatcherId,
    pub(crate) node: NodeId,
    pub(crate) outcome: RelayOutcome,
    pub(crate) begun: Moment,
    pub(crate) now: Moment,
    pub(crate) health: Option<WatcherHealth>,
}

/// What probes said for people of one VM, by who looked, where and with what: the detector keeps no texts.
pub(crate) type Messages = BTreeMap<(WatcherId, Network, ProbeName), String>;

/// Who shows the evidence, and by what.
pub(super) struct EvidenceContext<'a> {
    pub(super) own: ManagerId,
    pub(super) leads: bool,
    pub(super) window: Duration,
    pub(super) state: &'a State,
}

const fn hypervisor_word(state: HypervisorState) -> &'static str {
    match state {
        HypervisorState::Running => "running",
        HypervisorState::Paused(PauseReason::Operator) => "paused by an operator",
        HypervisorState::Paused(PauseReason::IoError) => "paused on an I/O error",
        HypervisorState::Paused(PauseReason::Migration) => "paused by a migration",
        HypervisorState::Paused(PauseReason::Other) => "paused",
        HypervisorState::Rebooting => "rebooting",
        HypervisorState::Stopped => "stopped",
        HypervisorState::Panicked => "panicked",
        HypervisorState::Gone(_) => "gone",
        HypervisorState::Unknown => "unknown",
    }
}

const fn relay_word(outcome: RelayOutcome) -> &'static str {
    match outcome {
        RelayOutcome::Reached => "reached",
        RelayOutcome::Refused => "refused",
        RelayOutcome::Stalled => "stalled",
        RelayOutcome::Silent => "silent",
        RelayOutcome::Denied => "denied",
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the evidence on a VM in the words of the API.
pub(super) fn evidence_view(
    context: &EvidenceContext<'_>,
    evidence: &VmEvidence,
    relays: &[RelayWord],
    messages: &Messages,
) -> EvidenceView {
    let record = context.state.vms().get(&evidence.vm);
    let generation = record.map_or(0, |vm| vm.generation.get());
    let node_of = |watcher: WatcherId| context.state.watchers().get(&watcher).map(|w| w.node.clone());
    let name_of = |node: Option<&NodeId>| node.map(ToString::to_string).unwrap_or_default();
    let fresh = |age: Duration| age <= context.window;
    let health = |watcher| relays.iter().find(|r| r.watcher == watcher).and_then(|r| r.health.as_ref());
    let observations = evidence.checks.iter().map(|check| {
        let watcher_node = node_of(check.watcher);
        let proven =
            record.is_some_and(|vm| vm.proven.iter().any(|p| p.probe == check.probe && p.network == check.network));
        ObservationView {
            watcher: check.watcher.to_string(),
            watcher_node: name_of(watcher_node.as_ref()),
            same_node: watcher_node.as_ref() == Some(&evidence.node),
            network: check.network.to_string(),
            probe: check.probe.to_string(),
            outcome: outcome_word(check.outcome).to_owned(),
            reason: check.reason.clone(),
            message: messages.get(&(check.watcher, check.network, check.probe.clone())).cloned().unwrap_or_default(),
            age_ms: millis(check.age),
            fresh: fresh(check.age),
            healthy: health(check.watcher).is_none_or(|h| h.is_healthy_on(check.network)),
            proven,
        }
    });
    let relay_views = relays.iter().filter(|r| r.node == evidence.node).map(|r| {
        let watcher_node = node_of(r.watcher);
        let age = r.now.since(r.begun);
        RelayView {
            watcher: r.watcher.to_string(),
            watcher_node: name_of(watcher_node.as_ref()),
            same_node: watcher_node.as_ref() == Some(&evidence.node),
            node: r.node.to_string(),
            outcome: relay_word(r.outcome).to_owned(),
            age_ms: millis(age),
            fresh: fresh(age),
        }
    });
    EvidenceView {
        vm: evidence.vm.to_string(),
        manager: context.own.to_string(),
        leads: context.leads,
        live: true,
        digest: record.map(|vm| vm.verdict.evidence.to_string()).unwrap_or_default(),
        explanation: vec![
            format!(
                "the node's own word {}",
                match evidence.source {
                    vouch_types::Source::Direct => "rules: some manager hears the node",
                    vouch_types::Source::Watcher => "is not heard: watchers speak for it",
                }
            ),
            format!("by this evidence the vm is {}: {}", evidence.state, evidence.reason),
        ],
        node_words: evidence
            .word
            .iter()
            .map(|(state, age)| NodeWordView {
                manager: context.own.to_string(),
                node: evidence.node.to_string(),
                state: hypervisor_word(*state).to_owned(),
                generation,
                age_ms: millis(*age),
                fresh: fresh(*age),
            })
            .collect(),
        statements: evidence
            .statement
            .iter()
            .map(|(state, age, watcher)| StatementView {
                watcher: watcher.to_string(),
                node: evidence.node.to_string(),
                state: hypervisor_word(*state).to_owned(),
                generation,
                age_ms: millis(*age),
                fresh: fresh(*age),
            })
            .collect(),
        observations: observations.collect(),
        relays: relay_views.collect(),
        state: evidence.state.as_str().to_owned(),
        reason: evidence.reason.clone(),
        used: evidence.used.clone(),
        discounted: evidence.discounted.clone(),
        would_change: evidence.would_change.clone(),
    }
}

/// Returns what a watcher found, for the API.
pub(super) fn look_view(watcher: WatcherId, look: Look) -> LookView {
    let Findings { phases, samples, facts } = look.found.unwrap_or_default();
    LookView {
        watcher: watcher.to_string(),
        network: look.seen.network.to_string(),
        probe: look.seen.probe.to_string(),
        outcome: outcome_word(look.seen.outcome).to_owned(),
        reason: look.seen.reason,
        message: look.seen.message,
        seconds: look.seen.took.as_secs_f64(),
        phases: phases.into_iter().map(|p| PhaseView { name: p.name, seconds: p.took.as_secs_f64() }).collect(),
        samples: samples.into_iter().map(|s| SampleView { name: s.name, value: s.value, unit: s.unit }).collect(),
        facts: facts.into_iter().map(|(name, value)| FactView { name, value }).collect(),
    }
}

const fn outcome_word(outcome: vouch_types::Outcome) -> &'static str {
    match outcome {
        vouch_types::Outcome::Up => "up",
        vouch_types::Outcome::Degraded => "degraded",
        vouch_types::Outcome::Down => "down",
        vouch_types::Outcome::Unknown => "unknown",
    }
}
