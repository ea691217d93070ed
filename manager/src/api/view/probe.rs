//! Probes as the API shows them: what each imports, and what it is granted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::ProbeGrant;

use super::ProbeSignerView;

/// What a probe is to be granted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeGrantRequest {
    /// Interfaces by which it may reach its target: `sockets`, `icmp`, `guest-agent`, `tls`.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Networks over which it may: `management`, `service`.
    pub networks: Vec<String>,
    /// Ports that it may connect to; `settings` alone is the `port` of the settings that a VM gives it, else those that it
    /// describes.
    #[serde(default)]
    #[schema(example = json!(["8443"]))]
    pub ports: Vec<String>,
}

impl From<&ProbeGrant> for ProbeGrantRequest {
    fn from(grant: &ProbeGrant) -> Self {
        let [interfaces, networks, ports] = grant.words();
        Self { interfaces, networks, ports }
    }
}

/// What a probe is granted, in the words of [`ProbeGrantRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProbeGrantView {
    /// Interfaces by which it may reach its target: `sockets`, `icmp`, `guest-agent`, `tls`.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Networks over which it may: `management`, `service`.
    pub networks: Vec<String>,
    /// Ports that it may connect to; `settings` alone is the `port` of the settings that a VM gives it, else those that it
    /// describes.
    #[serde(default)]
    #[schema(example = json!(["8443"]))]
    pub ports: Vec<String>,
}

impl From<&ProbeGrant> for ProbeGrantView {
    fn from(grant: &ProbeGrant) -> Self {
        let [interfaces, networks, ports] = grant.words();
        Self { interfaces, networks, ports }
    }
}

/// A probe component.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProbeView {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Size of the component in bytes.
    pub size: u64,
    /// Interfaces that it imports: what it is able to do.
    pub imports: Vec<String>,
    /// Whether it is one of vouch's own.
    pub shipped: bool,
    /// What it is granted; absent for one that was recorded before there were grants, and may do all that it imports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<ProbeGrantView>,
    /// Whose signature it was recorded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<ProbeSignerView>,
}
