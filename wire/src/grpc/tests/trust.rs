//! Who may call what.

use tokio::time::timeout;
use vouch_types::{ManagerId, Network};

use super::fixture::*;
use crate::grpc::{DialOptions, Dialler, GrpcNodeLink, GrpcPeerLinks, GrpcWatcherLink, enroll};
use crate::links::{LinkError, LogNames, NodeLink, PeerLink, RaftCall, RaftCallKind, RaftLink, WatcherLink};
use crate::pki::{CertificateRequest, client_config};
use crate::proto;

fn refused<T: std::fmt::Debug>(result: Result<T, LinkError>) -> String {
    match result {
        Err(LinkError::Refused(why)) => why,
        other => panic!("must be refused: {other:?}"),
    }
}

fn peers(dialler: Dialler, address: std::net::SocketAddr) -> GrpcPeerLinks {
    let links = GrpcPeerLinks::new(dialler);
    links.set_addresses(ManagerId::new(1), vec![(Network::Management, address)]);
    links
}

fn vote() -> RaftCall {
    RaftCall { kind: RaftCallKind::Vote, body: vec![1], names: LogNames::default() }
}

#[tokio::test]
async fn a_caller_of_the_wrong_role_is_refused_with_its_name() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let to = endpoint(1, m1.address);
    assert!(refused(GrpcNodeLink::new(dialler(&ca, &watcher(1))).open(&to).await).contains("w1.watcher.vouch"));
    assert!(refused(GrpcWatcherLink::new(dialler(&ca, &node("n1"))).open(&to).await).contains("n1.node.vouch"));
    let fetched = GrpcWatcherLink::new(dialler(&ca, &node("n1"))).fetch_probe(&to, &[1; 32]).await;
    assert!(refused(fetched).contains("watcher"));
    for wrong in [node("n1"), watcher(1)] {
        let links = peers(dialler(&ca, &wrong), m1.address);
        let who = wrong.server_name();
        assert!(refused(links.call(ManagerId::new(1), vote()).await).contains(&who));
        assert!(refused(links.evidence(ManagerId::new(1)).await).contains(&who));
        let forwarded = links.forward(ManagerId::new(1), proto::ForwardRequest::default()).await;
        assert!(refused(forwarded).contains(&who));
        let snapshot = RaftCall { kind: RaftCallKind::Snapshot, body: Vec::new(), names: LogNames::default() };
        assert!(refused(links.call(ManagerId::new(1), snapshot).await).contains(&who));
    }
}

#[tokio::test]
async fn a_caller_without_certificate_gets_nothing_but_the_enrolment() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let to = endpoint(1, m1.address);
    let bare = bare_dialler(&ca);
    assert!(refused(GrpcNodeLink::new(bare.clone()).open(&to).await).contains("certificate"));
    assert!(refused(GrpcWatcherLink::new(bare.clone()).open(&to).await).contains("certificate"));
    assert!(refused(GrpcWatcherLink::new(bare.clone()).fetch_probe(&to, &[1; 32]).await).contains("certificate"));
    assert!(refused(peers(bare.clone(), m1.address).call(ManagerId::new(1), vote()).await).contains("certificate"));
    let request = proto::EnrollRequest { watcher: 5, incarnation: 1, secret: b"wrong".to_vec(), csr: Vec::new() };
    assert!(refused(enroll(&bare, &to, request).await).contains("secret"));
}

#[tokio::test]
async fn a_watcher_enrols_and_then_opens_a_session_with_the_certificate_that_it_got() {
    let ca = authority();
    let mut m1 = start_manager(&ca, &manager(1)).await;
    let to = endpoint(1, m1.address);
    let request = CertificateRequest::generate().unwrap();
    let message =
        proto::EnrollRequest { watcher: 5, incarnation: 1, secret: b"right".to_vec(), csr: request.der().to_vec() };
    let answer = enroll(&bare_dialler(&ca), &to, message).await.unwrap();
    let own = request.complete(&answer.certificate, ca.certificate_pem()).unwrap();
    assert_eq!(*own.owner(), watcher(5));
    let options = DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() };
    let link = GrpcWatcherLink::new(Dialler::new(client_config(&own, clock()).unwrap(), options));
    let mut session = link.open(&to).await.unwrap();
    session.outbound.send(proto::FromWatcher::default()).await.unwrap();
    assert!(timeout(LIMIT, session.inbound.recv()).await.unwrap().unwrap().is_ok());
    drop(session);
    assert_eq!(m1.next_end().await.0, "w5");
}

#[tokio::test]
async fn a_certificate_of_another_clusters_ca_is_refused_on_both_sides() {
    let (ours, theirs) = (authority(), authority());
    let m1 = start_manager(&ours, &manager(1)).await;
    let to = endpoint(1, m1.address);
    // Their CA on the dialler: it turns the manager down.
    refused(GrpcNodeLink::new(dialler(&theirs, &node("n1"))).open(&to).await);
    // Trusts the manager, but shows a certificate of theirs: the manager turns it down.
    let issued = theirs.issue(&node("n1"), wall(), crate::pki::VALIDITY_MIN).unwrap();
    let mixed =
        crate::pki::Identity::from_pem(&issued.certificate_pem, &issued.key_pem, ours.certificate_pem()).unwrap();
    let options = DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() };
    let link = GrpcNodeLink::new(Dialler::new(client_config(&mixed, clock()).unwrap(), options));
    refused(link.open(&to).await);
}

#[tokio::test]
async fn a_manager_that_is_another_than_was_dialled_is_refused() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcNodeLink::new(dialler(&ca, &node("n1")));
    let why = refused(link.open(&endpoint(2, m1.address)).await);
    assert!(why.contains("m2.manager.vouch"), "{why}");
    // Nor may a node pass for a manager.
    let impostor = start_manager(&ca, &node("n2")).await;
    refused(link.open(&endpoint(1, impostor.address)).await);
}

#[tokio::test]
async fn a_dialler_whose_clock_is_in_1970_refuses_the_certificate_until_it_is_corrected() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let time = clock();
    time.set(vouch_types::WallTime::default());
    let tls = client_config(&identity(&ca, &node("n1")), time.clone()).unwrap();
    let options = DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() };
    let link = GrpcNodeLink::new(Dialler::new(tls, options));
    refused(link.open(&endpoint(1, m1.address)).await);
    time.set(wall());
    assert!(link.open(&endpoint(1, m1.address)).await.is_ok());
}
