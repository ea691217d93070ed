//! Certificates that are exchanged under a running process, and those that do not hold any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use vouch_types::WallTime;

use super::fixture::*;
use crate::grpc::{DialOptions, Dialler, GrpcCertificateLink, GrpcNodeLink};
use crate::links::{CertificateLink, LinkError, NodeLink, Session};
use crate::pki::{
    AdjustableTime, CaDigest, CertificateAuthority, CertificateRequest, LiveIdentity, PeerIdentity, VALIDITY_MIN,
    client_config,
};
use crate::proto;

const DAY: Duration = Duration::from_secs(24 * 3600);

type NodeSession = Session<proto::ToNode, proto::FromNode>;

async fn answers(session: &mut NodeSession) {
    session.outbound.send(proto::FromNode::default()).await.unwrap();
    assert!(timeout(LIMIT, session.inbound.recv()).await.unwrap().unwrap().is_ok());
}

fn options() -> DialOptions {
    DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() }
}

fn days_ago(days: u32) -> WallTime {
    WallTime::from_unix_millis(wall().as_unix_millis() - u64::try_from((DAY * days).as_millis()).unwrap())
}

fn aged(ca: &CertificateAuthority, owner: &PeerIdentity, days: u32) -> crate::pki::Identity {
    ca.issue(owner, days_ago(days), VALIDITY_MIN).unwrap().identity().unwrap()
}

/// A CA that trusts another one as well: both certificates in one text, its own first.
fn both(first: &CertificateAuthority, second: &CertificateAuthority) -> String {
    format!("{}{}", first.certificate_pem(), second.certificate_pem())
}

#[tokio::test]
async fn a_certificate_that_is_exchanged_is_shown_by_new_connections_both_ways_and_an_old_stream_goes_on() {
    let (old, new) = (authority(), authority());
    let m1 = start_manager(&old, &manager(1)).await;
    let to = endpoint(1, m1.address);
    let live = LiveIdentity::new(identity(&old, &node("n1")), clock()).unwrap();
    let link = GrpcNodeLink::new(Dialler::new(live.client(), options()));
    let mut stream = link.open(&to).await.unwrap();
    answers(&mut stream).await;

    // Both sides take certificates of another CA into use: whoever knows the old one alone is turned down from now on.
    for (side, owner) in [(&m1.live, manager(1)), (&live, node("n1"))] {
        side.replace(identity(&new, &owner)).unwrap();
    }
    let mut second = link.open(&to).await.unwrap();
    answers(&mut second).await;
    answers(&mut stream).await;
    assert!(matches!(GrpcNodeLink::new(dialler(&old, &node("n2"))).open(&to).await, Err(LinkError::Refused(_))));
    let seen = CaDigest::of(&live.identity().roots()[0]);
    assert_eq!(seen, new.digest().unwrap());
}

#[tokio::test]
async fn with_two_cas_trusted_on_both_sides_certificates_of_either_one_hold() {
    let (old, new) = (authority(), authority());
    let m1 = start_manager(&old, &manager(1)).await;
    let to = endpoint(1, m1.address);
    let trusting = |identity: crate::pki::Identity| identity.renewed(None, &both(&new, &old)).unwrap();
    m1.live.replace(trusting(identity(&old, &manager(1)))).unwrap();
    for ca in [&old, &new] {
        let own = trusting(identity(ca, &node("n1")));
        let link = GrpcNodeLink::new(Dialler::new(client_config(&own, clock()).unwrap(), options()));
        answers(&mut link.open(&to).await.unwrap()).await;
    }
    m1.live.replace(trusting(identity(&new, &manager(1)))).unwrap();
    let own = trusting(identity(&old, &node("n1")));
    let link = GrpcNodeLink::new(Dialler::new(client_config(&own, clock()).unwrap(), options()));
    answers(&mut link.open(&to).await.unwrap()).await;
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side_and_cannot_be_renewed_with() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let to = endpoint(1, m1.address);
    let expired = client_config(&aged(&ca, &node("n1"), 8), clock()).unwrap();
    let dialler = Dialler::new(expired, options());
    let why = GrpcNodeLink::new(dialler.clone()).open(&to).await.expect_err("expired").to_string();
    assert!(why.to_lowercase().contains("expired"), "{why}");
    let check = proto::CertificateCheck::default();
    let refused = GrpcCertificateLink::new(dialler, vec![to.clone()]).check(check).await;
    assert!(matches!(refused, Err(LinkError::Refused(_))), "{refused:?}");

    // And a manager whose certificate has expired while it ran is turned down by those who dial it.
    let time = Arc::new(AdjustableTime::at_least(WallTime::default()));
    let own = client_config(&ca.issue(&node("n2"), wall(), DAY * 60).unwrap().identity().unwrap(), time.clone());
    let link = GrpcNodeLink::new(Dialler::new(own.unwrap(), options()));
    answers(&mut link.open(&to).await.unwrap()).await;
    time.set(WallTime::from_unix_millis(wall().as_unix_millis() + u64::try_from((DAY * 8).as_millis()).unwrap()));
    let why = link.open(&to).await.expect_err("the manager's has expired").to_string();
    assert!(why.to_lowercase().contains("expired"), "{why}");
}

