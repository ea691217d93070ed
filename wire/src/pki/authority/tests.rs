//! The authority sets names, roles and times by itself.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use vouch_types::{ManagerId, NodeId, WatcherId};
use x509_parser::prelude::FromDer;

use super::*;
use crate::pki::CertificateRequest;

const WEEK: Duration = VALIDITY_MIN;

fn now() -> WallTime {
    WallTime::from_unix_millis(1_795_383_407_000)
}

#[test]
fn an_issued_certificate_begins_two_hours_early_and_names_its_owner_alone() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let owner = PeerIdentity::Manager(ManagerId::new(1));
    let issued = ca.issue(&owner, now(), WEEK).unwrap();
    assert_eq!(*issued.identity().unwrap().owner(), owner);
    let der = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    assert_eq!(parsed.validity().not_before.timestamp(), 1_795_383_407 - 7200);
    assert_eq!(parsed.validity().not_after.timestamp(), 1_795_383_407 + 7 * 24 * 3600);
}

#[test]
fn two_certificates_never_share_a_serial_number() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let request = CertificateRequest::generate().unwrap();
    let owner = PeerIdentity::Watcher(WatcherId::new(1));
    let serial = || {
        let pem = ca.sign_request(request.der(), &owner, now(), WEEK).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        x509_parser::certificate::X509Certificate::from_der(&der).unwrap().1.raw_serial().to_vec()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn the_name_that_a_request_asks_for_is_ignored() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let key = KeyPair::generate().unwrap();
    let greedy = CertificateParams::new(["m1.manager.vouch".to_owned()]).unwrap().serialize_request(&key).unwrap();
    let owner = PeerIdentity::Watcher(WatcherId::new(4));
    let pem = ca.sign_request(greedy.der(), &owner, now(), WEEK).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(PeerIdentity::from_certificate(&der).unwrap(), owner);
}

#[test]
fn a_request_that_is_tampered_with_is_refused() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let owner = PeerIdentity::Watcher(WatcherId::new(4));
    let mut der = CertificateRequest::generate().unwrap().der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    assert!(matches!(ca.sign_request(&der, &owner, now(), WEEK), Err(PkiError::Request(_))));
    assert!(matches!(ca.sign_request(b"garbage", &owner, now(), WEEK), Err(PkiError::Request(_))));
}

#[test]
fn a_validity_below_seven_days_is_refused_with_the_rule() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let owner = PeerIdentity::Node(NodeId::new("n1").unwrap());
    let e = ca.issue(&owner, now(), WEEK - Duration::from_secs(1)).expect_err("must be refused").to_string();
    assert!(e.contains("at least"), "{e}");
    assert!(ca.issue(&owner, now(), WEEK).is_ok());
}

#[test]
fn a_stored_authority_signs_as_before_and_a_key_of_another_is_refused() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let other = CertificateAuthority::generate("test", now()).unwrap();
    let again = CertificateAuthority::from_pem(ca.certificate_pem(), &ca.key_pem()).unwrap();
    assert!(again.issue(&PeerIdentity::Manager(ManagerId::new(1)), now(), WEEK).is_ok());
    assert!(matches!(CertificateAuthority::from_pem(ca.certificate_pem(), &other.key_pem()), Err(PkiError::Tls(_))));
    assert!(matches!(CertificateAuthority::from_pem("nothing", &ca.key_pem()), Err(PkiError::Pem { .. })));
}

#[test]
fn the_longest_node_name_gets_a_certificate() {
    let ca = CertificateAuthority::generate("test", now()).unwrap();
    let owner = PeerIdentity::Node(NodeId::new(&"n".repeat(63)).unwrap());
    assert_eq!(*ca.issue(&owner, now(), WEEK).unwrap().identity().unwrap().owner(), owner);
}
