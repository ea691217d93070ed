//! Networks, sources, and the replicated state of a node's paths.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Fault, VerdictVersion, WallTime};

/// One of the two networks that every path runs over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Managers, nodes, watchers and relays.
    Management,
    /// The VMs and their users.
    Service,
}

impl Network {
    /// Both networks, management first.
    pub const ALL: [Self; 2] = [Self::Management, Self::Service];

    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Network {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|n| n.as_str() == s)
            .ok_or_else(|| format!("network {s:?}: must be management or service"))
    }
}

/// Where a VM's state now comes from. It follows from the paths of the VM's node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Its node, heard by some manager of the quorum.
    Direct,
    /// Watchers, because no manager hears the node.
    Watcher,
}

impl Source {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Watcher => "watcher",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The most hand-backs that are remembered of one node: as many as it takes to be flapping.
pub const HAND_BACKS_MAX: usize = 3;

/// A hand-back that was told and still counts towards flapping.
///
/// What is left is counted from the moment at which the command that recorded it was applied, on the clock of whoever
/// applied it: the clocks of two managers are never compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandBack {
    /// For how long it still counts; zero for one that counts only because the path has flapped ever since.
    #[serde(with = "crate::duration", rename = "left_ms")]
    pub left: Duration,
}

/// Replicated state of the paths to one node: the source of all its VMs and the faults that they share.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodePath {
    /// Where the states of the node's VMs come from.
    pub source: Source,
    /// What is broken between the managers and the node; empty while all is well.
    pub faults: Vec<Fault>,
    /// Raised by every recorded change.
    pub version: VerdictVersion,
    /// Since when, as the proposing leader's wall clock said.
    pub since: WallTime,
    /// Hand-backs that still counted towards flapping when this was recorded, the latest last; at most
    /// [`HAND_BACKS_MAX`]. Left out while there are none: the hash of a state is then what an earlier version makes of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hand_backs: Vec<HandBack>,
}

impl NodePath {
    /// Returns the state of a node that a manager has just heard for the first time.
    pub fn direct(since: WallTime) -> Self {
        Self {
            source: Source::Direct,
            faults: Vec::new(),
            version: VerdictVersion::default(),
            since,
            hand_backs: Vec::new(),
        }
    }
}
