//! Sessions: echo, ends and resets.

use tokio::time::{Instant, timeout};

use super::fixture::*;
use crate::grpc::{GrpcNodeLink, GrpcWatcherLink};
use crate::links::{LinkError, NodeLink, WatcherLink};
use crate::proto;
use crate::proto::to_node::Message;

fn report(sequence: u64) -> proto::FromNode {
    let report = proto::NodeReport { sequence, ..proto::NodeReport::default() };
    proto::FromNode { message: Some(proto::from_node::Message::Report(report)) }
}

#[tokio::test]
async fn a_node_and_a_manager_talk_over_mutual_tls_and_the_certificate_says_who_it_is() {
    let ca = authority();
    let mut m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node("n1")));
    let mut session = link.open(&endpoint(1, m1.address)).await.unwrap();
    for sequence in 1..=100 {
        session.outbound.send(report(sequence)).await.unwrap();
        let answer = timeout(LIMIT, session.inbound.recv()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.message, Some(Message::Tick(proto::Tick { sequence })));
    }
    drop(session);
    assert_eq!(m1.next_end().await.0, "n1");
}

#[tokio::test]
async fn a_session_that_its_dialler_drops_ends_at_the_manager_at_once() {
    let ca = authority();
    let mut m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node("n1")));
    let session = link.open(&endpoint(1, m1.address)).await.unwrap();
    let dropped = Instant::now();
    drop(session);
    let (who, end) = m1.next_end().await;
    assert_eq!(who, "n1");
    assert!(matches!(end, Ended::Broken(LinkError::Reset(_))), "{end:?}");
    assert!(dropped.elapsed().as_secs() < 1, "{:?}", dropped.elapsed());
}

#[tokio::test]
async fn a_killed_manager_shows_as_one_reset_and_then_the_end() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node("n1")));
    let mut session = link.open(&endpoint(1, m1.address)).await.unwrap();
    let killed = Instant::now();
    m1.shutdown.cancel();
    let last = timeout(LIMIT, session.inbound.recv()).await.unwrap();
    assert!(matches!(last, Some(Err(LinkError::Reset(_)))), "{last:?}");
    assert!(killed.elapsed().as_secs() < 1, "{:?}", killed.elapsed());
    assert!(timeout(LIMIT, session.inbound.recv()).await.unwrap().is_none());
    timeout(LIMIT, session.outbound.closed()).await.expect("the sender is told too");
    timeout(LIMIT, m1.task).await.expect("the server stops").unwrap();
    let again = link.open(&endpoint(1, m1.address)).await;
    assert!(matches!(again, Err(LinkError::NotListening { .. })), "{again:?}");
}

#[tokio::test]
async fn a_path_that_falls_silent_is_given_up_and_dialled_anew_once_it_carries_again() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let path = Forwarder::start(m1.address).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node("n1")));
    let mut session = link.open(&endpoint(1, path.address)).await.unwrap();
    path.silent.send(true).unwrap();
    let last = timeout(LIMIT, session.inbound.recv()).await.expect("an unanswered ping closes the connection");
    assert!(matches!(last, Some(Err(LinkError::Reset(_)))), "{last:?}");
    path.silent.send(false).unwrap();
    let healed = Instant::now();
    let mut session = link.open(&endpoint(1, path.address)).await.unwrap();
    session.outbound.send(report(1)).await.unwrap();
    timeout(LIMIT, session.inbound.recv()).await.unwrap().unwrap().unwrap();
    assert!(healed.elapsed().as_secs() < 1, "{:?}", healed.elapsed());
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_session_instead_of_filling_memory() {
    let ca = authority();
    let mut m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node("n1")));
    let mut session = link.open(&endpoint(1, m1.address)).await.unwrap();
    let name = "x".repeat(crate::grpc::MESSAGE_MAX + 1);
    let hello = proto::NodeHello { driver: name, ..proto::NodeHello::default() };
    let too_long = proto::FromNode { message: Some(proto::from_node::Message::Hello(hello)) };
    session.outbound.send(too_long).await.unwrap();
    let (_, end) = m1.next_end().await;
    assert!(matches!(end, Ended::Broken(_)), "{end:?}");
    let last = timeout(LIMIT, session.inbound.recv()).await.unwrap();
    assert!(!matches!(last, Some(Ok(_))), "{last:?}");
}

#[tokio::test]
async fn a_watcher_fetches_a_component_whole_and_is_told_when_there_is_none() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcWatcherLink::new(dialler(&ca, &watcher(1)));
    let component = link.fetch_probe(&endpoint(1, m1.address), &[1; 32]).await.unwrap();
    assert_eq!(component, vec![7; 700_000]);
    let none = link.fetch_probe(&endpoint(1, m1.address), &[2; 32]).await;
    assert!(matches!(none, Err(LinkError::Refused(_))), "{none:?}");
}

#[tokio::test]
async fn a_node_that_was_removed_hears_that_and_what_to_do_instead_of_a_session() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node(REMOVED)));
    let refused = link.open(&endpoint(1, m1.address)).await.unwrap_err();
    assert_eq!(refused, LinkError::Removed("node n9 was removed: join again".to_owned()));
}
