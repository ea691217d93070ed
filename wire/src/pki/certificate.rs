//! What a certificate says beside its owner's name: when it holds, and which CA signed it.

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use vouch_types::WallTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::{CaDigest, PeerIdentity, PkiError};

/// From when to when a certificate holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// Since when.
    pub from: WallTime,
    /// Until when.
    pub until: WallTime,
}

impl Validity {
    /// Returns when a certificate holds.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when it cannot be parsed.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let parsed = parsed(certificate)?;
        let time = |at: ASN1Time| {
            WallTime::from_unix_millis(u64::try_from(at.timestamp()).unwrap_or_default().saturating_mul(1000))
        };
        let validity = parsed.validity();
        Ok(Self { from: time(validity.not_before), until: time(validity.not_after) })
    }

    /// Returns whether it holds at a time.
    pub fn holds_at(&self, now: WallTime) -> bool {
        self.from <= now && now <= self.until
    }
}

/// A certificate that its owner has shown, on a connection on which TLS has checked chain, time and key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShownCertificate {
    /// Its owner.
    pub owner: PeerIdentity,
    /// The certificate.
    pub der: CertificateDer<'static>,
}

impl ShownCertificate {
    /// Returns the certificate with its owner.
    ///
    /// # Errors
    /// As for [`PeerIdentity::from_certificate`].
    pub fn new(der: CertificateDer<'static>) -> Result<Self, PkiError> {
        Ok(Self { owner: PeerIdentity::from_certificate(&der)?, der })
    }

    /// Returns the digest of its owner's key: as [`key_digest`].
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when it cannot be parsed.
    pub fn key_digest(&self) -> Result<[u8; 32], PkiError> {
        key_digest(&self.der)
    }

    /// Returns which of these CAs signed it, by the key identifiers (RFC 5280, sections 4.2.1.1 and 4.2.1.2). TLS has
    /// checked the signature.
    pub fn signed_by(&self, roots: &[CertificateDer<'static>]) -> Option<CaDigest> {
        issuer_among(&self.der, roots).map(CaDigest::of)
    }
}

/// Returns SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER; RFC 5280, section 4.1.2.7). It stays the
/// same when the certificate is renewed, since the key is kept.
///
/// # Errors
/// [`PkiError::Certificate`] when it cannot be parsed.
pub fn key_digest(certificate: &CertificateDer<'_>) -> Result<[u8; 32], PkiError> {
    let parsed = parsed(certificate)?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, parsed.public_key().raw).as_ref());
    Ok(bytes)
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| PkiError::Certificate(e.to_string()))?;
    Ok(parsed)
}

/// Returns which of these CAs signed a certificate; names decide where there are no key identifiers.
pub(super) fn issuer_among<'r>(
    certificate: &CertificateDer<'_>,
    roots: &'r [CertificateDer<'static>],
) -> Option<&'r CertificateDer<'static>> {
    let leaf = parsed(certificate).ok()?;
    let wanted = leaf.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    });
    roots.iter().find(|root| {
        let Ok(ca) = parsed(root) else { return false };
        let has = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        match (&wanted, has) {
            (Some(wanted), Some(has)) => *wanted == has,
            (Some(_) | None, _) => leaf.issuer().as_raw() == ca.subject().as_raw(),
        }
    })
}
