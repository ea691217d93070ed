//! A watcher VM as the cluster records it.
//!
//! ```text
//! Placed --> Live --> Lost --> Retired
//!    |                  ^         ^
//!    +------------------+---------+
//! ```

use serde::{Deserialize, Serialize};

use crate::{AssignmentGeneration, Incarnation, LogIndex, NodeId, VmId, WatcherId};

/// Where a watcher is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatcherLife {
    /// Its node has been told to create it; it has not been heard yet.
    Placed,
    /// It has redeemed its secret and is heard.
    Live,
    /// It is silent or its process is gone; another takes its place.
    Lost,
    /// Its node is to destroy it, and has not said yet that it has. Records leave the state after that.
    Retired,
}

impl WatcherLife {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Live => "live",
            Self::Lost => "lost",
            Self::Retired => "retired",
        }
    }
}

/// A watcher VM as the cluster records it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatcherRecord {
    /// Its number.
    pub id: WatcherId,
    /// The node that it runs on.
    pub node: NodeId,
    /// Where it is in its life.
    pub life: WatcherLife,
    /// Log index of its placement: orders about it carry this.
    pub placed: LogIndex,
    /// Its incarnation, once it has redeemed its secret.
    pub incarnation: Option<Incarnation>,
    /// SHA-256 of the one-time secret, until it is redeemed.
    pub secret_hash: Option<Vec<u8>>,
    /// The VMs that it watches.
    pub vms: Vec<VmId>,
    /// Generation of that list.
    pub assignment: AssignmentGeneration,
}
