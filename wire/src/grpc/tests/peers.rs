//! Managers among themselves.

use std::time::Duration;

use futures::stream::StreamExt;
use tokio::time::{Instant, timeout};
use vouch_types::{LogIndex, LogName, ManagerId, Network, RecordedLog};

use super::fixture::*;
use crate::grpc::{GrpcPeerLinks, SNAPSHOT_CHUNK};
use crate::links::{LinkError, LogNames, PeerLink, RaftCall, RaftCallKind, RaftLink};
use crate::proto;

const M1: ManagerId = ManagerId::new(1);

#[tokio::test]
async fn every_kind_of_raft_call_arrives_as_what_it_is_with_the_callers_name() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    for (kind, length) in [
        (RaftCallKind::Append, 5),
        (RaftCallKind::Vote, 0),
        (RaftCallKind::PreVote, 1),
        (RaftCallKind::TransferLeader, 2),
        (RaftCallKind::Snapshot, 0),
        (RaftCallKind::Snapshot, 3 * SNAPSHOT_CHUNK + 1),
    ] {
        let answer =
            links.call(M1, RaftCall { kind, body: vec![9; length], names: LogNames::default() }).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("m2 {kind:?} {length}"));
    }
}

#[tokio::test]
async fn every_kind_of_raft_call_says_between_which_logs_it_is() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let log = |number| LogName::new(uuid::Uuid::from_u128(number));
    let receiver = Some(RecordedLog { name: log(7), index: LogIndex::new(70) });
    let names = LogNames { sender: Some(log(8)), sender_recorded: Some(LogIndex::new(80)), receiver };
    use RaftCallKind::{Append, PreVote, Snapshot, TransferLeader, Vote};
    for kind in [Append, Vote, PreVote, TransferLeader, Snapshot] {
        let answer = links.call(M1, RaftCall { kind, body: vec![9], names }).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("m2 {kind:?} 1{}", said(&names)));
    }
    let mut answers = links.append_stream(M1, names, futures::stream::pending().boxed()).await.unwrap();
    let first = timeout(LIMIT, answers.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(String::from_utf8(first).unwrap(), said(&names));
}

#[tokio::test]
async fn a_stream_of_appends_is_answered_in_order() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let requests = futures::stream::iter((0..5_000_u32).map(|i| i.to_be_bytes().to_vec())).boxed();
    let answers = links.append_stream(M1, LogNames::default(), requests).await.unwrap();
    let answers: Vec<u32> =
        timeout(LIMIT, answers.map(|a| u32::from_be_bytes(a.unwrap().try_into().unwrap())).collect()).await.unwrap();
    assert_eq!(answers, (0..5_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_of_appends_to_a_killed_manager_ends_with_a_reset() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let endless = futures::stream::iter([vec![1]]).chain(futures::stream::pending()).boxed();
    let mut answers = links.append_stream(M1, LogNames::default(), endless).await.unwrap();
    assert_eq!(timeout(LIMIT, answers.next()).await.unwrap(), Some(Ok(vec![1])));
    m1.shutdown.cancel();
    let last = timeout(LIMIT, answers.next()).await.unwrap();
    assert!(matches!(last, Some(Err(LinkError::Reset(_)))), "{last:?}");
}

#[tokio::test]
async fn the_other_network_is_used_when_the_first_does_not_answer() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let silent = Forwarder::start(m1.address).await;
    silent.silent.send(true).unwrap();
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, silent.address), (Network::Service, m1.address)]);
    let begun = Instant::now();
    let vote = RaftCall { kind: RaftCallKind::Vote, body: Vec::new(), names: LogNames::default() };
    links.call(M1, vote.clone()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let table = links.addresses(M1).unwrap();
    assert_eq!(table[0].0, Network::Service, "what answered last is tried first");
    let mut evidence = links.evidence(M1).await.unwrap();
    evidence.outbound.send(proto::EvidenceFrame::default()).await.unwrap();
    assert!(timeout(LIMIT, evidence.inbound.recv()).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn callers_with_less_patience_than_a_handshake_takes_still_get_through() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, m1.address)]);
    let vote = RaftCall { kind: RaftCallKind::Vote, body: Vec::new(), names: LogNames::default() };
    let through = async {
        while timeout(Duration::from_micros(500), links.call(M1, vote.clone())).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, through).await.expect("the connection comes about in the background");
}

#[tokio::test]
async fn a_manager_that_came_back_at_another_address_is_reached_there() {
    let ca = authority();
    let old = start_manager(&ca, &manager(1)).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, old.address)]);
    let vote = RaftCall { kind: RaftCallKind::Vote, body: Vec::new(), names: LogNames::default() };
    links.call(M1, vote.clone()).await.unwrap();
    old.shutdown.cancel();
    timeout(LIMIT, old.task).await.unwrap().unwrap();
    let gone = links.call(M1, vote.clone()).await;
    assert!(matches!(gone, Err(LinkError::Reset(_) | LinkError::NotListening { .. })), "{gone:?}");
    let new = start_manager(&ca, &manager(1)).await;
    links.set_addresses(M1, vec![(Network::Management, new.address)]);
    links.call(M1, vote.clone()).await.unwrap();
    let forwarded = links.forward(M1, proto::ForwardRequest::default()).await.unwrap();
    assert_eq!(forwarded.response, Some(proto::forward_response::Response::NotLeader(2)));
    links.set_addresses(M1, Vec::new());
    assert!(matches!(links.call(M1, vote).await, Err(LinkError::Unreachable { .. })));
}

#[tokio::test]
async fn a_connection_on_which_calls_stay_unanswered_is_dialled_anew() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let path = Forwarder::start(m1.address).await;
    let links = GrpcPeerLinks::new(dialler(&ca, &manager(2)));
    links.set_addresses(M1, vec![(Network::Management, path.address), (Network::Service, m1.address)]);
    let vote = RaftCall { kind: RaftCallKind::Vote, body: Vec::new(), names: LogNames::default() };
    links.call(M1, vote.clone()).await.unwrap();
    path.silent.send(true).unwrap();
    let cut = Instant::now();
    let through = async {
        while !matches!(timeout(Duration::from_millis(100), links.call(M1, vote.clone())).await, Ok(Ok(_))) {}
    };
    timeout(LIMIT, through).await.expect("the other network is found");
    assert!(cut.elapsed() < Duration::from_secs(3), "{:?}", cut.elapsed());
}
