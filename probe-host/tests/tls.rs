//! The import `tls`: a guest that talks to a real TLS server, and guests that ask for more than they may have.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{granted, order, probe, refusing_port, server, target};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, crypto, version};
use vouch_probe_host::digest_of;
use vouch_probe_host::limits::{TLS_CONNECTIONS_MAX, TLS_EXCHANGES_MAX};

async fn said(word: &str, port: u16) -> (String, String) {
    let found = order(&format!("{word} 127.0.0.1:{port}"), &granted(port)).await.unwrap();
    (found.reason, found.message)
}

/// Returns a server's TLS of one version, with a certificate of its own, and that certificate's hash.
fn acceptor(version: &'static SupportedProtocolVersion) -> (TlsAcceptor, String) {
    let names = ["desk-1.example".to_owned(), "192.0.2.7".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(signing_key.serialize_der().into()))
        .unwrap();
    config.alpn_protocols = vec![b"smtp".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), digest_of(cert.der()).to_string())
}

/// Answers one line in plain text, then one inside TLS, with the name that it was told.
async fn converse(stream: TcpStream, acceptor: TlsAcceptor) {
    let mut plain = BufReader::new(stream);
    let mut line = String::new();
    plain.read_line(&mut line).await.unwrap();
    assert_eq!(line, "STARTTLS\r\n");
    plain.write_all(b"220 go on\r\n").await.unwrap();
    let tls = acceptor.accept(plain.into_inner()).await.unwrap();
    let name = tls.get_ref().1.server_name().unwrap().to_owned();
    let mut inside = BufReader::new(tls);
    line.clear();
    inside.read_line(&mut line).await.unwrap();
    let answer = format!("250 {name} hears {line}");
    inside.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(inside.read(&mut [0; 1]).await.unwrap(), 0, "the connection ends as TLS wants it, with an alert");
}

#[tokio::test]
async fn a_guest_asks_for_tls_and_learns_all_of_the_certificate_and_talks_inside() {
    for (version, told) in [(&version::TLS13, "TLS 1.3"), (&version::TLS12, "TLS 1.2")] {
        let (acceptor, sha256) = acceptor(version);
        let port = server(move |stream| converse(stream, acceptor.clone())).await;
        let (reason, heard) = said("tls-talk", port).await;
        assert_eq!(reason, "talked", "{heard}");
        let parts: Vec<&str> = heard.split('|').collect();
        assert_eq!(parts[..4], ["220 go on", told, "true", "smtp"], "{heard}");
        assert_eq!(parts[4..6], [sha256.as_str(), "desk-1.example,192.0.2.7"], "{heard}");
        assert!(parts[6].ends_with(", 1)"), "one certificate: {heard}");
        assert_eq!(parts[7], "250 desk-1.example hears EHLO probe", "{heard}");
    }
}

