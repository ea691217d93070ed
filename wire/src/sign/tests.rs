//! Signatures hold for exactly what was signed, by whom, and as what.

use ring::rand::SystemRandom;
use uuid::Uuid;
use vouch_types::{
    AssignmentGeneration, BootId, ClusterId, ExitReason, Generation, HypervisorState, Incarnation, NodeId, Nonce,
    Sequence, StartId, VmId, WatcherId,
};

use super::*;

fn statement() -> Statement {
    Statement {
        progress: vouch_types::Progress::Unknown,
        node: NodeId::new("n1").unwrap(),
        boot: BootId::new(Uuid::from_u128(1)),
        incarnation: Incarnation::new(2),
        vm: VmId::new(Uuid::from_u128(3)),
        generation: Generation::new(4),
        start: StartId::new(5),
        sequence: Sequence::new(6),
        nonce: Nonce::new(7),
        state: HypervisorState::Gone(ExitReason::Process),
    }
}

fn grant() -> Grant {
    Grant {
        cluster: ClusterId::new(Uuid::from_u128(9)),
        watcher: WatcherId::new(1),
        node: NodeId::new("n1").unwrap(),
        vms: vec![VmId::new(Uuid::from_u128(3))],
        generation: AssignmentGeneration::new(8),
    }
}

#[test]
fn a_signed_statement_comes_back_as_it_was_said() {
    let signer = StatementSigner::generate(&SystemRandom::new()).unwrap();
    let signed = signer.sign(&statement());
    assert_eq!(verify_statement(&signed, &signer.public_key()), Ok(statement()));
    assert_eq!(peek_statement(&signed), Ok(statement()));
}

#[test]
fn a_tampered_payload_or_signature_is_refused() {
    let signer = StatementSigner::generate(&SystemRandom::new()).unwrap();
    let signed = signer.sign(&statement());
    for i in 0..signed.payload.len() {
        let mut bad = signed.clone();
        bad.payload[i] ^= 1;
        assert_eq!(verify_statement(&bad, &signer.public_key()), Err(SignError::Signature("statement")), "byte {i}");
    }
    let mut bad = signed.clone();
    bad.signature[0] ^= 1;
    assert_eq!(verify_statement(&bad, &signer.public_key()), Err(SignError::Signature("statement")));
    let none = proto::Signed { signature: Vec::new(), ..signed };
    assert_eq!(verify_statement(&none, &signer.public_key()), Err(SignError::Signature("statement")));
}

#[test]
fn a_statement_of_another_key_is_refused() {
    let (one, other) = (
        StatementSigner::generate(&SystemRandom::new()).unwrap(),
        StatementSigner::generate(&SystemRandom::new()).unwrap(),
    );
    let signed = one.sign(&statement());
    assert_eq!(verify_statement(&signed, &other.public_key()), Err(SignError::Signature("statement")));
    assert_eq!(verify_statement(&signed, &[0; 5]), Err(SignError::Signature("statement")));
}

#[test]
fn a_grant_never_passes_for_a_statement_even_under_the_same_key() {
    let signer = GrantSigner::generate(&SystemRandom::new()).unwrap();
    let as_statements = StatementSigner::from_pkcs8(signer.pkcs8()).unwrap();
    let signed = signer.sign(&grant());
    assert_eq!(verify_grant(&signed, &signer.public_key()), Ok(grant()));
    assert_eq!(verify_statement(&signed, &as_statements.public_key()), Err(SignError::Signature("statement")));
    let signed = as_statements.sign(&statement());
    assert_eq!(verify_grant(&signed, &signer.public_key()), Err(SignError::Signature("grant")));
}

#[test]
fn a_stored_key_signs_as_before_and_garbage_is_no_key() {
    let signer = GrantSigner::generate(&SystemRandom::new()).unwrap();
    let again = GrantSigner::from_pkcs8(signer.pkcs8()).unwrap();
    assert_eq!(again.public_key(), signer.public_key());
    assert_eq!(verify_grant(&again.sign(&grant()), &signer.public_key()), Ok(grant()));
    assert!(matches!(GrantSigner::from_pkcs8(b"garbage"), Err(SignError::Key(_))));
}

#[test]
fn a_signed_payload_with_a_value_against_the_rules_is_refused_with_the_field() {
    let signer = StatementSigner::generate(&SystemRandom::new()).unwrap();
    let mut message = proto::Statement::from(&statement());
    message.state = 0;
    let signed = signer.0.sign(STATEMENT_CONTEXT, message.encode_to_vec());
    let e = verify_statement(&signed, &signer.public_key()).expect_err("must be refused").to_string();
    assert!(e.contains("statement.state"), "{e}");
}
