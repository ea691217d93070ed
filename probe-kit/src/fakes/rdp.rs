//! A remote desktop up to the point where a login would begin (MS-RDPBCGR 2.2.1.1, 2.2.1.2, 5.4.5.1), or, with network
//! level authentication, up to its challenge.

mod challenge;
mod computer_name;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, crypto};

pub use computer_name::{COMPUTER_NAME_MAX, ComputerName, NotComputerName};

use super::{RunningFake, serve_at, until_closed};

/// Name in the certificate.
const NAME: &str = "fake-desktop";
/// Length of a TPKT header.
const TPKT_LEN: usize = 4;
/// The fixed part of a connection request: TPKT and X.224 header.
const FIXED_LEN: usize = 11;
/// The longest connection request that is read, in bytes.
const REQUEST_MAX: usize = 1024;
/// Types of the negotiation structures.
const NEGOTIATION_REQUEST: u8 = 1;
const NEGOTIATION_RESPONSE: u8 = 2;
const NEGOTIATION_FAILURE: u8 = 3;
/// Protocols.
const PLAIN: u32 = 0;
const TLS: u32 = 1;
const CREDSSP: u32 = 2;
/// Codes of a refusal.
const NO_CERTIFICATE: u32 = 3;
const CREDSSP_REQUIRED: u32 = 5;

/// What the desktop does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FakeRdp {
    /// It chooses TLS and completes the handshake, with a certificate of its own.
    Ok,
    /// It refuses every offer: it has no certificate.
    Refuse,
    /// It accepts and says nothing.
    Hang,
    /// It chooses TLS and never answers the handshake.
    TlsHang,
    /// It wants network level authentication, CredSSP and nothing else, and gives a challenge with this name.
    Nla(ComputerName),
    /// It wants the same, completes the handshake, and says nothing after it.
    NlaHang,
}

/// What comes after the confirm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Handshake,
    Silence,
    Challenge(ComputerName),
}

impl FakeRdp {
    pub(super) async fn start(self) -> io::Result<RunningFake> {
        self.start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts it at this address, as another machine that has it now; must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When it cannot listen there, or make its certificate.
    pub async fn start_at(self, address: SocketAddr) -> io::Result<RunningFake> {
        let tls = TlsAcceptor::from(Arc::new(tls_config().map_err(io::Error::other)?));
        serve_at(address, move |mut stream| {
            let tls = tls.clone();
            // Who asks may hang up at any time; that is no failure of the fake.
            async move { drop(self.converse(&mut stream, &tls).await) }
        })
        .await
    }

    async fn converse(self, stream: &mut TcpStream, tls: &TlsAcceptor) -> io::Result<()> {
        if self == Self::Hang {
            until_closed(stream).await;
            return Ok(());
        }
        let offered = read_offer(stream).await?;
        let (kind, value, next) = self.answer(offered);
        stream.write_all(&confirm(kind, value)).await?;
        match next {
            Next::Silence => until_closed(stream).await,
            Next::Handshake => until_closed(&mut tls.accept(stream).await?).await,
            Next::Challenge(name) => {
                let mut inside = tls.accept(stream).await?;
                challenge::answer(&mut inside, name).await?;
                until_closed(&mut inside).await;
            }
        }
        Ok(())
    }

    /// Returns type and value of the answer to this offer, and what comes after it.
    fn answer(self, offered: u32) -> (u8, u32, Next) {
        match self {
            Self::Ok if offered & TLS != 0 => (NEGOTIATION_RESPONSE, TLS, Next::Handshake),
            Self::Ok if offered & CREDSSP != 0 => (NEGOTIATION_RESPONSE, CREDSSP, Next::Handshake),
            Self::TlsHang if offered & TLS != 0 => (NEGOTIATION_RESPONSE, TLS, Next::Silence),
            Self::Ok | Self::TlsHang | Self::Hang => (NEGOTIATION_RESPONSE, PLAIN, Next::Silence),
            Self::Nla(name) if offered & CREDSSP != 0 => (NEGOTIATION_RESPONSE, CREDSSP, Next::Challenge(name)),
            Self::NlaHang if offered & CREDSSP != 0 => (NEGOTIATION_RESPONSE, CREDSSP, Next::Handshake),
            Self::Nla(_) | Self::NlaHang => (NEGOTIATION_FAILURE, CREDSSP_REQUIRED, Next::Silence),
            Self::Refuse => (NEGOTIATION_FAILURE, NO_CERTIFICATE, Next::Silence),
        }
    }
}

/// Reads a connection request and returns the protocols that it offers; without a negotiation structure, none.
async fn read_offer(stream: &mut TcpStream) -> io::Result<u32> {
    let mut header = [0; TPKT_LEN];
    stream.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] != 3 || !(FIXED_LEN..=REQUEST_MAX).contains(&length) {
        return Err(io::Error::other(format!("no connection request: it begins with {header:?}")));
    }
    let mut rest = vec![0; length - TPKT_LEN];
    stream.read_exact(&mut rest).await?;
    // A cookie may stand before the structure, which is the last 8 bytes.
    let negotiation = rest[FIXED_LEN - TPKT_LEN..].last_chunk::<8>();
    Ok(match negotiation {
        Some([NEGOTIATION_REQUEST, _, 8, 0, offered @ ..]) => u32::from_le_bytes(*offered),
        Some(_) | None => PLAIN,
    })
}

/// Returns a connection confirm with this negotiation structure.
fn confirm(kind: u8, value: u32) -> [u8; 19] {
    let mut bytes = [
        0x03, 0x00, 0x00, 0x13, // TPKT: version 3, 19 bytes
        0x0e, 0xd0, 0x00, 0x00, 0x12, 0x34, 0x00, // X.224 connection confirm, class 0
        kind, 0x00, 0x08, 0x00, 0, 0, 0, 0,
    ];
    bytes[15..].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// Why there is no certificate.
#[derive(thiserror::Error, Debug)]
enum CertificateError {
    #[error("the certificate cannot be made")]
    Make(#[from] rcgen::Error),
    #[error("the certificate cannot be used")]
    Use(#[from] tokio_rustls::rustls::Error),
}

fn tls_config() -> Result<ServerConfig, CertificateError> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    Ok(ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?)
}
