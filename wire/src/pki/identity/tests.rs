//! Identities from files: what is wrong is named with its path.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use vouch_types::{ManagerId, WallTime};

use super::*;
use crate::pki::{AdjustableTime, CaDigest, CertificateAuthority, VALIDITY_MIN, server_config};

fn stored(mode: u32) -> (TempDir, [std::path::PathBuf; 3]) {
    let now = WallTime::from_unix_millis(1_795_383_407_000);
    let ca = CertificateAuthority::generate("test", now).unwrap();
    let issued =
        ca.issue(&PeerIdentity::Manager(ManagerId::new(1)), now, VALIDITY_MIN + Duration::from_secs(1)).unwrap();
    let folder = TempDir::new().unwrap();
    let paths = ["m1.pem", "m1.key", "ca.pem"].map(|name| folder.path().join(name));
    fs::write(&paths[0], &issued.certificate_pem).unwrap();
    fs::write(&paths[1], &issued.key_pem).unwrap();
    fs::write(&paths[2], &issued.ca_certificate_pem).unwrap();
    fs::set_permissions(&paths[1], fs::Permissions::from_mode(mode)).unwrap();
    (folder, paths)
}

#[test]
fn an_identity_is_loaded_from_files_and_makes_tls() {
    let (_folder, [certificate, key, ca]) = stored(0o600);
    let identity = Identity::load(&certificate, &key, &ca).unwrap();
    assert_eq!(identity.owner().server_name(), "m1.manager.vouch");
    let clock = std::sync::Arc::new(AdjustableTime::at_least(WallTime::default()));
    assert!(server_config(&identity, clock).is_ok());
}

#[test]
fn a_key_that_others_may_read_is_refused_with_path_mode_and_rule() {
    for mode in [0o640, 0o604, 0o660] {
        let (_folder, [certificate, key, ca]) = stored(mode);
        let e = Identity::load(&certificate, &key, &ca).expect_err("must be refused").to_string();
        assert!(e.contains("m1.key") && e.contains(&format!("{mode:04o}")) && e.contains("chmod 600"), "{e}");
    }
}

#[test]
fn a_missing_or_empty_file_is_named() {
    let (_folder, [certificate, key, ca]) = stored(0o600);
    fs::write(&certificate, "nothing").unwrap();
    let e = Identity::load(&certificate, &key, &ca).expect_err("must be refused").to_string();
    assert!(e.contains("m1.pem"), "{e}");
    fs::remove_file(&certificate).unwrap();
    let e = Identity::load(&certificate, &key, &ca).expect_err("must be refused").to_string();
    assert!(e.contains("m1.pem"), "{e}");
}

#[test]
fn the_key_of_another_certificate_makes_no_tls() {
    let (_one, [certificate, _, ca]) = stored(0o600);
    let (_other, [_, key, _]) = stored(0o600);
    let identity = Identity::load(&certificate, &key, &ca).unwrap();
    let clock = std::sync::Arc::new(AdjustableTime::at_least(WallTime::default()));
    assert!(matches!(server_config(&identity, clock), Err(PkiError::Tls(_))));
}

#[test]
fn a_certificate_that_does_not_hold_now_is_named_with_its_times_and_the_clocks() {
    let (_folder, [certificate, key, ca]) = stored(0o600);
    let identity = Identity::load(&certificate, &key, &ca).unwrap();
    let issued = 1_795_383_407_000;
    let at = |millis: u64| WallTime::from_unix_millis(millis);
    assert!(identity.valid_at(at(issued)).is_ok());
    let day = 24 * 3600 * 1000;
    for (now, what) in [(issued + 9 * day, "2026-12"), (issued - 9 * day, "2026-11")] {
        let error = identity.valid_at(at(now)).expect_err("must be refused");
        assert!(matches!(error, PkiError::NotValid { .. }), "{error:?}");
        let text = error.to_string();
        for part in ["m1.manager.vouch", what, &at(now).to_string(), "set the clock", "vouch pki issue"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    }
}

#[test]
fn up_to_four_cas_are_trusted_at_once_and_a_fifth_is_refused_with_the_rule() {
    let (_folder, [certificate, key, ca]) = stored(0o600);
    let one = fs::read_to_string(&ca).unwrap();
    fs::write(&ca, one.repeat(ROOTS_MAX)).unwrap();
    assert_eq!(Identity::load(&certificate, &key, &ca).unwrap().roots().len(), ROOTS_MAX);
    fs::write(&ca, one.repeat(ROOTS_MAX + 1)).unwrap();
    let e = Identity::load(&certificate, &key, &ca).expect_err("must be refused").to_string();
    assert!(e.contains("ca.pem") && e.contains("at most 4"), "{e}");
}

#[test]
fn a_renewed_certificate_of_another_owner_or_of_a_ca_that_is_not_trusted_is_refused() {
    let now = WallTime::from_unix_millis(1_795_383_407_000);
    let ca = CertificateAuthority::generate("test", now).unwrap();
    let other = CertificateAuthority::generate("test", now).unwrap();
    let (m1, m2) = (PeerIdentity::Manager(ManagerId::new(1)), PeerIdentity::Manager(ManagerId::new(2)));
    let identity = ca.issue(&m1, now, VALIDITY_MIN).unwrap().identity().unwrap();
    let csr = CertificateRequest::renewal_of(&identity).unwrap();
    let sign = |ca: &CertificateAuthority, owner| ca.sign_request(csr.der(), owner, now, VALIDITY_MIN).unwrap();
    let renewed = |certificate: &str| identity.renewed(Some(certificate), ca.certificate_pem());
    assert_eq!(renewed(&sign(&ca, &m1)).unwrap().owner(), &m1);
    let e = renewed(&sign(&ca, &m2)).expect_err("another owner").to_string();
    assert!(e.contains("m1.manager.vouch") && e.contains("m2.manager.vouch"), "{e}");
    let e = renewed(&sign(&other, &m1)).expect_err("another CA").to_string();
    assert!(e.contains("none of the 1 CAs"), "{e}");
}

#[test]
fn a_request_that_was_begun_is_gone_on_with_by_its_own_key_alone() {
    let (first, second) = (CertificateRequest::generate().unwrap(), CertificateRequest::generate().unwrap());
    let again = CertificateRequest::begun(&first.key_pem(), first.der().to_vec()).unwrap();
    assert_eq!((again.der(), again.key_pem()), (first.der(), first.key_pem()));
    assert!(matches!(CertificateRequest::begun(&first.key_pem(), second.der().to_vec()), Err(PkiError::Tls(_))));
    assert!(matches!(CertificateRequest::begun(&first.key_pem(), b"half".to_vec()), Err(PkiError::Request(_))));
    assert!(matches!(CertificateRequest::begun("half", first.der().to_vec()), Err(PkiError::Pem { .. })));
}

#[test]
fn cas_of_two_texts_are_trusted_together_each_once_and_no_more_than_four() {
    let now = WallTime::from_unix_millis(1_795_383_407_000);
    let cas: Vec<String> = (0..=ROOTS_MAX)
        .map(|_| CertificateAuthority::generate("test", now).unwrap().certificate_pem().to_owned())
        .collect();
    let digests = |pem: &str| CaDigest::all_of_pem(pem).unwrap();
    let together = trusted_together(&cas[..2].concat(), &cas[1..3].concat()).unwrap();
    assert_eq!(digests(&together), digests(&cas[..3].concat()));
    let full = trusted_together(&cas[1..].concat(), &cas[0]).unwrap();
    assert_eq!(digests(&full), digests(&cas[1..].concat()), "those of the first have the room");
    assert!(trusted_together(&cas[0], "").is_err());
}
