//! Events as the API tells them: their fields for programs, and one line for people.
//!
//! Pure. A VM is named where its name is still known.

use serde_json::Value;
use vouch_types::{
    Advice, CaStage, EventKind, EventRecord, Fault, IncidentScope, IncidentWord, Joiner, LogIndex, NodeId, Policy,
    PolicyScope, ProbeAssignment, ProbeRefusal, ReturnEnd, ScopedProbe, ScopedProbeKey, VmId,
};

use super::view::{EventView, FaultView};
use crate::store::State;
use crate::store::changes::EventPosition;

/// Returns the position that `INDEX.ORDINAL` stands for.
///
/// # Errors
/// The rule, when the text has another shape.
pub fn parse_position(text: &str) -> Result<EventPosition, &'static str> {
    const RULE: &str = "must be INDEX.ORDINAL, as 42.0";
    let (index, ordinal) = text.split_once('.').ok_or(RULE)?;
    Ok((LogIndex::new(index.parse().map_err(|_| RULE)?), ordinal.parse().map_err(|_| RULE)?))
}

/// Returns the position as the API writes it.
pub fn position_text((index, ordinal): EventPosition) -> String {
    format!("{index}.{ordinal}")
}

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Subject<'a> {
    /// The VM.
    pub vm: Option<VmId>,
    /// The node.
    pub node: Option<&'a NodeId>,
}

/// Returns what an event is about.
pub fn subject(kind: &EventKind) -> Subject<'_> {
    match kind {
        EventKind::ClusterInitialised
        | EventKind::CaRotated { .. }
        | EventKind::LeaderElected { .. }
        | EventKind::ManagerLogLost { .. }
        | EventKind::ManagerReturnEnded { .. }
        | EventKind::ManagerNotesChanged { .. }
        | EventKind::JoinTokenCreated { .. }
        | EventKind::JoinTokenRevoked { .. }
        | EventKind::ProbeRecorded { .. }
        | EventKind::ProbeGranted { .. }
        | EventKind::ProbeRolloutBegun { .. }
        | EventKind::ProbeCanaryChosen { .. }
        | EventKind::ProbeRolledOut { .. }
        | EventKind::ProbeTakenBack { .. }
        | EventKind::ProbeRefused { .. }
        | EventKind::ProbeKeyAdded { .. }
        | EventKind::ProbeKeyRemoved { .. }
        | EventKind::SignatureRuleChanged { .. } => Subject::default(),
        EventKind::JoinTokenUsed { joiner: Joiner::Node(node), .. } => Subject { vm: None, node: Some(node) },
        EventKind::JoinTokenUsed { joiner: Joiner::Manager(_) | Joiner::Watcher(_), .. } => Subject::default(),
        EventKind::IncidentOpened { scope, .. }
        | EventKind::IncidentChanged { scope, .. }
        | EventKind::IncidentClosed { scope, .. } => match scope {
            IncidentScope::Node(node) | IncidentScope::Flapping(node) => Subject { vm: None, node: Some(node) },
            IncidentScope::Network(_)
            | IncidentScope::Rack(_)
            | IncidentScope::Datastore(_)
            | IncidentScope::Manager(_)
            | IncidentScope::Site => Subject::default(),
        },
        EventKind::PolicyChanged { scope, .. }
        | EventKind::MaintenanceBegun { scope, .. }
        | EventKind::ProbeAssigned { assigned: ScopedProbe { scope, .. } }
        | EventKind::ProbeUnassigned { key: ScopedProbeKey { scope, .. }, .. }
        | EventKind::MaintenanceEnded { scope, .. } => match scope {
            PolicyScope::Node(node) => Subject { vm: None, node: Some(node) },
            PolicyScope::Vm(vm) => Subject { vm: Some(*vm), node: None },
            PolicyScope::Cluster | PolicyScope::Tag { .. } => Subject::default(),
        },
        EventKind::NodeJoined { node }
        | EventKind::NodeRebooted { node }
        | EventKind::NodeAgentRestarted { node }
        | EventKind::NodeRemoved { node, .. }
        | EventKind::PathChanged { node, .. }
        | EventKind::PathRecovered { node, .. }
        | EventKind::FenceProofRecorded { node, .. }
        | EventKind::FenceProofWithdrawn { node, .. }
        | EventKind::WatcherPlaced { node, .. }
        | EventKind::WatcherLive { node, .. }
        | EventKind::WatcherLost { node, .. }
        | EventKind::WatcherRetired { node, .. } => Subject { vm: None, node: Some(node) },
        EventKind::VmRegistered { vm, node, .. } | EventKind::VmRemoved { vm, node } => {
            Subject { vm: Some(*vm), node: Some(node) }
        }
        EventKind::VmMoved { vm, to, .. } => Subject { vm: Some(*vm), node: Some(to) },
        EventKind::VmStateChanged { vm, .. }
        | EventKind::VmFaultsChanged { vm, .. }
        | EventKind::VmPinsForgotten { vm } => Subject { vm: Some(*vm), node: None },
    }
}