#[tokio::test]
async fn what_a_target_does_instead_of_tls_is_told_apart() {
    let no_tls = server(async |mut stream| {
        stream.write_all(b"220 go on\r\n").await.unwrap();
        let mut hello = [0; 64];
        while stream.read(&mut hello).await.is_ok_and(|read| read < 64) {}
        stream.write_all(b"500 what is that?\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let (reason, why) = said("tls-talk", no_tls).await;
    assert!(reason == "refused" && why.starts_with("Error::Handshake("), "{why}");
    let hangs_up = server(async |mut stream| {
        stream.write_all(b"220 go on\r\n").await.unwrap();
        let _ = stream.read(&mut [0; 64]).await;
    })
    .await;
    assert_eq!(said("tls-talk", hangs_up).await.1, "Error::Closed");
    let silent = server(async |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(said("tls-talk", silent).await.1, "Error::Timeout");
    let (_held, refusing) = refusing_port();
    assert_eq!(said("tls-talk", refusing).await.1, "Error::Refused");
    let eager = server(async |mut stream| {
        stream.write_all(b"220 go on\r\n250 and this was slipped in\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let (_, why) = said("tls-talk", eager).await;
    assert!(why.contains("bytes of plain text were not read before the handshake"), "{why}");
}

#[tokio::test]
async fn a_guest_reaches_over_tls_what_sockets_reach_and_nothing_else() {
    let elsewhere = std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let address = elsewhere.local_addr().unwrap();
    for address in [address.to_string(), format!("[::ffff:127.0.0.2]:{}", address.port()), "0.0.0.0:1".to_owned()] {
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        let found = order(&format!("tls-connect {address}"), &granted(port)).await.unwrap();
        assert_eq!((found.reason.as_str(), found.message.as_str()), ("refused", "Error::NotGranted"), "{address}");
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nothing arrived");
    let other = server(async |stream| drop(stream)).await;
    let found = order(&format!("tls-connect 127.0.0.1:{other}"), &granted(1)).await.unwrap();
    assert_eq!(found.message, "Error::NotGranted");
    assert_eq!(said("tls-connect", other).await.0, "connected", "the same with the grant");
}

#[tokio::test]
async fn connections_exchanges_and_bytes_have_their_limits() {
    let open = server(async |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let (_, held) = said("tls-hoard", open).await;
    assert!(held.starts_with(&format!("{TLS_CONNECTIONS_MAX}: Error::OutOfBounds(")), "{held}");
    let (_, exchanged) = said("tls-exchange-on", open).await;
    assert!(exchanged.starts_with(&format!("{TLS_EXCHANGES_MAX}: Error::OutOfBounds(")), "{exchanged}");
    let endless = server(async |mut stream| while stream.write_all(&[0; 4096]).await.is_ok() {}).await;
    let found = order(&format!("tls-bounds 127.0.0.1:{endless}"), &granted(endless)).await.unwrap();
    let lines: Vec<&str> = found.facts.iter().map(|(_, value)| value.as_str()).collect();
    for (line, words) in lines.iter().zip([
        "at most 16384 are taken",
        "bytes is 66560: must be from 1 to 65536",
        "terminator has 17 bytes",
        "server-name is",
        "server-name has 254 bytes: at most 253 are told",
        "alpn has 9 protocols",
        "alpn: a protocol's name",
        "certificate 0: the target did not show it",
        "there was no handshake",
        "did not end within 65536 bytes",
    ]) {
        assert!(line.contains(words), "{words} is not in {line}");
    }
    assert_eq!(lines.len(), 10, "{lines:?}");
}

#[tokio::test]
async fn what_a_target_said_before_it_reset_the_connection_is_heard() {
    // What it was sent and did not read makes its end a reset.
    let busy = || server(async |mut stream| stream.write_all(b"421 busy").await.unwrap());
    let (_, heard) = said("tls-last-words", busy().await).await;
    assert_eq!(heard, r#"Some(Error::Closed) Ok(Ok("421 busy")) Some(Error::Closed)"#);
    let (_, heard) = said("tls-rest", busy().await).await;
    assert_eq!(heard, r#"Ok(Ok("421 busy"))"#);
}

#[tokio::test]
async fn a_certificate_is_told_after_the_connection_has_ended() {
    let (acceptor, _) = acceptor(&version::TLS13);
    let port = server(move |stream| {
        let acceptor = acceptor.clone();
        async move { drop(acceptor.accept(stream).await.unwrap()) }
    })
    .await;
    let (_, heard) = said("tls-shown", port).await;
    assert_eq!(heard, r#"Ok(true) Some(Error::Closed) Ok("desk-1.example,192.0.2.7")"#);
}

#[tokio::test]
async fn a_wait_without_end_is_a_timeout_at_the_deadline_and_the_guest_still_answers() {
    let silent = server(async |mut stream| {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let begun = Instant::now();
    let (deadline, lent) = (Duration::from_millis(300), granted(silent));
    let settings = format!("\"tls-wait 127.0.0.1:{silent}\"");
    let found = probe("hostile").run(&target(), &settings, deadline, &lent).await.unwrap();
    assert_eq!((found.reason.as_str(), found.message.as_str()), ("waited", "Some(Error::Timeout)"));
    assert!(begun.elapsed() >= deadline);
}
