//! Mutual TLS for etcd, as vouch has it: one CA, one certificate for members and clients alike.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// A CA and a certificate in files, and how a client uses them.
pub(super) struct EtcdTls {
    client: Arc<ClientConfig>,
    arguments: Vec<String>,
}

impl EtcdTls {
    /// Makes them in a folder.
    pub(super) fn make(folder: &Path) -> Result<Self> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate()?;
        let ca_certificate = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);
        let mut member = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        member.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = member.signed_by(&key, &issuer)?;

        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone())?;
        let key_der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate.der().clone()], key_der)?;
        client.alpn_protocols = vec![b"h2".to_vec()];

        let mut arguments = vec!["--client-cert-auth".to_owned(), "--peer-client-cert-auth".to_owned()];
        let files = [
            ("trusted-ca", "ca.pem", ca_certificate.pem()),
            ("cert", "etcd.pem", certificate.pem()),
            ("key", "etcd.key", key.serialize_pem()),
        ];
        for (option, name, text) in files {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("{} cannot be made", path.display()))?;
            arguments.push(format!("--{option}-file={}", path.display()));
            arguments.push(format!("--peer-{option}-file={}", path.display()));
        }
        Ok(Self { client: Arc::new(client), arguments })
    }

    /// Has a member use them.
    pub(super) fn apply(&self, command: &mut Command) {
        command.args(&self.arguments);
    }

    /// Returns a connection that is opened with the first request.
    pub(super) fn channel(&self, to: SocketAddr) -> Result<Channel> {
        let tls = TlsConnector::from(Arc::clone(&self.client));
        let connector = tower::service_fn(move |_: http::Uri| {
            let tls = tls.clone();
            async move {
                let tcp = TcpStream::connect(to).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::IpAddress(to.ip().into());
                std::io::Result::Ok(TokioIo::new(tls.connect(name, tcp).await?))
            }
        });
        Ok(Endpoint::from_shared(format!("http://{to}"))?.connect_with_connector_lazy(connector))
    }
}
