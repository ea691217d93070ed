//! The judge of certificates that lets all pass and remembers whether the key was proved.
//!
//! A probe measures what a target shows; whom to trust is for the probe to say. What only the handshake can tell is
//! whether the target has the key of the certificate that it shows, so that is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, client::Resumption};

/// Offered although their signatures cannot be checked here: a target that has only such a key is measured all the same,
/// and its key counts as not proved.
const UNCHECKED: [SignatureScheme; 4] = [
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED448,
    SignatureScheme::RSA_PKCS1_SHA1,
    SignatureScheme::ECDSA_SHA1_Legacy,
];

/// Watches one handshake.
#[derive(Debug)]
pub(super) struct Witness {
    provider: Arc<CryptoProvider>,
    proved: AtomicBool,
}

impl Witness {
    /// Returns one that has seen nothing yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { provider: Arc::new(ring::default_provider()), proved: AtomicBool::new(false) })
    }

    /// Returns whether the target proved that it has the key of its certificate.
    pub(super) fn key_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }

    /// Returns the configuration of a handshake that it watches, with these protocols offered.
    ///
    /// # Errors
    /// What rustls cannot do; with this provider there is nothing.
    pub(super) fn config(self: &Arc<Self>, alpn: Vec<Vec<u8>>) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(self) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.alpn_protocols = alpn;
        // Each check is a handshake of its own.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn note(&self, checked: &Result<HandshakeSignatureValid, Error>) -> HandshakeSignatureValid {
        self.proved.store(checked.is_ok(), Ordering::Relaxed);
        HandshakeSignatureValid::assertion()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.note(&verify_tls12_signature(message, certificate, signed, algorithms)))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        Ok(self.note(&verify_tls13_signature(message, certificate, signed, algorithms)))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        schemes.extend(UNCHECKED);
        schemes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_checked_is_offered_last_and_counts_as_not_proved() {
        let witness = Witness::new();
        let offered = witness.supported_verify_schemes();
        assert_eq!(offered[offered.len() - UNCHECKED.len()..], UNCHECKED);
        assert!(!UNCHECKED.iter().any(|scheme| offered[..offered.len() - UNCHECKED.len()].contains(scheme)));
        witness.note(&Err(Error::General("no algorithm".to_owned())));
        assert!(!witness.key_proved());
    }
}
