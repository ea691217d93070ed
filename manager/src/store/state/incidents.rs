//! Incidents: at most one is open per scope, and what is open is told once, whoever leads.

use std::sync::Arc;

use vouch_types::incident::{INCIDENT_NODES_MAX, INCIDENTS_KEPT};
use vouch_types::{EventKind, IncidentChange, IncidentId, IncidentRecord, IncidentScope, IncidentWord, WallTime};

use super::State;
use super::apply::Step;
use super::verdicts::shortened;

impl State {
    /// Returns the open incident of a scope.
    pub fn open_incident(&self, scope: &IncidentScope) -> Option<&Arc<IncidentRecord>> {
        self.open_incidents().find(|incident| incident.scope == *scope)
    }

    /// Returns all open incidents, oldest first. Open ones are few, and never leave to make room.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Arc<IncidentRecord>> {
        self.incidents.values().filter(|incident| incident.closed.is_none())
    }

    pub(super) fn record_incident(&mut self, step: &mut Step, change: IncidentChange, at: WallTime) {
        // It was under way when the node was removed: opened now, it would be told for nothing.
        if change.word.is_some() && self.is_of_removed(&change.scope) {
            return;
        }
        let known = self.open_incident(&change.scope).cloned();
        match (known, change.word) {
            (None, None) => {}
            (None, Some(word)) => self.open(step, change.scope, bounded(word), at),
            (Some(known), Some(word)) => {
                let word = bounded(word);
                if known.word == word {
                    return;
                }
                let (incident, scope) = (known.id, known.scope.clone());
                step.event(at, EventKind::IncidentChanged { incident, scope, word: word.clone() });
                self.put_incident(step, IncidentRecord { word, ..(*known).clone() });
            }
            (Some(known), None) => {
                let (incident, scope) = (known.id, known.scope.clone());
                step.event(at, EventKind::IncidentClosed { incident, scope });
                self.put_incident(step, IncidentRecord { closed: Some(at.max(known.opened)), ..(*known).clone() });
                self.forget_old_incidents(step);
            }
        }
    }

    fn is_of_removed(&self, scope: &IncidentScope) -> bool {
        match scope {
            IncidentScope::Node(node) | IncidentScope::Flapping(node) => self.shut_out(node).is_some(),
            IncidentScope::Network(_)
            | IncidentScope::Rack(_)
            | IncidentScope::Datastore(_)
            | IncidentScope::Manager(_)
            | IncidentScope::Site => false,
        }
    }

    fn open(&mut self, step: &mut Step, scope: IncidentScope, word: IncidentWord, at: WallTime) {
        self.head.incidents_opened += 1;
        step.changes.head = true;
        let id = IncidentId::new(self.head.incidents_opened);
        step.event(at, EventKind::IncidentOpened { incident: id, scope: scope.clone(), word: word.clone() });
        self.put_incident(step, IncidentRecord { id, scope, word, opened: at, opened_index: step.index, closed: None });
    }

    fn put_incident(&mut self, step: &mut Step, incident: IncidentRecord) {
        step.changes.incidents.insert(incident.id);
        self.incidents.insert(incident.id, Arc::new(incident));
    }

    fn forget_old_incidents(&mut self, step: &mut Step) {
        while self.incidents.len() > INCIDENTS_KEPT {
            let closed = self.incidents.values().find(|incident| incident.closed.is_some());
            let Some(oldest) = closed.map(|incident| incident.id) else { return };
            self.incidents.remove(&oldest);
            step.changes.incidents.insert(oldest);
        }
    }
}

fn bounded(mut word: IncidentWord) -> IncidentWord {
    word.nodes.truncate(INCIDENT_NODES_MAX);
    word.reason = shortened(word.reason);
    word
}
