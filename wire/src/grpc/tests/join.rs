//! Joining by token: who hears the secret, and who does not.

use super::fixture::*;
use crate::grpc::{DialOptions, join};
use crate::links::LinkError;
use crate::pki::{CaDigest, CertificateAuthority, CertificateRequest};
use crate::proto;

fn request(csr: &[u8]) -> proto::JoinRequest {
    proto::JoinRequest {
        secret: b"right".to_vec(),
        role: "node".to_owned(),
        name: "n7".to_owned(),
        csr: csr.to_vec(),
        incarnation: 0,
    }
}

async fn try_join(ca: &CertificateAuthority, to: &Running, request: proto::JoinRequest) -> Result<String, LinkError> {
    let options = DialOptions { handshake_timeout: LIMIT, ..DialOptions::default() };
    let digest = CaDigest::of_pem(ca.certificate_pem()).unwrap();
    join(digest, clock(), options, to.address, request).await.map(|response| {
        assert_eq!(response.ca_certificate, ca.certificate_pem());
        response.certificate
    })
}

#[tokio::test]
async fn a_node_joins_at_any_manager_of_the_tokens_ca_and_gets_a_certificate_of_its_own() {
    let ca = authority();
    let m2 = start_manager(&ca, &manager(2)).await;
    let csr = CertificateRequest::generate().unwrap();
    let certificate = try_join(&ca, &m2, request(csr.der())).await.unwrap();
    assert_eq!(*csr.complete(&certificate, ca.certificate_pem()).unwrap().owner(), node("n7"));
}

#[tokio::test]
async fn a_manager_of_another_ca_and_a_part_that_is_no_manager_never_hear_the_secret() {
    let (ours, theirs) = (authority(), authority());
    let impostor = start_manager(&theirs, &manager(1)).await;
    let why = try_join(&ours, &impostor, request(b"")).await.expect_err("another CA").to_string();
    for digest in [&ours, &theirs].map(|ca| CaDigest::of_pem(ca.certificate_pem()).unwrap().to_string()) {
        assert!(why.contains(&digest) && why.contains("the secret was not sent"), "{why}");
    }
    assert_eq!(why.lines().count(), 1, "{why}");
    let node = start_manager(&ours, &node("n1")).await;
    let why = try_join(&ours, &node, request(b"")).await.expect_err("no manager").to_string();
    assert!(why.contains("n1.node.vouch") && why.contains("the secret was not sent"), "{why}");
}

#[tokio::test]
async fn a_refusal_of_the_manager_reaches_the_joiner_in_its_words() {
    let ca = authority();
    let m1 = start_manager(&ca, &manager(1)).await;
    let wrong = proto::JoinRequest { secret: b"wrong".to_vec(), ..request(b"") };
    let why = try_join(&ca, &m1, wrong).await.expect_err("wrong secret").to_string();
    assert!(why.contains("join token: unknown"), "{why}");
}
