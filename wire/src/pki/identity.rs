//! What a part of vouch proves itself with: its certificate, its key, and the CA that it trusts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use vouch_types::WallTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::{PeerIdentity, PkiError};

/// A certificate and a key as they were made, PEM, before they are stored.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key (PKCS #8).
    pub key_pem: String,
    /// The CA that signed it.
    pub ca_certificate_pem: String,
}

impl Issued {
    /// Returns it as an identity that can be used.
    ///
    /// # Errors
    /// As for [`Identity::from_pem`].
    pub fn identity(&self) -> Result<Identity, PkiError> {
        Identity::from_pem(&self.certificate_pem, &self.key_pem, &self.ca_certificate_pem)
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

/// Checks that a certificate holds at a time.
fn valid_at(what: &str, certificate: &CertificateDer<'_>, now: WallTime) -> Result<(), PkiError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| PkiError::Certificate(e.to_string()))?;
    let time = |at: ASN1Time| {
        WallTime::from_unix_millis(u64::try_from(at.timestamp()).unwrap_or_default().saturating_mul(1000))
    };
    let validity = parsed.validity();
    let (from, until) = (time(validity.not_before), time(validity.not_after));
    if from <= now && now <= until {
        return Ok(());
    }
    Err(PkiError::NotValid { what: what.to_owned(), from, until, now })
}

/// Certificate chain, private key and trusted CA of one part of vouch.
#[derive(Debug)]
pub struct Identity {
    owner: PeerIdentity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: CertificateDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone(), chain: self.chain.clone(), key: self.key.clone_key(), ca: self.ca.clone() }
    }
}

impl Identity {
    /// Returns the identity of these PEM texts. Whether they fit together shows when TLS is made of them.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when a text holds nothing of its kind, [`PkiError::Name`] when the certificate names no part
    /// of vouch.
    pub fn from_pem(certificate_pem: &str, key_pem: &str, ca_certificate_pem: &str) -> Result<Self, PkiError> {
        let chain = certificates("certificate", certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| PkiError::Pem { what: "private key".to_owned(), why: e.to_string() })?;
        let ca = one_certificate("CA certificate", ca_certificate_pem)?;
        Ok(Self { owner: PeerIdentity::from_certificate(&chain[0])?, chain, key, ca })
    }

    /// Loads the identity from files.
    ///
    /// # Errors
    /// [`PkiError::Read`] names the file; [`PkiError::KeyMode`] when the key may be read by others; then as for
    /// [`Identity::from_pem`].
    pub fn load(certificate: &Path, key: &Path, ca_certificate: &Path) -> Result<Self, PkiError> {
        let named = |path: &Path, e: PkiError| match e {
            PkiError::Pem { what, why } => PkiError::Pem { what: format!("{}: {what}", path.display()), why },
            other => other,
        };
        let chain = certificates("certificate", &read(certificate)?).map_err(|e| named(certificate, e))?;
        let key_der = PrivateKeyDer::from_pem_slice(read_key(key)?.as_bytes())
            .map_err(|e| PkiError::Pem { what: format!("{}: private key", key.display()), why: e.to_string() })?;
        let ca = one_certificate("CA certificate", &read(ca_certificate)?).map_err(|e| named(ca_certificate, e))?;
        Ok(Self { owner: PeerIdentity::from_certificate(&chain[0])?, chain, key: key_der, ca })
    }

    /// Checks that its certificate and the CA's hold at a time.
    ///
    /// # Errors
    /// [`PkiError::NotValid`] says which one does not, and from when to when it holds.
    pub fn valid_at(&self, now: WallTime) -> Result<(), PkiError> {
        valid_at(&format!("certificate of {}", self.owner), &self.chain[0], now)?;
        valid_at("CA certificate", &self.ca, now)
    }

    /// Returns who it is.
    pub const fn owner(&self) -> &PeerIdentity {
        &self.owner
    }

    /// Returns the certificate chain, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the CA that it trusts.
    pub const fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    pub(super) const fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }
}

/// A key that was made here, and the request to have it signed.
pub struct CertificateRequest {
    key: KeyPair,
    der: Vec<u8>,
}

impl std::fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateRequest").finish_non_exhaustive()
    }
}

impl CertificateRequest {
    /// Makes a key (ECDSA P-256) and a request for it. The CA sets the name, so none is asked for.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the system gives no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let make = |source| PkiError::Make { what: "a certificate signing request", source };
        let key = KeyPair::generate().map_err(make)?;
        let der = CertificateParams::default().serialize_request(&key).map_err(make)?.der().to_vec();
        Ok(Self { key, der })
    }

    /// Returns the request, PKCS #10 DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the key, PEM (PKCS #8). For a 0600 file.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Joins the key with the certificate that the CA made of the request.
    ///
    /// # Errors
    /// As for [`Identity::from_pem`].
    pub fn complete(self, certificate_pem: &str, ca_certificate_pem: &str) -> Result<Identity, PkiError> {
        Identity::from_pem(certificate_pem, &self.key.serialize_pem(), ca_certificate_pem)
    }
}

/// Reads a private key's file after checking that nobody else may.
///
/// # Errors
/// [`PkiError::KeyMode`] names the file, its mode and the rule; [`PkiError::Read`] when it cannot be read.
pub(super) fn read_key(path: &Path) -> Result<String, PkiError> {
    let metadata = std::fs::metadata(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(PkiError::KeyMode { path: path.to_owned(), mode });
    }
    read(path)
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::Read { path: path.to_owned(), source })
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let malformed = |why: String| PkiError::Pem { what: what.to_owned(), why };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| malformed(e.to_string()))?;
    if chain.is_empty() { Err(malformed("there is none".to_owned())) } else { Ok(chain) }
}

pub(super) fn one_certificate(what: &str, pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    certificates(what, pem).map(|mut chain| chain.swap_remove(0))
}

#[cfg(test)]
mod tests;
