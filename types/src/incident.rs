//! Incidents: one shared fault with the VMs that it touches, told once (rule 8).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Fault, IncidentId, LogIndex, ManagerId, Network, NodeId, WallTime};

/// The most nodes that one incident names; `nodes_touched` counts them all.
pub const INCIDENT_NODES_MAX: usize = 64;
/// How many closed incidents are kept; the oldest leave first.
pub const INCIDENTS_KEPT: usize = 1_000;

/// The element that is shared: there is at most one open incident per scope.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "of")]
pub enum IncidentScope {
    /// A whole network.
    Network(Network),
    /// A rack.
    Rack(String),
    /// A node.
    Node(NodeId),
    /// The path to a node that comes and goes.
    Flapping(NodeId),
    /// A store of disks.
    Datastore(String),
    /// A manager that does not hear what others hear.
    Manager(ManagerId),
    /// All nodes: no manager hears any of them, or any watcher.
    Site,
}

impl fmt::Display for IncidentScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "network {network}"),
            Self::Rack(rack) => write!(f, "rack {rack}"),
            Self::Node(node) => write!(f, "node {node}"),
            Self::Flapping(node) => write!(f, "path to {node}"),
            Self::Datastore(store) => write!(f, "datastore {store}"),
            Self::Manager(manager) => write!(f, "manager {manager}"),
            Self::Site => f.write_str("site"),
        }
    }
}

/// What an incident says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncidentWord {
    /// What is broken, with ranked causes.
    pub fault: Fault,
    /// How many VMs it touches now.
    pub vms_touched: u64,
    /// How many nodes it touches now.
    pub nodes_touched: u64,
    /// Those nodes, sorted; at most [`INCIDENT_NODES_MAX`].
    pub nodes: Vec<NodeId>,
    /// Why, in one sentence for people; at most 256 bytes.
    pub reason: String,
}

/// An incident that opens, says something else, or closes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncidentChange {
    /// Of what.
    pub scope: IncidentScope,
    /// What it says now; `None` closes it.
    pub word: Option<IncidentWord>,
}

/// An incident as the cluster records it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// Its number: never used again.
    pub id: IncidentId,
    /// Of what.
    pub scope: IncidentScope,
    /// What it says, or said last.
    pub word: IncidentWord,
    /// When it opened.
    pub opened: WallTime,
    /// Log index of that.
    pub opened_index: LogIndex,
    /// When it closed; `None` while it is open.
    pub closed: Option<WallTime>,
}