/// Returns whether an event belongs to the story of this VM, which is now on this node: its own events, and those of
/// its node's paths.
pub fn concerns(kind: &EventKind, vm: VmId, node: &NodeId) -> bool {
    match kind {
        EventKind::FenceProofRecorded { node: n, .. } | EventKind::FenceProofWithdrawn { node: n, .. } => n == node,
        EventKind::PathChanged { node: n, .. }
        | EventKind::PathRecovered { node: n, .. }
        | EventKind::NodeRebooted { node: n }
        | EventKind::NodeAgentRestarted { node: n }
        | EventKind::NodeRemoved { node: n, .. } => n == node,
        other => subject(other).vm == Some(vm),
    }
}

/// Returns the event as the API shows it.
pub fn event_view(state: &State, event: &EventRecord) -> EventView {
    let about = subject(&event.kind);
    let mut detail = serde_json::to_value(&event.kind).unwrap_or(Value::Null);
    let mut kind = String::new();
    if let Value::Object(fields) = &mut detail {
        if let Some(Value::String(name)) = fields.remove("kind") {
            kind = name;
        }
        // Faults look the same everywhere in the API.
        for (field, list) in fault_lists(&event.kind) {
            let views: Vec<FaultView> = list.iter().map(Into::into).collect();
            fields.insert(field.to_owned(), serde_json::to_value(views).unwrap_or(Value::Null));
        }
        if let EventKind::IncidentOpened { word, .. } | EventKind::IncidentChanged { word, .. } = &event.kind
            && let Some(Value::Object(told)) = fields.get_mut("word")
        {
            let fault = serde_json::to_value(FaultView::from(&word.fault)).unwrap_or(Value::Null);
            told.insert("fault".to_owned(), fault);
        }
    }
    EventView {
        id: position_text((event.index, event.ordinal)),
        index: event.index.get(),
        ordinal: event.ordinal,
        at: event.at.into(),
        kind,
        vm: about.vm.map(|vm| vm.to_string()),
        node: about.node.map(ToString::to_string),
        text: text(state, &event.kind),
        notify: event.kind.is_notification(),
        detail,
    }
}

fn fault_lists(kind: &EventKind) -> Vec<(&'static str, &[Fault])> {
    match kind {
        EventKind::VmStateChanged { faults, cleared, .. } if cleared.is_empty() => vec![("faults", faults)],
        EventKind::VmStateChanged { faults, cleared, .. } => vec![("faults", faults), ("cleared", cleared)],
        EventKind::PathChanged { faults, .. } => vec![("faults", faults)],
        EventKind::VmFaultsChanged { faults, notes, .. } => vec![("faults", faults), ("notes", notes)],
        _ => Vec::new(),
    }
}

