//! The story of past verdicts on one VM, from the replicated events alone.
//!
//! Pure. It follows the VM from node to node as it moved, so that what happened to a node is told for as long as the VM
//! was there and no longer.

use std::collections::BTreeSet;
use std::time::Duration;

use vouch_types::duration::{self, DURATION_RULE};
use vouch_types::time::TIME_RULE;
use vouch_types::{
    EventKind, EventRecord, IncidentId, IncidentScope, IncidentWord, NodeId, PolicyScope, ScopedProbe, ScopedProbeKey,
    VmId, VmSpec, WallTime,
};

use super::story::parse_position;
use crate::store::State;
use crate::store::changes::EventPosition;

/// A place in the story, as a reader names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// So long ago.
    Ago(Duration),
    /// At a time of day.
    At(WallTime),
    /// At the position of an event.
    Position(EventPosition),
}

impl When {
    /// Returns the place that a text names.
    ///
    /// # Errors
    /// The rule, when it names none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(ago) = duration::parse(text) {
            return Ok(Self::Ago(ago));
        }
        if let Ok(position) = parse_position(text) {
            return Ok(Self::Position(position));
        }
        let rule = || format!("must be {DURATION_RULE} (ago); a time of {TIME_RULE}; or a position INDEX.ORDINAL");
        text.parse().map(Self::At).map_err(|_| rule())
    }

    /// Returns whether an event lies at this place or after it; `now` is the reader's time of day, since times are for
    /// people and decide nothing.
    pub fn is_reached(self, event: &EventRecord, now: WallTime) -> bool {
        match self {
            Self::Ago(ago) => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                event.at.as_unix_millis() >= now.as_unix_millis().saturating_sub(ago)
            }
            Self::At(time) => event.at >= time,
            Self::Position(position) => (event.index, event.ordinal) >= position,
        }
    }

    /// Returns whether an event lies after this place.
    pub fn is_passed(self, event: &EventRecord, now: WallTime) -> bool {
        match self {
            Self::Ago(ago) => {
                let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                event.at.as_unix_millis() > now.as_unix_millis().saturating_sub(ago)
            }
            Self::At(time) => event.at > time,
            Self::Position(position) => (event.index, event.ordinal) > position,
        }
    }
}

/// One VM on its way through the events.
struct Trail<'a> {
    state: &'a State,
    vm: VmId,
    spec: Option<&'a VmSpec>,
    node: Option<NodeId>,
    incidents: BTreeSet<IncidentId>,
    /// Whether some manager was last said not to hear the VM's node.
    unheard: bool,
}

/// Returns the events that tell the story of a VM, oldest first; `None` when neither a record nor an event knows it.
pub fn trace(state: &State, vm: VmId) -> Option<Vec<&EventRecord>> {
    let record = state.vms().get(&vm);
    // Where it was before the first event that says so.
    let first = state.events().find_map(|event| match &event.kind {
        EventKind::VmRegistered { vm: id, node, .. } | EventKind::VmRemoved { vm: id, node } if *id == vm => Some(node),
        EventKind::VmMoved { vm: id, from, .. } if *id == vm => Some(from),
        _ => None,
    });
    let node = first.or(record.map(|record| &record.node)).cloned()?;
    let spec = record.map(|record| &record.spec);
    let mut trail = Trail { state, vm, spec, node: Some(node), incidents: BTreeSet::new(), unheard: false };
    Some(state.events().map(AsRef::as_ref).filter(|event| trail.takes(&event.kind)).collect())
}

