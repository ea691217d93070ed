//! Views of the CAs and of their rotation.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::TimeView;

/// Which CAs are trusted, and how far their rotation is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CaView {
    /// `steady` with one CA; `spreading` while everybody learns to trust the new one; `renewing` while everybody gets a
    /// certificate of it.
    pub stage: String,
    /// The CAs that are trusted, the older one first.
    pub cas: Vec<CaCertificateView>,
    /// Who has not been seen ready for the next step by this leader.
    #[schema(example = json!(["n3.node.vouch"]))]
    pub behind: Vec<String>,
    /// The certificates of all of them, PEM: the content of `ca.pem`.
    pub ca_certificates: String,
}

/// One CA.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct CaCertificateView {
    /// SHA-256 of its certificate, as join tokens begin with it.
    pub digest: String,
    /// Whether new certificates are signed by it.
    pub signs: bool,
    /// Until when it holds.
    pub expires: TimeView,
}

/// Whom a step of the rotation of the CA leaves behind.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaStepRequest {
    /// Names of those that will not come back: they are locked out until they join again.
    #[serde(default)]
    #[schema(example = json!(["n3.node.vouch"]))]
    pub without: Vec<String>,
}
