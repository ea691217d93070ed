//! Probes as the API shows them: what each imports, and what it is granted.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::{Canary, Network, ProbeDescriptor, ProbeGrant, ProbeRollout, Tally};

use super::{ProbeSignerView, TimeView};
use crate::api::problem::{Problem, ProblemKind};

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

/// How an uploaded probe describes itself: what `vouch probe push` asks the component.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeDescriptionRequest {
    /// What an `up` of it proves; 1 to 512 bytes.
    pub summary: String,
    /// JSON Schema of its settings, at most 16 KiB as text; absent from a probe of the first contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_schema: Option<serde_json::Value>,
    /// Networks that it can check over: `management`, `service`.
    pub networks: Vec<String>,
    /// Ports that it connects to when its settings have no `port`; at most 16.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// How often it proposes to run, in milliseconds; 100 to 86,400,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long it proposes that one run may take, in milliseconds; 50 to 60,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl ProbeDescriptionRequest {
    /// Returns the description that it is, by its words alone.
    ///
    /// # Errors
    /// A problem that names a network that is none.
    pub fn descriptor(self) -> Result<ProbeDescriptor, Problem> {
        let network = |word: &String| {
            let rule = "must be management or service";
            let wrong = |_| Problem::field(ProblemKind::BadParameter, "description.networks", word, rule);
            word.parse::<Network>().map_err(wrong)
        };
        Ok(ProbeDescriptor {
            summary: self.summary,
            settings_schema: self.settings_schema.map(|schema| schema.to_string()),
            networks: self.networks.iter().map(network).collect::<Result<_, _>>()?,
            ports: self.ports.into_iter().collect(),
            interval_ms: self.interval_ms,
            timeout_ms: self.timeout_ms,
        })
    }
}

/// How a probe describes itself, in the words of [`ProbeDescriptionRequest`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ProbeDescriptionView {
    /// What an `up` of it proves.
    pub summary: String,
    /// JSON Schema of its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_schema: Option<serde_json::Value>,
    /// Networks that it can check over.
    pub networks: Vec<String>,
    /// Ports that it connects to when its settings have no `port`.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// How often it proposes to run, in milliseconds: so it does where neither a policy nor its assignment says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long it proposes that one run may take, in milliseconds; as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

impl From<&ProbeDescriptor> for ProbeDescriptionView {
    fn from(said: &ProbeDescriptor) -> Self {
        Self {
            summary: said.summary.clone(),
            settings_schema: said.settings_schema.as_ref().and_then(|schema| serde_json::from_str(schema).ok()),
            networks: said.networks.iter().map(ToString::to_string).collect(),
            ports: said.ports.iter().copied().collect(),
            interval_ms: said.interval_ms,
            timeout_ms: said.timeout_ms,
        }
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
    /// How it describes itself; absent for one of vouch's own, and for one that was uploaded without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<ProbeDescriptionView>,
    /// Another version that is on its way to all watchers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<ProbeRolloutView>,
}

/// Another version of a probe on its way to all watchers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProbeRolloutView {
    /// Its version.
    pub version: String,
    /// SHA-256 of its component.
    pub digest: String,
    /// The watcher that runs it before the others; absent until one is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "w3")]
    pub canary: Option<String>,
    /// What it found there with this version, as last recorded; that is done every 10 s.
    pub new: TallyView,
    /// What its checks last found with the version before.
    pub before: TallyView,
    /// What the other watchers found meanwhile with the version before.
    pub others: TallyView,
    /// For how long it has run there, in milliseconds, as last recorded.
    pub spent_ms: u64,
    /// Runs that it has to show.
    pub runs_wanted: u32,
    /// For how long at least, in milliseconds.
    pub lasts_ms: u64,
    /// Watchers that were tried, the last one among them.
    pub tried: Vec<String>,
    /// Who began it, as far as is known.
    pub by: String,
    /// When.
    pub begun: TimeView,
}

/// Runs, and how many of them say nothing of their target because of the probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct TallyView {
    /// Runs.
    pub runs: u64,
    /// Faults among them.
    pub faults: u64,
}

impl From<Tally> for TallyView {
    fn from(tally: Tally) -> Self {
        Self { runs: tally.runs, faults: tally.faults }
    }
}

impl From<&ProbeRollout> for ProbeRolloutView {
    fn from(rollout: &ProbeRollout) -> Self {
        let millis = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let canary = rollout.canary.as_ref();
        let tally = |of: fn(&Canary) -> Tally| canary.map(of).unwrap_or_default().into();
        Self {
            version: rollout.next.version.clone(),
            digest: rollout.next.digest.to_string(),
            canary: canary.map(|canary| canary.watcher.to_string()),
            new: tally(|canary| canary.new),
            before: tally(|canary| canary.before),
            others: tally(|canary| canary.others),
            spent_ms: canary.map_or(0, |canary| millis(canary.spent)),
            runs_wanted: rollout.plan.runs,
            lasts_ms: millis(rollout.plan.lasts),
            tried: rollout.tried.iter().map(ToString::to_string).collect(),
            by: rollout.by.clone(),
            begun: rollout.begun.into(),
        }
    }
}
