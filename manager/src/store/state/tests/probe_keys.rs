//! Trusted keys: added once, removed without touching what they signed; and what a signature is worth when it is applied.

use vouch_types::probe_key::{PROBE_KEYS_MAX, REFUSAL_REASON_MAX};
use vouch_types::{ProbeRecord, ProbeRefusal, SignatureRule};

use super::*;

fn remove(name: &str) -> Command {
    Command::RemoveProbeKey { name: key_name(name), by: "admin token of m1".to_owned(), at: at(55) }
}

fn rule(signatures: SignatureRule) -> Command {
    Command::SetSignatureRule { signatures, by: "admin token of m1".to_owned(), at: at(55) }
}

fn record(probe: ProbeRecord) -> Command {
    Command::RecordProbe { probe, by: "admin token of m1".to_owned(), at: at(56) }
}

#[test]
fn a_key_is_trusted_once_and_neither_name_nor_key_is_taken_by_another() {
    let mut story = Story::begun();
    let by = "admin token of m1".to_owned();
    let added = EventKind::ProbeKeyAdded { key: key_name("release"), public_key: public_key(7), by };
    assert_eq!(story.tell(add_probe_key("release", 7)), [added]);
    story.in_vain(add_probe_key("release", 7));
    let why = story.refused(add_probe_key("release", 8)).to_string();
    assert!(why.contains("name: release must be a name that no other key has"), "{why}");
    let why = story.refused(add_probe_key("other", 7)).to_string();
    assert!(why.contains("must be a key that is not trusted yet: it is, as release"), "{why}");
    survives(&story.state);
}

#[test]
fn so_many_keys_are_trusted_and_no_more() {
    let mut story = Story::begun();
    for number in 0..PROBE_KEYS_MAX {
        story.tell(add_probe_key(&format!("key-{number}"), u8::try_from(number).unwrap()));
    }
    let limit = PROBE_KEYS_MAX as u64;
    let many = DenyReason::TooMany { what: "probe keys".to_owned(), count: limit + 1, limit };
    assert_eq!(story.refused(add_probe_key("one-more", 200)), many);
    story.tell(remove("key-3"));
    story.tell(add_probe_key("one-more", 200));
}

#[test]
fn a_removed_key_leaves_what_it_signed_and_signs_nothing_more() {
    let mut story = Story::begun();
    story.tell(add_probe_key("release", 7));
    story.tell(record(signed()));
    let names: Vec<_> = story.state.probes_signed_by(&public_key(7)).cloned().collect();
    assert_eq!(names, [signed().name]);
    story.tell(remove("release"));
    assert_eq!(*story.state.probes()[&signed().name], signed());
    let newer = ProbeRecord { version: "0.2.0".to_owned(), ..signed() };
    assert_eq!(story.refused(record(newer.clone())), DenyReason::SignerNotTrusted(key_name("release")));
    // Another key under the name is another key.
    story.tell(add_probe_key("release", 9));
    assert_eq!(story.refused(record(newer)), DenyReason::SignerNotTrusted(key_name("release")));
    assert_eq!(story.refused(remove("other")), DenyReason::UnknownProbeKey(key_name("other")));
}

#[test]
fn a_required_signature_is_asked_of_every_upload_and_of_nothing_that_comes_with_vouch() {
    let mut story = Story::begun();
    let why = story.refused(rule(SignatureRule::Required)).to_string();
    assert!(why.contains("optional while no key is trusted"), "{why}");
    story.tell(add_probe_key("release", 7));
    story.tell(record(uploaded()));
    let by = "admin token of m1".to_owned();
    let changed = EventKind::SignatureRuleChanged { signatures: SignatureRule::Required, by };
    assert_eq!(story.tell(rule(SignatureRule::Required)), [changed]);
    story.in_vain(rule(SignatureRule::Required));
    let newer = ProbeRecord { version: "0.2.0".to_owned(), ..uploaded() };
    assert_eq!(story.refused(record(newer.clone())), DenyReason::SignatureRequired(uploaded().name));
    assert_eq!(story.state.probes().len(), 1, "what was recorded before stays");
    story.tell(record(signed()));
    story.tell(record(probe()));
    survives(&story.state);
    // Without any key nothing is taken: that is what the removal of a key that was lost must come to.
    story.tell(remove("release"));
    assert_eq!(story.refused(record(newer.clone())), DenyReason::SignatureRequired(uploaded().name));
    story.tell(rule(SignatureRule::Optional));
    story.tell(record(newer));
}

#[test]
fn a_refused_upload_is_a_line_of_the_story_and_changes_nothing_else() {
    let mut story = Story::begun();
    let (probes, trust) = (story.state.probes().clone(), story.state.probe_trust().clone());
    let told = story.tell(Command::RefuseProbe { refusal: refusal(), at: at(57) });
    assert_eq!(told, [EventKind::ProbeRefused { refusal: refusal() }]);
    assert!(!told[0].is_notification());
    assert_eq!((story.state.probes(), story.state.probe_trust()), (&probes, &trust));
    let long = ProbeRefusal { reason: "x".repeat(REFUSAL_REASON_MAX + 1), ..refusal() };
    let why = story.refused(Command::RefuseProbe { refusal: long, at: at(57) }).to_string();
    assert!(why.contains("reason: 257 bytes must be at most 256 bytes"), "{why}");
}

#[test]
fn a_state_in_which_no_key_was_ever_trusted_is_written_as_it_was() {
    let story = Story::begun();
    let image = serde_json::to_string(&crate::store::Image::from(&story.state)).unwrap();
    assert!(!image.contains("probe_trust") && !image.contains("probe_keys"), "{image}");
}