#[tokio::test]
async fn a_certificate_is_renewed_for_who_shows_it_whatever_the_request_says() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let own = identity(&ca, &node("n1"));
    let dialler = Dialler::new(client_config(&own, clock()).unwrap(), options());
    let link = GrpcCertificateLink::new(dialler, vec![endpoint(1, m1.address)]);
    let greedy = rcgen::KeyPair::generate().unwrap();
    let greedy = rcgen::CertificateParams::new(["m1.manager.vouch".to_owned()]).unwrap().serialize_request(&greedy);
    let check = proto::CertificateCheck { csr: greedy.unwrap().der().to_vec(), trusts: Vec::new() };
    let answer = link.check(check).await.unwrap();
    // Of another key: it is of no use to who keeps its own.
    let other = own.renewed(Some(&answer.certificate), &answer.ca_certificates).unwrap();
    assert_eq!(*other.owner(), node("n1"));
    assert!(LiveIdentity::new(other, clock()).is_err());
    let csr = CertificateRequest::renewal_of(&own).unwrap().der().to_vec();
    let answer = link.check(proto::CertificateCheck { csr, trusts: Vec::new() }).await.unwrap();
    let renewed = own.renewed(Some(&answer.certificate), &answer.ca_certificates).unwrap();
    assert!(LiveIdentity::new(renewed, clock()).is_ok());
}

#[tokio::test]
async fn one_without_a_certificate_may_not_ask_for_a_renewal() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let link = GrpcCertificateLink::new(bare_dialler(&ca), vec![endpoint(1, m1.address)]);
    let why = link.check(proto::CertificateCheck::default()).await.expect_err("refused").to_string();
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn the_managers_are_asked_one_after_the_other_until_one_answers() {
    let ca = authority();
    let m2 = start_manager(&ca, &manager(2)).await;
    let gone = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let managers = vec![endpoint(1, gone), endpoint(2, m2.address)];
    let link = GrpcCertificateLink::new(dialler(&ca, &watcher(3)), managers);
    let answer = link.check(proto::CertificateCheck::default()).await.unwrap();
    assert_eq!(answer.ca_certificates, ca.certificate_pem());
}

#[tokio::test]
async fn a_manager_that_takes_connections_and_says_nothing_does_not_starve_those_behind_it() {
    let ca = authority();
    let m2 = start_manager(&ca, &manager(2)).await;
    let silent = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let managers = vec![endpoint(1, silent.local_addr().unwrap()), endpoint(2, m2.address)];
    let link = GrpcCertificateLink::new(dialler(&ca, &watcher(3)), managers);
    // Given up while the first one is silent, as whoever asks does after a time.
    tokio::select! {
        answer = link.check(proto::CertificateCheck::default()) => panic!("nobody answers: {answer:?}"),
        taken = silent.accept() => drop(taken.unwrap()),
    }
    tokio::select! {
        answer = link.check(proto::CertificateCheck::default()) => assert!(answer.is_ok(), "{answer:?}"),
        _ = silent.accept() => panic!("the silent one is asked first again"),
    }
}
