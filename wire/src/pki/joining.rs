//! TLS of one who has nothing but a join token: the manager's chain must hold the CA that the token names.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::tls::{ALPN_H2, provider, roots};
use super::{CaDigest, PeerIdentity, PkiError, Role};

/// Why a manager was turned down, in words for people; empty as long as none was.
pub type JoinVerdict = Arc<OnceLock<String>>;

/// Returns the configuration of a dialler that trusts the CA of this digest, whichever manager answers.
///
/// # Errors
/// [`PkiError::Tls`] when TLS cannot be configured.
pub fn joining_config(
    ca: CaDigest,
    clock: Arc<dyn TimeProvider>,
) -> Result<(Arc<ClientConfig>, JoinVerdict), PkiError> {
    let verdict = JoinVerdict::default();
    let verifier = PinnedCa { ca, provider: provider(), verdict: verdict.clone() };
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| PkiError::Tls(e.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok((Arc::new(config), verdict))
}

/// Takes no root on trust but the one certificate whose digest it knows, and of that only managers.
#[derive(Debug)]
struct PinnedCa {
    ca: CaDigest,
    provider: Arc<CryptoProvider>,
    verdict: JoinVerdict,
}

impl PinnedCa {
    fn refused(&self, why: String) -> rustls::Error {
        // The first one is the cause.
        let _is_set_already = self.verdict.set(why.clone());
        rustls::Error::General(why)
    }
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let known = intermediates.iter().find(|certificate| CaDigest::of(certificate) == self.ca);
        let Some(root) = known else {
            let found: Vec<String> = intermediates.iter().map(|c| CaDigest::of(c).to_string()).collect();
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            return Err(self.refused(format!(
                "its CA is {found}, and the token names {}: it is of another cluster, or somebody stands in between; \
                 the secret was not sent",
                self.ca
            )));
        };
        let owner = PeerIdentity::from_certificate(end_entity).map_err(|e| self.refused(e.to_string()))?;
        if owner.role() != Role::Manager {
            return Err(self.refused(format!("it is {owner}, and no manager; the secret was not sent")));
        }
        let roots = roots(&[root.clone().into_owned()]).map_err(|e| self.refused(e.to_string()))?;
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
            .build()
            .map_err(|e| self.refused(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, &owner.tls_name(), ocsp_response, now)
            .map_err(|e| self.refused(format!("{e}; the secret was not sent")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
