//! What the trace of a run shows: lines of the probe, what it asks of the host, and what travels.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::net::Ipv4Addr;

use common::{acceptor, ran_at_localhost, shipped};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use vouch_probe_host::limits::{LOG_LINE_MAX, LOG_LINES_MAX, TRACED_TRANSFERS_MAX};
use vouch_probe_kit::{Aim, Fake, Plan, Ran, Trial};

/// Runs a shipped probe with these settings at the fake SSH service.
async fn ran_at_ssh(probe: &'static str, settings: &str) -> Ran {
    let plan = Plan { settings: settings.to_owned(), ..Plan::new(Aim::Fake("ssh:ok".parse().unwrap())) };
    Trial::start(&shipped(probe), &plan).await.unwrap().run().await
}

#[tokio::test]
async fn a_trace_shows_what_travels_and_does_not_grow_without_end() {
    let ssh = ran_at_ssh("ssh", "{}").await;
    assert_eq!((ssh.state(), ssh.reason()), ("up", "greeted"));
    let received = ssh.trace.iter().find(|line| line.text.starts_with("received ")).unwrap();
    assert!(received.text.contains(r#": "SSH-2.0-"#) && received.text.ends_with(r#"\r\n""#), "{received:?}");
    let https = ran_at_ssh("http", r#"{"tls": true}"#).await;
    assert_eq!((https.state(), https.reason()), ("degraded", "tls_failed"));
    let of_tls = https.trace.iter().filter(|line| line.kind == "tls").count();
    assert!(of_tls > 0 && of_tls == https.trace.len(), "the handshake is the host's: {:#?}", https.trace);
    let fake = "tcp:accept".parse::<Fake>().unwrap().start().await.unwrap();
    let port = fake.port().unwrap();
    let settings = format!("\"write-on 127.0.0.1:{port}\"");
    let plan = Plan { settings, ports: [port].into(), ..Plan::new(Aim::Addresses(vec![Ipv4Addr::LOCALHOST.into()])) };
    let flood = Trial::start(&shipped("hostile"), &plan).await.unwrap().run().await;
    assert_eq!((flood.reason(), flood.message().as_str()), ("wrote", "400"));
    let transfers = flood.trace.iter().filter(|line| line.text.starts_with("sent 1 bytes to ")).count();
    assert_eq!(transfers, usize::try_from(TRACED_TRANSFERS_MAX).unwrap());
    let last = flood.trace.last().unwrap();
    assert!(last.text.ends_with("(the last line of this kind)"), "{last:?}");
}

#[tokio::test]
async fn a_trace_shows_what_is_said_inside_tls() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut inside = acceptor().accept(stream).await.unwrap();
        let mut request: Vec<u8> = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(inside.read_u8().await.unwrap());
        }
        inside.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        inside.flush().await.unwrap();
        // The probe hangs up when it has read the answer.
        let _ = inside.read(&mut [0; 1]).await;
        request
    });
    let ran = ran_at_localhost("http", format!(r#"{{"tls": true, "port": {port}}}"#)).await;
    assert_eq!((ran.state(), ran.reason()), ("up", "answered"), "{}", ran.message());
    let request = served.await.unwrap();
    let inside: Vec<&str> = ran.trace.iter().filter(|line| line.kind == "tls").map(|line| line.text.as_str()).collect();
    let sent = format!(r#"{} bytes: "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"#, request.len());
    let received = r#"received 40 bytes: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok""#;
    assert!(inside.iter().any(|line| line.contains(&sent)), "{sent}: {inside:#?}");
    assert!(inside.contains(&received), "{received}: {inside:#?}");
}

#[tokio::test]
async fn lines_of_the_probe_are_cut_and_end_after_so_many() {
    // It writes 10,000 lines of 5,000 bytes and more.
    let logged = ran_at_localhost("hostile", "\"log\"".to_owned()).await;
    assert_eq!(logged.reason(), "logged", "{}", logged.message());
    let lines = logged.trace.iter().filter(|line| line.kind == "info").map(|line| &line.text);
    assert_eq!(lines.clone().count(), usize::try_from(LOG_LINES_MAX).unwrap());
    for (number, line) in lines.enumerate() {
        assert!(line.len() == LOG_LINE_MAX && line.starts_with(&format!("line {number} xxx")), "{line}");
    }
}
