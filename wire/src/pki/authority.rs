//! The cluster's own certificate authority.
//!
//! It alone sets names: whatever a signing request asks for is ignored but its public key. Certificates begin two hours
//! before they are made, because clocks of machines differ, and live at least seven days, so that a cluster without
//! a leader for a long weekend does not fall apart.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use vouch_types::WallTime;

use super::{CaDigest, Issued, PeerIdentity, PkiError, Role};

/// How long before its making a certificate begins to be valid.
pub const ISSUE_BACKDATE: Duration = Duration::from_secs(2 * 3600);
/// The least validity of a certificate.
pub const VALIDITY_MIN: Duration = Duration::from_secs(7 * 24 * 3600);
const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const SERIAL_LEN: usize = 16;

/// The certificate authority of one cluster, with its key.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes a new authority, valid for ten years from two hours before `now`. `name` is for people.
    ///
    /// # Errors
    /// [`PkiError::Make`] when the system gives no randomness.
    pub fn generate(name: &str, now: WallTime) -> Result<Self, PkiError> {
        let make = |source| PkiError::Make { what: "a CA", source };
        let key = KeyPair::generate().map_err(make)?;
        let mut params = parameters(name, now, CA_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).map_err(make)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// Loads an authority from its certificate and key. Of several certificates the one counts that is of this key.
    ///
    /// # Errors
    /// [`PkiError::Pem`] when either is malformed, [`PkiError::Tls`] when they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem)
            .map_err(|e| PkiError::Pem { what: "private key of the CA".to_owned(), why: e.to_string() })?;
        let what = "certificate of the CA";
        let wanted = key.subject_public_key_info();
        for certificate in super::identity::roots_of(what, certificate_pem)? {
            if public_key_of(&certificate)? == wanted {
                let issuer = Issuer::from_ca_cert_der(&certificate, key)
                    .map_err(|e| PkiError::Pem { what: what.to_owned(), why: e.to_string() })?;
                return Ok(Self { issuer, certificate_pem: pem_of(&certificate) });
            }
        }
        Err(PkiError::Tls("the key is not the key of the CA certificate".to_owned()))
    }

    /// Returns the digest of its certificate.
    ///
    /// # Errors
    /// [`PkiError::Pem`] never, as long as it was made or loaded by this type.
    pub fn digest(&self) -> Result<CaDigest, PkiError> {
        CaDigest::of_pem(&self.certificate_pem)
    }

    /// Returns its certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns its private key, PEM (PKCS #8). For a 0600 file or the replicated log, never for a message to a node.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key and a certificate for `owner`.
    ///
    /// # Errors
    /// [`PkiError::Validity`] when `validity` is below [`VALIDITY_MIN`].
    pub fn issue(&self, owner: &PeerIdentity, now: WallTime, validity: Duration) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(|source| PkiError::Make { what: "a key", source })?;
        let certificate_pem = leaf_parameters(owner, now, validity)?
            .signed_by(&key, &self.issuer)
            .map_err(|source| PkiError::Make { what: "a certificate", source })?
            .pem();
        Ok(Issued { certificate_pem, key_pem: key.serialize_pem(), ca_certificate_pem: self.certificate_pem.clone() })
    }

    /// Signs the public key of a request (PKCS #10, DER) for `owner`, and returns the certificate, PEM.
    ///
    /// The names and extensions that the request asks for are ignored.
    ///
    /// # Errors
    /// [`PkiError::Request`] when the request is malformed or not signed by its key, [`PkiError::Validity`] when
    /// `validity` is below [`VALIDITY_MIN`].
    pub fn sign_request(
        &self,
        request_der: &[u8],
        owner: &PeerIdentity,
        now: WallTime,
        validity: Duration,
    ) -> Result<String, PkiError> {
        let mut request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request_der))
            .map_err(PkiError::Request)?;
        request.params = leaf_parameters(owner, now, validity)?;
        let certificate =
            request.signed_by(&self.issuer).map_err(|source| PkiError::Make { what: "a certificate", source })?;
        Ok(certificate.pem())
    }
}

fn leaf_parameters(owner: &PeerIdentity, now: WallTime, validity: Duration) -> Result<CertificateParams, PkiError> {
    if validity < VALIDITY_MIN {
        return Err(PkiError::Validity(validity));
    }
    let name = owner.server_name();
    // The common name has at most 64 characters (RFC 5280, appendix A.1); the alternative name is what is checked.
    let mut params = parameters(owner.role().as_str(), now, validity)?;
    params.subject_alt_names = CertificateParams::new([name])
        .map_err(|source| PkiError::Make { what: "a server name", source })?
        .subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match owner.role() {
        Role::Manager | Role::Node => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Role::Watcher => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn parameters(common_name: &str, now: WallTime, validity: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "vouch");
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(now.as_unix_millis());
    params.not_before = now - ISSUE_BACKDATE;
    params.not_after = now + validity;
    let mut serial = [0; SERIAL_LEN];
    SystemRandom::new()
        .fill(&mut serial)
        .map_err(|_| PkiError::Make { what: "a serial number", source: rcgen::Error::RingUnspecified })?;
    // Positive, as RFC 5280 section 4.1.2.2 asks.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Returns a certificate as PEM (RFC 7468): lines of 64 characters.
pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn public_key_of(certificate: &[u8]) -> Result<Vec<u8>, PkiError> {
    use x509_parser::prelude::FromDer;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|e| PkiError::Certificate(e.to_string()))?;
    Ok(parsed.public_key().raw.to_vec())
}

#[cfg(test)]
mod tests;
