//! TLS 1.3 configurations, with ring and a clock named explicitly.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;

use super::{Identity, PkiError};

/// The one protocol that is spoken between parts (RFC 9113, section 3.2).
pub const ALPN_H2: &[u8] = b"h2";

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(super) fn roots(trusted: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, PkiError> {
    let mut roots = RootCertStore::empty();
    for ca in trusted {
        roots.add(ca.clone()).map_err(tls)?;
    }
    Ok(Arc::new(roots))
}

fn tls(e: impl std::fmt::Display) -> PkiError {
    PkiError::Tls(e.to_string())
}

/// Returns the chain with the CAs at its end: one who joins by a token knows the CA by its digest alone.
fn chain_to_the_ca(identity: &Identity) -> Vec<CertificateDer<'static>> {
    let mut chain = identity.chain().to_vec();
    for ca in identity.roots() {
        if !chain.contains(ca) {
            chain.push(ca.clone());
        }
    }
    chain
}

/// Returns the configuration of a mutually authenticated port.
///
/// A client without a certificate gets through the handshake, because a watcher has none before it enrols; every call
/// checks presence and role itself. A client with a certificate of another CA does not.
///
/// # Errors
/// [`PkiError::Tls`] when certificate, key and CA do not fit together.
pub fn server_config(identity: &Identity, clock: Arc<dyn TimeProvider>) -> Result<Arc<ServerConfig>, PkiError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity.roots())?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(tls)?;
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain_to_the_ca(identity), identity.key().clone_key())
        .map_err(tls)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    // A resumed session would skip the proof of the client's key; sessions live long, so nothing is lost.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Returns the configuration of a port whose clients prove themselves by other means (the admin API's bearer token).
///
/// # Errors
/// [`PkiError::Tls`] when certificate and key do not fit together.
pub fn server_config_without_clients(
    identity: &Identity,
    clock: Arc<dyn TimeProvider>,
    alpn: &[&[u8]],
) -> Result<Arc<ServerConfig>, PkiError> {
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key().clone_key())
        .map_err(tls)?;
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Returns the configuration of a dialler that proves itself with `identity` and trusts its CAs alone.
///
/// # Errors
/// [`PkiError::Tls`] when certificate, key and CA do not fit together.
pub fn client_config(identity: &Identity, clock: Arc<dyn TimeProvider>) -> Result<Arc<ClientConfig>, PkiError> {
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_root_certificates(roots(identity.roots())?)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key().clone_key())
        .map_err(tls)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Returns the configuration of a dialler that has no certificate yet and trusts these CAs (PEM) alone.
///
/// # Errors
/// [`PkiError::Pem`] when the text holds no certificate, [`PkiError::Tls`] when it is no CA's.
pub fn client_config_without_certificate(
    ca_certificate_pem: &str,
    clock: Arc<dyn TimeProvider>,
) -> Result<Arc<ClientConfig>, PkiError> {
    let trusted = super::identity::roots_of("CA certificate", ca_certificate_pem)?;
    let mut config = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_root_certificates(roots(&trusted)?)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
