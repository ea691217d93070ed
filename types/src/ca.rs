//! The cluster's secrets: its CA, the one that takes its place, and the key of grants.
//!
//! ```text
//! steady --AddCa--> spreading --SwitchCa--> renewing --RetireCa--> steady
//! ```
//!
//! Spreading: the old CA signs, and everybody learns to trust the new one as well. Renewing: the new one signs, and
//! everybody gets a certificate of it. Then the old one is trusted no more.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The private parts of a new cluster, replicated so that any leader can sign.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSecrets {
    /// Certificate of the internal CA, PEM.
    pub ca_certificate: String,
    /// Key of the internal CA, PEM (PKCS #8).
    pub ca_key: String,
    /// Ed25519 key that signs grants, PKCS #8 DER.
    pub grant_key: Vec<u8>,
    /// Ed25519 public key of grants, 32 bytes.
    pub grant_public_key: Vec<u8>,
    /// The CA that takes the place of the first one.
    #[serde(default, skip_serializing_if = "NextCa::is_none")]
    pub next_ca: NextCa,
}

impl ClusterSecrets {
    /// Returns the certificates of all CAs that are to be trusted, PEM, the older one first.
    pub fn trusted_cas(&self) -> String {
        match &self.next_ca {
            NextCa::None => self.ca_certificate.clone(),
            NextCa::Spreading(next) | NextCa::Renewing(next) => {
                format!("{}\n{}", self.ca_certificate.trim_end(), next.certificate)
            }
        }
    }

    /// Returns the CA that signs: certificate and key, PEM.
    pub fn signing_ca(&self) -> (&str, &str) {
        match &self.next_ca {
            NextCa::None | NextCa::Spreading(_) => (&self.ca_certificate, &self.ca_key),
            NextCa::Renewing(next) => (&next.certificate, &next.key),
        }
    }
}

impl fmt::Debug for ClusterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecrets(..)")
    }
}

/// A CA with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaSecrets {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM (PKCS #8).
    pub key: String,
}

impl fmt::Debug for CaSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaSecrets(..)")
    }
}

/// The CA that takes the place of the first one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NextCa {
    /// There is none.
    #[default]
    None,
    /// It is to be trusted, and signs nothing yet.
    Spreading(CaSecrets),
    /// It signs.
    Renewing(CaSecrets),
}

impl NextCa {
    /// Returns whether there is none.
    pub const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Returns where the rotation stands.
    pub const fn stage(&self) -> CaStage {
        match self {
            Self::None => CaStage::Steady,
            Self::Spreading(_) => CaStage::Spreading,
            Self::Renewing(_) => CaStage::Renewing,
        }
    }
}

/// Where a rotation of the CA stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaStage {
    /// There is one CA.
    Steady,
    /// Everybody learns to trust the new one.
    Spreading,
    /// Everybody gets a certificate of the new one.
    Renewing,
}

impl CaStage {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Spreading => "spreading",
            Self::Renewing => "renewing",
        }
    }
}

impl fmt::Display for CaStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Steady => "no rotation of the CA is under way",
            Self::Spreading => "a rotation of the CA is under way, and its certificate is being spread",
            Self::Renewing => "a rotation of the CA is under way, and certificates are being renewed by it",
        })
    }
}