fn named(state: &State, vm: VmId) -> String {
    state.vms().get(&vm).map_or_else(|| format!("vm {vm}"), |record| format!("vm {}", record.spec.name))
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn because(faults: &[Fault], advice: &Advice, reason: &str) -> String {
    let mut text = String::new();
    if !faults.is_empty() {
        text.push_str(&format!("; broken: {}", list(faults)));
    }
    if *advice != Advice::None {
        text.push_str(&format!("; advice: {}", advice.as_str()));
    }
    if !reason.is_empty() {
        text.push_str(&format!(" ({reason})"));
    }
    text
}

fn text(state: &State, kind: &EventKind) -> String {
    match kind {
        EventKind::ClusterInitialised => "the cluster was made".to_owned(),
        EventKind::CaRotated { to: CaStage::Spreading } => "a second CA is trusted".to_owned(),
        EventKind::CaRotated { to: CaStage::Renewing } => "the second CA signs".to_owned(),
        EventKind::CaRotated { to: CaStage::Steady } => "the first CA is trusted no more".to_owned(),
        EventKind::LeaderElected { manager, term } => format!("{manager} leads in term {term}"),
        EventKind::ManagerLogLost { manager } => {
            format!("{manager} has lost its log: it is removed and added again, and gets back what it had")
        }
        EventKind::ManagerReturnEnded { manager, end: ReturnEnd::Returned } => {
            format!("{manager} has the log again, and what it had before")
        }
        EventKind::ManagerReturnEnded { manager, end: ReturnEnd::GivenUp } => {
            format!("{manager} had lost its log, and was removed before it came back")
        }
        EventKind::NodeJoined { node } => format!("node {node} was heard for the first time"),
        EventKind::NodeRebooted { node } => format!("node {node} has rebooted"),
        EventKind::NodeAgentRestarted { node } => format!("the agent of node {node} was started again"),
        EventKind::NodeRemoved { node, vms, watchers, fence, by } => {
            let proof = fence.as_ref().map_or("nothing proved that it did not run".to_owned(), |proof| {
                format!("it did not run: {}", proof.kind.as_str())
            });
            format!("node {node} was removed with {vms} vms and {watchers} watchers, by the {by}; {proof}")
        }
        EventKind::VmRegistered { vm, node, generation } => {
            format!("{} is on node {node}, generation {generation}", named(state, *vm))
        }
        EventKind::VmRemoved { vm, node } => format!("vm {vm} is no longer on node {node}"),
        EventKind::VmStateChanged { vm, from, to, faults, advice, reason, .. } => {
            format!("{}: {from} -> {to}{}", named(state, *vm), because(faults, advice, reason))
        }
        EventKind::VmFaultsChanged { vm, state: now, faults, notes, advice, reason, suppressed } => {
            let mut line = format!("{} stays {now}{}", named(state, *vm), because(faults, advice, reason));
            if !notes.is_empty() {
                line.push_str(&format!("; notes: {}", list(notes)));
            }
            if !suppressed.is_empty() {
                line.push_str(&format!("; suppressed by {suppressed}"));
            }
            line
        }
        EventKind::VmMoved { vm, from, to, generation } => {
            format!("{} moved from node {from} to {to}, generation {generation}", named(state, *vm))
        }
        EventKind::VmPinsForgotten { vm } => {
            format!("{}: whom its probes find may be another from now on", named(state, *vm))
        }
        EventKind::IncidentOpened { incident, scope, word } => {
            format!("incident {incident} opened, {scope}: {}", incident_text(word))
        }
        EventKind::IncidentChanged { incident, scope, word } => {
            format!("incident {incident}, {scope}: {}", incident_text(word))
        }
        EventKind::IncidentClosed { incident, scope } => format!("incident {incident} closed, {scope}"),
        EventKind::PolicyChanged { scope, policy } if *policy == Policy::default() => {
            format!("the policy of {scope} was removed")
        }
        EventKind::PolicyChanged { scope, .. } => format!("the policy of {scope} was set"),
        EventKind::MaintenanceBegun { maintenance, scope, reason } => {
            format!("maintenance {maintenance} of {scope} began: {reason}")
        }
        EventKind::MaintenanceEnded { maintenance, scope } => format!("maintenance {maintenance} of {scope} ended"),
        EventKind::JoinTokenCreated { token, allows, uses, .. } => {
            format!("join token {token} was made, for {allows}, {uses} uses")
        }
        EventKind::JoinTokenUsed { token, joiner } => format!("{joiner} joined by token {token}"),
        EventKind::JoinTokenRevoked { token } => format!("join token {token} was revoked"),
        EventKind::FenceProofRecorded { node, proof } => {
            format!("node {node} does not run: {} of boot {}", proof.kind.as_str(), proof.boot)
        }
        EventKind::FenceProofWithdrawn { node, reason } => {
            format!("the proof that node {node} does not run is withdrawn: {reason}")
        }
        EventKind::PathChanged { node, from, to, faults, reason } => {
            format!("node {node}: source {from} -> {to}{}", because(faults, &Advice::None, reason))
        }
        EventKind::PathRecovered { node, reason } => {
            format!("node {node}: its own word rules again{}", because(&[], &Advice::None, reason))
        }
        EventKind::ManagerNotesChanged { notes } if notes.is_empty() => {
            "every manager hears what the others hear".to_owned()
        }
        EventKind::ManagerNotesChanged { notes } => {
            let deaf: Vec<String> =
                notes.iter().map(|note| format!("{} cannot hear node {}", note.manager, note.node)).collect();
            deaf.join(", ")
        }
        EventKind::WatcherPlaced { watcher, node } => format!("watcher {watcher} is created on node {node}"),
        EventKind::WatcherLive { watcher, node } => format!("watcher {watcher} on node {node} is live"),
        EventKind::WatcherLost { watcher, node, reason } => {
            format!("watcher {watcher} on node {node} is lost{}", because(&[], &Advice::None, reason))
        }
        EventKind::WatcherRetired { watcher, node } => format!("watcher {watcher} on node {node} is retired"),
        EventKind::ProbeRecorded { probe, digest, by, signer } => {
            let signed = signer.as_ref().map(|signer| format!(", signed by {}", signer.key)).unwrap_or_default();
            let which = digest.map(|digest| format!(", sha256 {}", digest.short())).unwrap_or_default();
            let by = if by.is_empty() { String::new() } else { format!(", by the {by}") };
            format!("probe {probe} was recorded{which}{signed}{by}")
        }
        EventKind::ProbeRefused { refusal: ProbeRefusal { probe, digest, reason, by, unrecorded } } => {
            let more =
                if *unrecorded == 0 { String::new() } else { format!("; {unrecorded} before it were not recorded") };
            format!("probe {probe}, sha256 {}, was refused to the {by}: {reason}{more}", digest.short())
        }
        EventKind::ProbeKeyAdded { key, by, .. } => format!("probe key {key} is trusted, by the {by}"),
        EventKind::ProbeKeyRemoved { key, by, .. } => format!("probe key {key} is trusted no more, by the {by}"),
        EventKind::SignatureRuleChanged { signatures, by } => {
            format!("signatures under probes are {}, by the {by}", signatures.as_str())
        }
        EventKind::ProbeRolloutBegun { probe, version, digest, by } => {
            format!("probe {probe} {version}, sha256 {}, is on its way to all watchers, by the {by}", digest.short())
        }
        EventKind::ProbeCanaryChosen { probe, digest, watcher } => {
            format!("probe {probe}, sha256 {}, is run by {watcher} before the others", digest.short())
        }
        EventKind::ProbeRolledOut { probe, digest, reason, by } => {
            format!("probe {probe}, sha256 {}, was recorded for all watchers{}: {reason}", digest.short(), ordered(by))
        }
        EventKind::ProbeTakenBack { probe, digest, reason, by } => {
            format!("probe {probe}, sha256 {}, was taken back{}: {reason}", digest.short(), ordered(by))
        }
        EventKind::ProbeAssigned { assigned: ScopedProbe { scope, assignment, by, .. } } => {
            let ProbeAssignment { probe, network, settings } = assignment;
            format!("probe {probe} is assigned to {scope} over the {network} network, settings {settings}, by the {by}")
        }
        EventKind::ProbeUnassigned { key: ScopedProbeKey { scope, probe, network }, by } => {
            format!("probe {probe} is assigned to {scope} over the {network} network no more, by the {by}")
        }
        EventKind::ProbeGranted { probe, grant, by } => format!("probe {probe} is granted {grant}, by the {by}"),
    }
}

fn ordered(by: &str) -> String {
    if by.is_empty() { String::new() } else { format!(", by the {by}") }
}

fn incident_text(word: &IncidentWord) -> String {
    format!("{}; {} vms on {} nodes; {}", word.fault, word.vms_touched, word.nodes_touched, word.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_printing_and_others_are_refused() {
        let position = (LogIndex::new(42), 3);
        assert_eq!(parse_position(&position_text(position)), Ok(position));
        for bad in ["", "42", "42.", ".1", "a.b", "-1.0", "1.2.3"] {
            assert!(parse_position(bad).is_err(), "{bad}");
        }
    }
}
