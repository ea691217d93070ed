//! The whole state as one value: what a snapshot holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vouch_types::{EventRecord, IncidentRecord, NodeRecord, ProbeRecord, RemovedNode, VmRecord, WatcherRecord};

use super::State;
use super::state::{Head, Marks, OnceRecord};

/// The whole state as one value. Records carry their ids, so lists suffice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Image {
    head: Head,
    nodes: Vec<Arc<NodeRecord>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<Arc<RemovedNode>>,
    vms: Vec<Arc<VmRecord>>,
    watchers: Vec<Arc<WatcherRecord>>,
    probes: Vec<Arc<ProbeRecord>>,
    #[serde(default)]
    incidents: Vec<Arc<IncidentRecord>>,
    events: Vec<Arc<EventRecord>>,
    #[serde(default)]
    once: Vec<Arc<OnceRecord>>,
    #[serde(default)]
    marks: Marks,
}

impl From<&State> for Image {
    fn from(state: &State) -> Self {
        Self {
            head: state.head.clone(),
            nodes: state.nodes.values().cloned().collect(),
            removed: state.removed.values().cloned().collect(),
            vms: state.vms().values().cloned().collect(),
            watchers: state.watchers.values().cloned().collect(),
            probes: state.probes.values().cloned().collect(),
            incidents: state.incidents.values().cloned().collect(),
            events: state.events.iter().cloned().collect(),
            once: state.once.iter().cloned().collect(),
            marks: state.marks.clone(),
        }
    }
}

impl From<Image> for State {
    fn from(image: Image) -> Self {
        Self {
            head: image.head,
            nodes: image.nodes.into_iter().map(|r| (r.id.clone(), r)).collect(),
            removed: image.removed.into_iter().map(|r| (r.id.clone(), r)).collect(),
            vms: image.vms.into_iter().collect(),
            watchers: image.watchers.into_iter().map(|r| (r.id, r)).collect(),
            probes: image.probes.into_iter().map(|r| (r.name.clone(), r)).collect(),
            incidents: image.incidents.into_iter().map(|r| (r.id, r)).collect(),
            events: image.events.into(),
            once: image.once.into(),
            marks: image.marks,
        }
    }
}