impl Trail<'_> {
    /// Returns whether an event belongs to the story, and goes on to where it leaves the VM.
    fn takes(&mut self, kind: &EventKind) -> bool {
        match kind {
            EventKind::ClusterInitialised
            | EventKind::CaRotated { .. }
            | EventKind::ManagerLogLost { .. }
            | EventKind::ManagerReturnEnded { .. }
            | EventKind::ProbeRecorded { .. }
            | EventKind::ProbeGranted { .. }
            | EventKind::ProbeRolloutBegun { .. }
            | EventKind::ProbeCanaryChosen { .. }
            | EventKind::ProbeRolledOut { .. }
            | EventKind::ProbeTakenBack { .. }
            | EventKind::ProbeRefused { .. }
            | EventKind::ProbeKeyAdded { .. }
            | EventKind::ProbeKeyRemoved { .. }
            | EventKind::SignatureRuleChanged { .. }
            | EventKind::WatcherPlaced { .. }
            | EventKind::WatcherLive { .. }
            | EventKind::WatcherLost { .. }
            | EventKind::WatcherRetired { .. } => false,
            EventKind::LeaderElected { .. } => true,
            EventKind::NodeJoined { node }
            | EventKind::NodeRebooted { node }
            | EventKind::NodeAgentRestarted { node }
            | EventKind::NodeRemoved { node, .. }
            | EventKind::PathChanged { node, .. }
            | EventKind::PathRecovered { node, .. }
            | EventKind::FenceProofRecorded { node, .. }
            | EventKind::FenceProofWithdrawn { node, .. } => self.is_on(node),
            EventKind::VmRegistered { vm, node, .. } => {
                let own = *vm == self.vm;
                if own {
                    self.node = Some(node.clone());
                }
                own
            }
            EventKind::VmMoved { vm, to, .. } => {
                let own = *vm == self.vm;
                if own {
                    self.node = Some(to.clone());
                }
                own
            }
            EventKind::VmRemoved { vm, .. } => {
                let own = *vm == self.vm;
                if own {
                    self.node = None;
                }
                own
            }
            EventKind::VmStateChanged { vm, .. }
            | EventKind::VmFaultsChanged { vm, .. }
            | EventKind::VmPinsForgotten { vm } => *vm == self.vm,
            EventKind::IncidentOpened { incident, scope, word }
            | EventKind::IncidentChanged { incident, scope, word } => {
                // What touched it once is told to its end.
                self.incidents.contains(incident) || (self.is_touched(scope, word) && self.incidents.insert(*incident))
            }
            EventKind::IncidentClosed { incident, scope } => {
                // Its opening may have left the kept events; the record still says what it touched last.
                let known = || self.state.incidents().get(incident).is_some_and(|i| self.is_touched(scope, &i.word));
                self.incidents.contains(incident) || known()
            }
            EventKind::JoinTokenCreated { .. } | EventKind::JoinTokenRevoked { .. } => false,
            EventKind::JoinTokenUsed { joiner, .. } => {
                matches!(joiner, vouch_types::Joiner::Node(node) if self.is_on(node))
            }
            EventKind::PolicyChanged { scope, .. }
            | EventKind::ProbeAssigned { assigned: ScopedProbe { scope, .. } }
            | EventKind::ProbeUnassigned { key: ScopedProbeKey { scope, .. }, .. }
            | EventKind::MaintenanceBegun { scope, .. }
            | EventKind::MaintenanceEnded { scope, .. } => self.is_in(scope),
            EventKind::ManagerNotesChanged { notes } => {
                let unheard = notes.iter().any(|note| self.is_on(&note.node));
                std::mem::replace(&mut self.unheard, unheard) || unheard
            }
        }
    }

    fn is_on(&self, node: &NodeId) -> bool {
        self.node.as_ref() == Some(node)
    }

    fn is_in(&self, scope: &PolicyScope) -> bool {
        match scope {
            PolicyScope::Cluster => true,
            PolicyScope::Node(node) => self.is_on(node),
            PolicyScope::Tag { key, value } => self.spec.is_some_and(|spec| spec.labels.get(key) == Some(value)),
            PolicyScope::Vm(vm) => *vm == self.vm,
        }
    }

    fn is_touched(&self, scope: &IncidentScope, word: &IncidentWord) -> bool {
        let Some(node) = &self.node else { return false };
        let is_named = || word.nodes.contains(node) || word.nodes_touched > word.nodes.len() as u64;
        match scope {
            IncidentScope::Network(_) | IncidentScope::Manager(_) | IncidentScope::Site => is_named(),
            IncidentScope::Rack(rack) => {
                self.state.nodes().get(node).is_some_and(|record| record.rack.as_ref() == Some(rack))
            }
            IncidentScope::Node(scope) | IncidentScope::Flapping(scope) => scope == node,
            IncidentScope::Datastore(store) => self.spec.is_some_and(|spec| spec.datastore.as_ref() == Some(store)),
        }
    }
}

#[cfg(test)]
mod tests;
