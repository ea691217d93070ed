//! A probe component as the cluster records it.

use serde::{Deserialize, Serialize};

use crate::{Digest, ProbeDescriptor, ProbeGrant, ProbeName, ProbeRollout, ProbeSigner};

/// The largest component that a cluster takes, in bytes: with its frame it fits into one message between managers (4 MiB).
pub const COMPONENT_MAX: usize = 3 * 1024 * 1024;

/// What a component imports: its manifest, which cannot understate.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProbeImports {
    /// Interfaces by their full name, as `vouch:probe/icmp@0.1.0`, sorted.
    pub interfaces: Vec<String>,
}

/// A probe component as the cluster records it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// Its name.
    pub name: ProbeName,
    /// Its version, as it describes itself.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: Digest,
    /// Size of the component in bytes.
    pub size: u64,
    /// What it imports.
    pub imports: ProbeImports,
    /// Whether it is one of vouch's own, compiled ahead of time into the watcher's image.
    pub shipped: bool,
    /// What the operator grants it; `None` for one that was recorded before there were grants, and may do all that it
    /// imports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<ProbeGrant>,
    /// Whose signature it was recorded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<ProbeSigner>,
    /// How it describes itself; `None` for one of vouch's own, and for one that was uploaded without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<ProbeDescriptor>,
    /// Another version that is on its way to all watchers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Box<ProbeRollout>>,
}
