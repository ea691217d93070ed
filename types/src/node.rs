//! A compute node as the cluster records it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{BootId, FenceProof, Incarnation, LogIndex, NodeId, NodePath};

/// A compute node as the cluster records it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub id: NodeId,
    /// Its rack, if its configuration names one.
    pub rack: Option<String>,
    /// Where its relay listens on the management network.
    pub relay: SocketAddr,
    /// Ed25519 public key that its statements are signed with, 32 bytes.
    pub statement_key: Vec<u8>,
    /// The boot in which it was last heard.
    pub boot: BootId,
    /// The life of its agent that was last heard.
    pub incarnation: Incarnation,
    /// How its hypervisor is driven: `qemu` or `local`.
    pub driver: String,
    /// Whether watchers may be created on it.
    pub hosts_watchers: bool,
    /// State of the paths to it.
    pub path: NodePath,
    /// The proof that it does not run, if there is one.
    #[serde(default)]
    pub fence: Option<FenceProof>,
    /// The index at which any of this last changed; the cluster sets it.
    #[serde(default)]
    pub modified: LogIndex,
}
