//! The hash of the applied state as the API shows it, here and on the other managers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The hash of this manager's applied state, and how it compares with the others'.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct StateHashView {
    /// The newest checkpoint here: a log index at which every manager hashes its state. Absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_index: Option<u64>,
    /// The hash there, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The last comparison with each other manager.
    pub compared: BTreeMap<String, StateComparedView>,
}

/// A comparison of the state with another manager's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateComparedView {
    /// The checkpoint at which both were compared.
    pub log_index: u64,
    /// The other's hash there.
    pub hash: String,
    /// Whether it is the one here.
    pub same: bool,
}
