//! A node's relay: each way of not answering has a name of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;
use vouch_types::NodeId;

use super::fixture::*;
use crate::grpc::GrpcRelayLink;
use crate::links::{LinkError, RelayLink};
use crate::proto;

fn request(nonce: u64) -> proto::StateRequest {
    proto::StateRequest { grant: Some(proto::Signed::default()), nonce }
}

fn n1() -> NodeId {
    NodeId::new("n1").unwrap()
}

#[tokio::test]
async fn a_watcher_gets_statements_and_agent_replies_from_a_relay() {
    let ca = authority();
    let (address, _shutdown) = start_relay(&ca, &node("n1"), Arc::default()).await;
    let link = GrpcRelayLink::new(dialler(&ca, &watcher(1)), LIMIT);
    for nonce in 1..5 {
        let answer = link.state(&n1(), address, request(nonce)).await.unwrap();
        assert_eq!(answer.statements[0].payload, nonce.to_be_bytes());
    }
    let answer = link.guest_agent(&n1(), address, proto::GuestAgentRequest::default()).await.unwrap();
    assert_eq!(answer.result, Some(proto::guest_agent_response::Result::Reply("{}".to_owned())));
}

#[tokio::test]
async fn a_relay_turns_away_who_has_no_grant_and_who_is_no_watcher() {
    let ca = authority();
    let service = Arc::new(TestRelay::default());
    let (address, _shutdown) = start_relay(&ca, &node("n1"), service.clone()).await;
    let link = GrpcRelayLink::new(dialler(&ca, &watcher(1)), LIMIT);
    let answer = link.state(&n1(), address, proto::StateRequest::default()).await;
    assert_eq!(answer, Err(LinkError::Refused("w1 shows no grant".to_owned())));
    for wrong in [dialler(&ca, &node("n2")), dialler(&ca, &manager(1)), bare_dialler(&ca)] {
        let answer = GrpcRelayLink::new(wrong, LIMIT).state(&n1(), address, request(1)).await;
        assert!(matches!(answer, Err(LinkError::Refused(_))), "{answer:?}");
    }
    let other = NodeId::new("n2").unwrap();
    let answer = link.state(&other, address, request(1)).await;
    assert!(matches!(answer, Err(LinkError::Refused(_))), "{answer:?}");
    assert_eq!(service.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_address_where_nothing_listens_is_told_from_one_that_is_silent() {
    let ca = authority();
    let link = GrpcRelayLink::new(dialler(&ca, &watcher(1)), Duration::from_millis(700));
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let answer = link.state(&n1(), closed, request(1)).await;
    assert!(matches!(answer, Err(LinkError::NotListening { .. })), "{answer:?}");

    // A full backlog drops connection requests, as a cut path does.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(loopback()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await {
        held.push(stream.unwrap());
    }
    let answer = link.state(&n1(), address, request(1)).await;
    assert!(matches!(answer, Err(LinkError::Unreachable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_stalled_agent_is_a_timeout_whether_it_stalls_before_or_after_the_handshake() {
    let ca = authority();
    let link = GrpcRelayLink::new(dialler(&ca, &watcher(1)), Duration::from_millis(700));
    // Connected by the kernel; nobody accepts.
    let stopped = TcpListener::bind(loopback()).await.unwrap();
    let answer = link.state(&n1(), stopped.local_addr().unwrap(), request(1)).await;
    assert!(matches!(answer, Err(LinkError::Timeout(_))), "{answer:?}");

    let service = Arc::new(TestRelay::default());
    let (address, _shutdown) = start_relay(&ca, &node("n1"), service.clone()).await;
    let patient = GrpcRelayLink::new(dialler(&ca, &watcher(1)), Duration::from_secs(2));
    patient.state(&n1(), address, request(1)).await.unwrap();
    service.hangs.store(true, Ordering::SeqCst);
    let answer = patient.state(&n1(), address, request(2)).await;
    assert!(matches!(answer, Err(LinkError::Timeout(_))), "{answer:?}");
    service.hangs.store(false, Ordering::SeqCst);
    assert!(patient.state(&n1(), address, request(3)).await.is_ok());
}

#[tokio::test]
async fn a_kept_connection_that_the_agents_end_broke_is_replaced_within_the_call() {
    let ca = authority();
    let (address, shutdown) = start_relay(&ca, &node("n1"), Arc::default()).await;
    let path = Forwarder::start(address).await;
    let link = GrpcRelayLink::new(dialler(&ca, &watcher(1)), LIMIT);
    link.state(&n1(), path.address, request(1)).await.unwrap();
    // The path swallows what is under way on the kept connection, then carries again: the next question gets through.
    path.silent.send(true).unwrap();
    let n1 = n1();
    let question = link.state(&n1, path.address, request(2));
    tokio::pin!(question);
    assert!(timeout(Duration::from_millis(400), &mut question).await.is_err());
    path.silent.send(false).unwrap();
    assert!(timeout(LIMIT, question).await.unwrap().is_ok());
    shutdown.cancel();
}
