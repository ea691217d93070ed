//! What a part of vouch proves itself with: its certificate, its key, and the CA that it trusts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use vouch_types::WallTime;

use super::authority::pem_of;
use super::certificate::issuer_among;
use super::{PeerIdentity, PkiError, ShownCertificate, Validity};

/// The most CAs that are trusted at once: while one takes another's place there are two.
pub const ROOTS_MAX: usize = 4;

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
    let validity = Validity::of(certificate)?;
    if validity.holds_at(now) {
        return Ok(());
    }
    Err(PkiError::NotValid { what: what.to_owned(), from: validity.from, until: validity.until, now })
}

/// Certificate chain, private key and trusted CAs of one part of vouch.
#[derive(Debug)]
pub struct Identity {
    owner: PeerIdentity,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// Never empty.
    roots: Vec<CertificateDer<'static>>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            owner: self.owner.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            roots: self.roots.clone(),
        }
    }
}

impl Identity {
    /// Returns the identity of these PEM texts. Whether they fit together shows when TLS is made of them. There may be
    /// several CA certificates: each is trusted.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when a text holds nothing of its kind, [`PkiError::Name`] when the certificate names no part
    /// of vouch.
    pub fn from_pem(certificate_pem: &str, key_pem: &str, ca_certificate_pem: &str) -> Result<Self, PkiError> {
        let chain = certificates("certificate", certificate_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| PkiError::Pem { what: "private key".to_owned(), why: e.to_string() })?;
        let roots = roots_of("CA certificate", ca_certificate_pem)?;
        Ok(Self { owner: PeerIdentity::from_certificate(&chain[0])?, chain, key, roots })
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
        let roots = roots_of("CA certificate", &read(ca_certificate)?).map_err(|e| named(ca_certificate, e))?;
        Ok(Self { owner: PeerIdentity::from_certificate(&chain[0])?, chain, key: key_der, roots })
    }

    /// Checks that its certificate and the CA's hold at a time.
    ///
    /// # Errors
    /// [`PkiError::NotValid`] says which one does not, and from when to when it holds.
    pub fn valid_at(&self, now: WallTime) -> Result<(), PkiError> {
        valid_at(&format!("certificate of {}", self.owner), &self.chain[0], now)?;
        // Of several CAs the one counts that signed it.
        valid_at("CA certificate", issuer_among(&self.chain[0], &self.roots).unwrap_or(&self.roots[0]), now)
    }

    /// Returns when its certificate holds.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when it cannot be parsed.
    pub fn validity(&self) -> Result<Validity, PkiError> {
        Validity::of(&self.chain[0])
    }

    /// Returns its certificate as it shows it.
    pub fn shown(&self) -> ShownCertificate {
        ShownCertificate { owner: self.owner.clone(), der: self.chain[0].clone() }
    }

    /// Returns it with another certificate of the same owner and key, or with other CAs, or both.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when a text holds nothing of its kind; [`PkiError::Renewal`] when the certificate is of
    /// another owner, or none of the CAs signed it: whoever took it would be turned down by everybody.
    pub fn renewed(&self, certificate_pem: Option<&str>, ca_certificates_pem: &str) -> Result<Self, PkiError> {
        let chain = match certificate_pem {
            Some(pem) => certificates("certificate", pem)?,
            None => self.chain.clone(),
        };
        let roots = roots_of("CA certificate", ca_certificates_pem)?;
        let owner = PeerIdentity::from_certificate(&chain[0])?;
        if owner != self.owner {
            return Err(PkiError::Renewal(format!("it is of {owner}, and this is {}", self.owner)));
        }
        if issuer_among(&chain[0], &roots).is_none() {
            return Err(PkiError::Renewal(format!("none of the {} CAs to be trusted signed it", roots.len())));
        }
        Ok(Self { owner, chain, key: self.key.clone_key(), roots })
    }

    /// Returns who it is.
    pub const fn owner(&self) -> &PeerIdentity {
        &self.owner
    }

    /// Returns the certificate chain, its own certificate first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the CAs that it trusts: one, or two while one takes the other's place.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
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

fn make(source: rcgen::Error) -> PkiError {
    PkiError::Make { what: "a certificate signing request", source }
}

impl CertificateRequest {
    /// Makes a key (ECDSA P-256) and a request for it. The CA sets the name, so none is asked for.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the system gives no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        Self::of_key(KeyPair::generate().map_err(make)?)
    }

    /// Returns the request for the key of an identity, to have its certificate made anew. A key that is kept cannot
    /// fail to fit its certificate, whenever the machine dies while files are put in place.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the key is of a kind that cannot sign requests.
    pub fn renewal_of(identity: &Identity) -> Result<Self, PkiError> {
        Self::of_key(KeyPair::try_from(&identity.key).map_err(make)?)
    }

    /// Returns the request for a key that was made before (PEM).
    ///
    /// # Errors
    /// [`PkiError::Pem`] when the text holds no such key.
    pub fn of_key_pem(key_pem: &str) -> Result<Self, PkiError> {
        let malformed = |e: rcgen::Error| PkiError::Pem { what: "private key".to_owned(), why: e.to_string() };
        Self::of_key(KeyPair::from_pem(key_pem).map_err(malformed)?)
    }

    /// Returns the key that was made before (PEM) with the request that was made of it then (DER): whoever sends the
    /// same request again asks for the same once more.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when the text holds no such key; [`PkiError::Request`] when the request is malformed, and
    /// [`PkiError::Tls`] when it is of another key.
    pub fn begun(key_pem: &str, der: Vec<u8>) -> Result<Self, PkiError> {
        let malformed = |e: rcgen::Error| PkiError::Pem { what: "private key".to_owned(), why: e.to_string() };
        let key = KeyPair::from_pem(key_pem).map_err(malformed)?;
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der.as_slice()))
            .map_err(PkiError::Request)?;
        if request.public_key.subject_public_key_info() != key.subject_public_key_info() {
            return Err(PkiError::Tls("the request is of another key".to_owned()));
        }
        Ok(Self { key, der })
    }

    fn of_key(key: KeyPair) -> Result<Self, PkiError> {
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

/// Returns the CA certificates of a PEM text.
///
/// # Errors
/// [`PkiError::Pem`] when it holds none, or more than [`ROOTS_MAX`].
pub fn certificates_of(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    roots_of("CA certificate", pem)
}

/// Returns the CA certificates of two PEM texts as one, each once: those of the first, and of the second as many as
/// there is room for.
///
/// # Errors
/// [`PkiError::Pem`] when a text holds none, or more than [`ROOTS_MAX`].
pub fn trusted_together(first: &str, second: &str) -> Result<String, PkiError> {
    let mut all: Vec<CertificateDer<'static>> = Vec::new();
    for certificate in certificates_of(first)?.into_iter().chain(certificates_of(second)?) {
        if all.len() < ROOTS_MAX && !all.contains(&certificate) {
            all.push(certificate);
        }
    }
    Ok(all.iter().map(pem_of).collect())
}

/// Returns the CA certificates of a text: one to [`ROOTS_MAX`].
pub(super) fn roots_of(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let roots = certificates(what, pem)?;
    if roots.len() > ROOTS_MAX {
        let why = format!("there are {}, and must be at most {ROOTS_MAX}", roots.len());
        return Err(PkiError::Pem { what: what.to_owned(), why });
    }
    Ok(roots)
}

pub(super) fn one_certificate(what: &str, pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    certificates(what, pem).map(|mut chain| chain.swap_remove(0))
}

#[cfg(test)]
mod tests;
