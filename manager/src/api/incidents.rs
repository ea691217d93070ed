//! Incidents as the API shows them, and which VMs one touches.
//!
//! Pure. An incident names its nodes and counts its VMs; which VMs these are now follows from the records.

use vouch_types::{EventKind, IncidentRecord, IncidentScope, IncidentWord, LogIndex, VmId, VmRecord};

use super::limits::{INCIDENT_EVENTS_MAX, INCIDENT_VMS_MAX};
use super::story::event_view;
use super::view::{IncidentDetailView, IncidentView, IncidentVmView};
use crate::store::State;

/// Returns the kind of a scope, and which one it is.
pub fn scope_parts(scope: &IncidentScope) -> (&'static str, String) {
    match scope {
        IncidentScope::Network(network) => ("network", network.to_string()),
        IncidentScope::Rack(rack) => ("rack", rack.clone()),
        IncidentScope::Node(node) => ("node", node.to_string()),
        IncidentScope::Flapping(node) => ("flapping", node.to_string()),
        IncidentScope::Datastore(store) => ("datastore", store.clone()),
        IncidentScope::Manager(manager) => ("manager", manager.to_string()),
        IncidentScope::Site => ("site", "all nodes".to_owned()),
    }
}

/// The kinds of scopes, in the order of their declaration.
pub const SCOPE_KINDS: [&str; 7] = ["network", "rack", "node", "flapping", "datastore", "manager", "site"];

/// Returns whether what is shared by this scope is shared by this VM.
pub fn touches(state: &State, scope: &IncidentScope, word: &IncidentWord, vm: &VmRecord) -> bool {
    let is_named = || word.nodes.contains(&vm.node) || word.nodes_touched > word.nodes.len() as u64;
    match scope {
        IncidentScope::Network(_) | IncidentScope::Site => is_named(),
        IncidentScope::Rack(rack) => state.nodes().get(&vm.node).is_some_and(|node| node.rack.as_ref() == Some(rack)),
        IncidentScope::Node(node) | IncidentScope::Flapping(node) => vm.node == *node,
        IncidentScope::Datastore(store) => vm.spec.datastore.as_ref() == Some(store),
        // What one manager does not hear, others do: no VM is the worse for it.
        IncidentScope::Manager(_) => false,
    }
}

/// Returns the open incidents that touch a VM, oldest first.
pub fn incidents_of<'a>(state: &'a State, vm: &'a VmRecord) -> impl Iterator<Item = &'a IncidentRecord> {
    state.open_incidents().map(AsRef::as_ref).filter(move |i| touches(state, &i.scope, &i.word, vm))
}

/// Returns the incident as the API shows it.
pub fn incident_view(incident: &IncidentRecord) -> IncidentView {
    let (kind, of) = scope_parts(&incident.scope);
    let word = &incident.word;
    IncidentView {
        id: incident.id.to_string(),
        scope: incident.scope.to_string(),
        kind: kind.to_owned(),
        of,
        state: if incident.closed.is_none() { "open" } else { "closed" }.to_owned(),
        fault: (&word.fault).into(),
        vms_touched: word.vms_touched,
        nodes_touched: word.nodes_touched,
        nodes: word.nodes.iter().map(ToString::to_string).collect(),
        reason: word.reason.clone(),
        opened: incident.opened.into(),
        opened_index: incident.opened_index.get(),
        closed: incident.closed.map(Into::into),
    }
}

/// Returns the incident with what it touches now, and its story.
pub fn incident_detail(state: &State, incident: &IncidentRecord) -> IncidentDetailView {
    let touched = |vm: &VmRecord| incident.closed.is_none() && touches(state, &incident.scope, &incident.word, vm);
    let mut vms = state.vms().iter().filter(|(_, vm)| touched(vm));
    let shown = vms.by_ref().take(INCIDENT_VMS_MAX).map(|(id, vm)| vm_of_incident(*id, vm)).collect();
    let vms_omitted = vms.count() as u64;
    // The event of its opening has the index of its opening.
    let before = LogIndex::new(incident.opened_index.get().saturating_sub(1));
    let events = state.events_after((before, u32::MAX)).filter(|event| match &event.kind {
        EventKind::IncidentOpened { incident: id, .. }
        | EventKind::IncidentChanged { incident: id, .. }
        | EventKind::IncidentClosed { incident: id, .. } => *id == incident.id,
        _ => false,
    });
    let events: Vec<_> = events.collect();
    let last = events[events.len().saturating_sub(INCIDENT_EVENTS_MAX)..].iter();
    IncidentDetailView {
        incident: incident_view(incident),
        vms: shown,
        vms_omitted,
        events: last.map(|event| event_view(state, event)).collect(),
    }
}

fn vm_of_incident(id: VmId, vm: &VmRecord) -> IncidentVmView {
    IncidentVmView {
        id: id.to_string(),
        name: vm.spec.name.clone(),
        node: vm.node.to_string(),
        state: vm.verdict.state.as_str().to_owned(),
    }
}
