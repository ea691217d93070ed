//! What came of the removal of a node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::VmInTheWay;

/// A node that was removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeRemovedView {
    /// Its name.
    pub id: String,
    /// The log index of the removal.
    pub log_index: u64,
    /// How many VMs were recorded on it.
    pub vms: u64,
    /// How many watchers were recorded on it.
    pub watchers: u64,
    /// How many of the VMs may still run there: nothing proves that they do not.
    pub forgotten: u64,
    /// The first of those, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<VmLeftView>,
}

/// A VM that may run on a node which is removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct VmLeftView {
    /// Its UUID.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Its state, as recorded.
    pub state: String,
}

impl From<&VmInTheWay> for VmLeftView {
    fn from(vm: &VmInTheWay) -> Self {
        Self { id: vm.id.to_string(), name: vm.name.clone(), state: vm.state.to_string() }
    }
}
