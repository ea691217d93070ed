//! Incidents: one shared fault, with what it touches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EventView, FaultView, TimeView};

/// One shared fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct IncidentView {
    /// Its id.
    #[schema(example = "i3")]
    pub id: String,
    /// What is shared, for people.
    #[schema(example = "node n1")]
    pub scope: String,
    /// `network`, `rack`, `node`, `flapping`, `datastore`, `manager` or `site`.
    #[schema(example = "node")]
    pub kind: String,
    /// Which one.
    #[schema(example = "n1")]
    pub of: String,
    /// `open` or `closed`.
    pub state: String,
    /// What is broken, with ranked causes.
    pub fault: FaultView,
    /// How many VMs it touches, or touched last.
    pub vms_touched: u64,
    /// How many nodes it touches, or touched last.
    pub nodes_touched: u64,
    /// Those nodes; at most 64.
    pub nodes: Vec<String>,
    /// Why, in one sentence.
    pub reason: String,
    /// When it opened.
    pub opened: TimeView,
    /// Log index of that.
    pub opened_index: u64,
    /// When it closed; absent while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<TimeView>,
}

/// An incident with the VMs that it touches now and with its story.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct IncidentDetailView {
    /// The incident.
    pub incident: IncidentView,
    /// VMs that it touches now, by UUID; none when it is closed.
    pub vms: Vec<IncidentVmView>,
    /// How many more there are.
    pub vms_omitted: u64,
    /// Its events, oldest first, as far as they are kept.
    pub events: Vec<EventView>,
}

/// A VM that an incident touches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct IncidentVmView {
    /// UUID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The node that owns it.
    pub node: String,
    /// Its state.
    pub state: String,
}
