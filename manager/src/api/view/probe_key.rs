//! Keys that are trusted for signatures under probes, as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::ProbeKeyRecord;

use super::TimeView;

/// A key that is to be trusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeKeyRequest {
    /// What it is called: a DNS label.
    #[schema(example = "release-team")]
    pub name: String,
    /// PEM of the public Ed25519 key.
    pub public_key: String,
}

/// A key that is trusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProbeKeyView {
    /// What it is called.
    pub name: String,
    /// The key, 64 hexadecimal digits.
    pub public_key: String,
    /// When it was added.
    pub added: TimeView,
    /// Who added it, as far as is known.
    pub by: String,
    /// Recorded probes that it signed.
    pub signed: Vec<String>,
}

impl ProbeKeyView {
    /// Returns a key with the probes that it signed.
    pub fn of(key: &ProbeKeyRecord, signed: Vec<String>) -> Self {
        Self {
            name: key.name.to_string(),
            public_key: key.public_key.to_string(),
            added: key.added.into(),
            by: key.by.clone(),
            signed,
        }
    }
}

/// Whether a probe is to be taken without a signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeTrustRequest {
    /// `optional` or `required`.
    #[schema(example = "required")]
    pub signatures: String,
}

/// Whether a probe is taken without a signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProbeTrustView {
    /// `optional` or `required`.
    #[schema(example = "required")]
    pub signatures: String,
    /// Names of the keys that are trusted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// Whose signature a probe was recorded with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProbeSignerView {
    /// What the key was called then.
    pub key: String,
    /// The key, 64 hexadecimal digits.
    pub public_key: String,
}
