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
    /// SHA-256 of the secret once it is redeemed: the same life may show it again when its certificate was lost on the
    /// way.
    #[serde(default)]
    pub redeemed_hash: Option<Vec<u8>>,
    /// The VMs that it watches.
    pub vms: Vec<VmId>,
    /// Generation of that list.
    pub assignment: AssignmentGeneration,
}

/// Addresses of a watcher's legs, at most one per network.
pub type WatcherLegs = crate::SortedMap<crate::Network, std::net::IpAddr>;

/// The most peers of one watcher.
pub const PEERS_MAX: usize = 3;

/// A leg of a watcher on one network, as its node gives it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatcherLeg {
    /// The network.
    pub network: crate::Network,
    /// MAC address of the card, as `52:54:00:00:00:01`; empty for a watcher that is a process on a host.
    #[serde(default)]
    pub mac: String,
    /// Its address; a process binds its outgoing connections to it.
    pub address: std::net::IpAddr,
    /// Length of the network's prefix in bits.
    pub prefix_len: u8,
}

/// What a node hands to a watcher at its start: in the fw_cfg file `opt/vouch/boot`, as JSON, or in a 0600 file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatcherBoot {
    /// Its number.
    pub watcher: WatcherId,
    /// The node that it runs on: the relay of this node is reached over the local bridge.
    pub node: NodeId,
    /// One-time secret, 64 hexadecimal digits.
    pub secret: String,
    /// PEM of the CA to trust.
    pub ca_certificate: String,
    /// Where the managers are.
    pub managers: Vec<(crate::ManagerId, crate::Network, std::net::SocketAddr)>,
    /// Its legs; at most one per network.
    pub legs: Vec<WatcherLeg>,
    /// The node's wall clock when the watcher was started: the least that TLS time may be.
    pub stamp: crate::WallTime,
}

impl std::fmt::Debug for WatcherBoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatcherBoot").field("watcher", &self.watcher).field("node", &self.node).finish_non_exhaustive()
    }
}

/// Name of the fw_cfg file that holds the [`WatcherBoot`].
pub const WATCHER_BOOT_FW_CFG: &str = "opt/vouch/boot";
