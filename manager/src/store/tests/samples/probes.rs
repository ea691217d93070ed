//! Versions of probes on their way, what a probe says of itself, and assignments by scope.

use vouch_types::{
    Command, Digest, LogIndex, Network, PolicyScope, ProbeAssignment, ProbeDescriptor, ProbeName, ProbeRecord,
    RolloutPlan, RolloutStep, ScopedProbe, Tally, WatcherId,
};

use super::{at, uploaded};

/// A probe of so many versions.
pub(crate) fn rolling(version: u8) -> ProbeRecord {
    let name = ProbeName::new("rolling-ping").unwrap();
    ProbeRecord { name, version: format!("{version}.0.0"), digest: Digest::new([version; 32]), ..uploaded() }
}

pub(crate) fn begin_rollout(next: ProbeRecord) -> Command {
    let (plan, by) = (RolloutPlan::default(), "admin token of m1".to_owned());
    Command::BeginRollout { probe: Box::new(next), plan, by, at: at(49) }
}

pub(crate) fn step_rollout(version: u8, step: RolloutStep) -> Command {
    let ProbeRecord { name: probe, digest, .. } = rolling(version);
    Command::StepRollout { probe, digest, step, by: "admin token of m2".to_owned(), at: at(49) }
}

pub(crate) fn tally(watcher: WatcherId) -> RolloutStep {
    let spent = std::time::Duration::from_secs(10);
    let (new, others) = (Tally { runs: 9, faults: 1 }, Tally { runs: 20, faults: 2 });
    RolloutStep::Record { watcher, new, others, spent }
}

/// An uploaded probe that says what it is.
pub(crate) fn described() -> ProbeRecord {
    let descriptor = ProbeDescriptor {
        summary: "It answers.".to_owned(),
        settings_schema: Some(r#"{"type":"object"}"#.to_owned()),
        networks: [Network::Service].into(),
        ports: [22].into(),
        interval_ms: Some(4_000),
        timeout_ms: Some(2_000),
    };
    ProbeRecord { name: ProbeName::new("told-ping").unwrap(), descriptor: Some(descriptor), ..uploaded() }
}

/// [`described`], assigned to a scope with these settings.
pub(crate) fn scoped(scope: PolicyScope, settings: &str) -> ScopedProbe {
    let assignment =
        ProbeAssignment { probe: described().name, network: Network::Service, settings: settings.to_owned() };
    let by = "admin token of m1".to_owned();
    let (interval_ms, timeout_ms) = (Some(500), Some(400));
    ScopedProbe { scope, assignment, interval_ms, timeout_ms, by, modified: LogIndex::default() }
}

pub(crate) fn assign(scope: PolicyScope, settings: &str) -> Command {
    Command::AssignProbe { assigned: scoped(scope, settings), at: at(53) }
}

pub(crate) fn unassign(scope: PolicyScope) -> Command {
    Command::UnassignProbe { key: scoped(scope, "{}").key(), by: "admin token of m2".to_owned(), at: at(53) }
}
