//! The import `tcp`: a guest that asks the host for handshakes, as many as it may and more.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::{DEADLINE, granted, order, probe, refusing_port, server, silent_port, target, target_at};
use vouch_probe_host::limits::TCP_HANDSHAKES_MAX;

async fn said(word: &str, port: u16) -> String {
    let found = order(&format!("{word} 127.0.0.1:{port}"), &granted(port)).await.unwrap();
    format!("{}: {}", found.reason, found.message)
}

#[tokio::test]
async fn an_open_port_a_closed_one_and_a_silent_one_are_told_apart() {
    let open = server(async |stream| drop(stream)).await;
    assert_eq!(said("handshake", open).await, "connected: ");
    let (_held, refusing) = refusing_port();
    assert_eq!(said("handshake", refusing).await, "refused: Error::Refused");
    let silent = silent_port();
    let (begun, deadline) = (Instant::now(), Duration::from_millis(300));
    let settings = format!("\"handshake 127.0.0.1:{}\"", silent.port);
    let found = probe("hostile").run(&target(), &settings, deadline, &granted(silent.port)).await.unwrap();
    assert_eq!(found.message, "Error::Timeout", "it asked for more time than its run has, and still answers");
    assert!(begun.elapsed() >= deadline);
}

#[tokio::test]
async fn a_network_without_a_route_says_nothing_of_the_target() {
    // TCP has no connections to a multicast group: the kernel has no route for one.
    let nowhere = target_at(Ipv4Addr::new(224, 0, 0, 1).into());
    let ran = probe("hostile").run(&nowhere, "\"handshake 224.0.0.1:9\"", DEADLINE, &granted(9)).await.unwrap();
    assert!(ran.message.starts_with("Error::NoRoute("), "{}", ran.message);
}

#[tokio::test]
async fn a_guest_reaches_by_handshakes_what_sockets_reach_and_nothing_else() {
    let elsewhere = std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let address = elsewhere.local_addr().unwrap();
    for address in [address.to_string(), format!("[::ffff:127.0.0.2]:{}", address.port()), "0.0.0.0:1".to_owned()] {
        let port = address.rsplit(':').next().unwrap().parse().unwrap();
        let found = order(&format!("handshake {address}"), &granted(port)).await.unwrap();
        assert_eq!(found.message, "Error::NotGranted", "{address}");
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nothing arrived");
    let other = server(async |stream| drop(stream)).await;
    let found = order(&format!("handshake 127.0.0.1:{other}"), &granted(1)).await.unwrap();
    assert_eq!(found.message, "Error::NotGranted");
    let mapped = order(&format!("handshake [::ffff:127.0.0.1]:{other}"), &granted(other)).await.unwrap();
    assert_eq!(mapped.reason, "connected", "an IPv4 address in IPv6 form is the same machine");
}

#[tokio::test]
async fn handshakes_have_their_limit() {
    let open = server(async |stream| drop(stream)).await;
    let made = said("handshake-on", open).await;
    let limit = format!(
        "made: {TCP_HANDSHAKES_MAX}: Error::OutOfBounds(\"more than {TCP_HANDSHAKES_MAX} handshakes in one run\")"
    );
    assert_eq!(made, limit);
}
