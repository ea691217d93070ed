//! Who is who: the cluster's own certificate authority, server names that are ids, and TLS made of them.
//!
//! A certificate holds one name, `m1.manager.vouch`: the id and the role of its owner, never an address. Addresses may
//! change and may be spoofed; an id may not. The provider is ring, always named explicitly, so that nothing depends on
//! a process-wide default.

mod authority;
mod certificate;
mod clock;
mod current;
mod identity;
mod join_token;
mod joining;
mod live_identity;
mod peer;
mod tls;

pub use authority::{CertificateAuthority, ISSUE_BACKDATE, VALIDITY_MIN};
pub use certificate::{ShownCertificate, Validity, key_digest};
pub use clock::AdjustableTime;
pub use current::Current;
pub use identity::{CertificateRequest, Identity, Issued, ROOTS_MAX, certificates_of, trusted_together};
pub use join_token::{CaDigest, JoinToken, JoinTokenError};
pub use joining::{JoinVerdict, joining_config};
pub use live_identity::LiveIdentity;
pub use peer::{PeerIdentity, Role};
pub use tls::{
    ALPN_H2, client_config, client_config_without_certificate, server_config, server_config_without_clients,
};

use std::path::PathBuf;

pub use rustls_pki_types::CertificateDer;

use thiserror::Error;
use vouch_types::WallTime;

/// Why keys and certificates did not do what was asked.
#[derive(Debug, Error)]
pub enum PkiError {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A private key may be read by others.
    #[error("{}: mode {mode:04o}: a private key must not be accessible to group or others (chmod 600)", path.display())]
    KeyMode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A text holds no PEM of the kind that is needed.
    #[error("{what}: no valid PEM block of that kind: {why}")]
    Pem {
        /// What was looked for, and where.
        what: String,
        /// What the parser said.
        why: String,
    },
    /// A certificate does not name exactly one part of vouch.
    #[error("certificate name {name:?}: must be one of ID.manager.vouch, ID.node.vouch, ID.watcher.vouch")]
    Name {
        /// The names that it has.
        name: String,
    },
    /// A certificate cannot be parsed.
    #[error("malformed certificate: {0}")]
    Certificate(String),
    /// A certificate does not hold now, by the clock of this machine.
    #[error(
        "{what}: valid from {from} to {until}, and the clock of this machine says {now}: set the clock right, or have a \
         new one issued (`vouch pki issue`, `vouch join`)"
    )]
    NotValid {
        /// Whose it is.
        what: String,
        /// Since when it holds.
        from: WallTime,
        /// Until when.
        until: WallTime,
        /// What the clock says.
        now: WallTime,
    },
    /// A certificate would live too shortly.
    #[error("validity {0:?}: must be at least {VALIDITY_MIN:?}")]
    Validity(std::time::Duration),
    /// A signing request is malformed, or its signature is wrong.
    #[error("certificate signing request refused")]
    Request(#[source] rcgen::Error),
    /// Making a key or a certificate failed.
    #[error("cannot make {what}")]
    Make {
        /// What was being made.
        what: &'static str,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A new certificate cannot take the place of the old one.
    #[error("new certificate refused: {0}")]
    Renewal(String),
    /// The key and the certificates do not make a TLS configuration.
    #[error("certificate, key and CA do not fit together: {0}")]
    Tls(String),
}
