//! The rotation of the CA: one step after the other, and who is trusted and who signs at each.

use vouch_types::{CaStage, NextCa};

use super::*;
use crate::store::tests::samples::add_ca;

fn told(to: CaStage) -> [EventKind; 1] {
    [EventKind::CaRotated { to }]
}

#[test]
fn a_second_ca_is_trusted_then_signs_and_then_is_the_only_one() {
    let mut story = Story::empty();
    story.tell(init());
    let secrets = |story: &Story| story.state.cluster().unwrap().secrets.clone();
    assert_eq!(secrets(&story).trusted_cas(), "certificate");
    let (switch, retire) = (Command::SwitchCa { at: at(70) }, Command::RetireCa { at: at(71) });
    assert_eq!(story.refused(switch.clone()), DenyReason::CaStage(CaStage::Steady));
    assert_eq!(story.refused(retire.clone()), DenyReason::CaStage(CaStage::Steady));

    assert_eq!(story.tell(add_ca("second")), told(CaStage::Spreading));
    assert_eq!(secrets(&story).trusted_cas(), "certificate\ncertificate of the second");
    assert_eq!(secrets(&story).signing_ca(), ("certificate", "key"), "nobody trusts the second one yet");
    assert_eq!(story.refused(add_ca("third")), DenyReason::CaStage(CaStage::Spreading));
    assert_eq!(story.refused(retire.clone()), DenyReason::CaStage(CaStage::Spreading));
    survives(&story.state);

    assert_eq!(story.tell(switch.clone()), told(CaStage::Renewing));
    assert_eq!(secrets(&story).trusted_cas(), "certificate\ncertificate of the second");
    assert_eq!(secrets(&story).signing_ca(), ("certificate of the second", "key of the second"));
    assert_eq!(story.refused(switch), DenyReason::CaStage(CaStage::Renewing));
    assert_eq!(story.refused(add_ca("third")), DenyReason::CaStage(CaStage::Renewing));
    survives(&story.state);

    assert_eq!(story.tell(retire), told(CaStage::Steady));
    assert_eq!(secrets(&story).trusted_cas(), "certificate of the second");
    assert_eq!(secrets(&story).signing_ca(), ("certificate of the second", "key of the second"));
    assert_eq!(secrets(&story).next_ca, NextCa::None);
    assert_eq!(secrets(&story).grant_key, [1, 2, 255], "grants have a key of their own");
    survives(&story.state);
    assert_eq!(story.tell(add_ca("third")), told(CaStage::Spreading), "and so on");
}

#[test]
fn a_state_of_before_there_were_rotations_is_read_as_one_without() {
    let mut story = Story::empty();
    story.tell(init());
    let written = serde_json::to_value(&story.state.cluster().unwrap().secrets).unwrap();
    assert!(written.get("next_ca").is_none(), "it is written as it was before: {written}");
    let read: vouch_types::command::ClusterSecrets = serde_json::from_value(written).unwrap();
    assert_eq!(read.next_ca, NextCa::None);
}
