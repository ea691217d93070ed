//! What the tests of the kit share: one host per process, and the shipped probes as files.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};
use vouch_probe_host::{HostLimits, ProbeHost};
use vouch_probe_kit::{Aim, Plan, ProbeFile, Ran, Trial};

static HOST: LazyLock<ProbeHost> = LazyLock::new(|| ProbeHost::new(HostLimits::default()).expect("an engine"));
static FILES: LazyLock<Mutex<HashMap<&'static str, ProbeFile>>> = LazyLock::new(Mutex::default);

pub fn host() -> &'static ProbeHost {
    &HOST
}

/// Returns a shipped probe, or `hostile`, as if its author had built it; each is compiled once.
pub fn shipped(name: &'static str) -> ProbeFile {
    let mut files = FILES.lock().unwrap();
    let open = || {
        let bytes = match name {
            "hostile" => vouch_probe_bundle::hostile().bytes,
            name => vouch_probe_bundle::by_name(name).unwrap().bytes,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        ProbeFile::open(host(), file.path()).unwrap()
    };
    files.entry(name).or_insert_with(open).clone()
}

/// When the certificate of a server of these tests' own ends, as a probe tells it.
pub const EXPIRES: &str = "2096-02-29T23:59:58Z";
/// The same in seconds since 1970.
pub const NOT_AFTER: i64 = 3_981_398_398;

/// Returns what does TLS with a certificate that ends then.
pub fn acceptor() -> TlsAcceptor {
    let mut params = CertificateParams::new(["desk-1.example".to_owned()]).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOT_AFTER).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Runs a shipped probe, or `hostile`, with these settings at 127.0.0.1, where the test itself may serve something.
pub async fn ran_at_localhost(probe: &'static str, settings: String) -> Ran {
    let aim = Aim::Addresses(vec![Ipv4Addr::LOCALHOST.into()]);
    let plan = Plan { timeout: Duration::from_secs(10), settings, ..Plan::new(aim) };
    Trial::start(&shipped(probe), &plan).await.unwrap().run().await
}
