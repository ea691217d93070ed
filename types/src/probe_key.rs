//! Who may vouch for a probe: keys that the cluster trusts, and what is recorded of a signature and of a refused upload.
//!
//! Words only. What exactly is signed, and with which algorithm, is `vouch_wire::probe_signature`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Digest, ProbeKeyName, ProbeName, WallTime};

/// The most keys that a cluster trusts.
pub const PROBE_KEYS_MAX: usize = 32;
/// The longest reason of a refused upload, in bytes.
pub const REFUSAL_REASON_MAX: usize = 256;
/// The longest version of a probe, in characters.
pub const PROBE_VERSION_MAX: usize = 32;

/// A text that is no public key.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("public key {value:?}: must be 64 hexadecimal digits (Ed25519)")]
pub struct PublicKeyError {
    /// The text, shortened.
    pub value: String,
}

/// A public Ed25519 key (RFC 8032), printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProbePublicKey([u8; 32]);

impl ProbePublicKey {
    /// Returns the key of these bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ProbePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProbePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ProbePublicKey {
    type Err = PublicKeyError;
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        // A digest is written the same way.
        let bytes = text.parse::<Digest>().map(|digest| *digest.as_bytes());
        bytes.map(Self).map_err(|_| PublicKeyError { value: text.chars().take(80).collect() })
    }
}

impl TryFrom<String> for ProbePublicKey {
    type Error = PublicKeyError;
    fn try_from(text: String) -> Result<Self, PublicKeyError> {
        text.parse()
    }
}

impl From<ProbePublicKey> for String {
    fn from(key: ProbePublicKey) -> Self {
        key.to_string()
    }
}

/// A key whose signatures under probes the cluster trusts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeKeyRecord {
    /// What it is called.
    pub name: ProbeKeyName,
    /// The key.
    pub public_key: ProbePublicKey,
    /// Who added it, as far as is known.
    pub by: String,
    /// When.
    pub added: WallTime,
}

/// Whose signature a probe was recorded with.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeSigner {
    /// What the key was called.
    pub key: ProbeKeyName,
    /// The key itself: a name may be given to another one later.
    pub public_key: ProbePublicKey,
}

/// Whether a probe is taken without a signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureRule {
    /// It is; one that is there must hold.
    #[default]
    Optional,
    /// It is not.
    Required,
}

impl SignatureRule {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// Which signatures under probes the cluster trusts, and whether it wants one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProbeTrust {
    /// Trusted keys, by name; at most [`PROBE_KEYS_MAX`].
    pub keys: Vec<ProbeKeyRecord>,
    /// Whether a signature is wanted.
    pub signatures: SignatureRule,
}

impl ProbeTrust {
    /// Returns whether nothing was ever set.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// An upload that was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProbeRefusal {
    /// The name that it was to have.
    pub probe: ProbeName,
    /// SHA-256 of what was uploaded.
    pub digest: Digest,
    /// Why, for people; at most [`REFUSAL_REASON_MAX`] bytes.
    pub reason: String,
    /// Who uploaded it, as far as is known.
    pub by: String,
    /// Refusals by the same manager since the last recorded one that were too many to be recorded.
    pub unrecorded: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_survives_printing_and_a_text_that_is_none_is_refused() {
        let key = ProbePublicKey::new([0xa5; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(serde_json::from_str::<ProbePublicKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
        for bad in ["", "a5", &"g5".repeat(32)] {
            let why = bad.parse::<ProbePublicKey>().unwrap_err().to_string();
            assert!(why.ends_with("must be 64 hexadecimal digits (Ed25519)"), "{why}");
        }
    }
}
