//! Proofs that a node does not run, VMs that have moved, and pins: what decides where a VM may be started.

use vouch_types::proof::PROOF_NOTE_MAX;
use vouch_types::{
    BootId, ClaimChange, FenceKind, FenceProof, Generation, Identity, Incarnation, Network, Pin, PlacementChange,
    ProbeName, Source,
};

use super::*;

fn boot(number: u128) -> BootId {
    BootId::new(uuid::Uuid::from_u128(number))
}

fn prove(kind: FenceKind, of: BootId, note: &str) -> Command {
    Command::RecordFenceProof { node: node_id("n1"), boot: of, kind, note: note.to_owned(), at: at(60) }
}

fn withdraw(name: &str) -> Command {
    Command::WithdrawFenceProof { node: node_id(name), reason: "it is heard".to_owned(), at: at(70) }
}

/// The story in which no manager hears n1.
fn silent() -> Story {
    let mut story = Story::begun();
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 50));
    story
}

fn fence(story: &Story) -> Option<&FenceProof> {
    story.state.nodes()[&node_id("n1")].fence.as_ref()
}

#[test]
fn a_proof_is_recorded_once_with_the_index_that_holds_it_and_withdrawn_once() {
    let mut story = silent();
    let events = story.tell(prove(FenceKind::PowerOff, boot(0xb0), "ipmi"));
    assert!(matches!(events.as_slice(), [EventKind::FenceProofRecorded { .. }]), "{events:?}");
    let proof = fence(&story).unwrap();
    assert_eq!((proof.kind, proof.index, proof.at), (FenceKind::PowerOff, LogIndex::new(7), at(60)));
    story.in_vain(prove(FenceKind::PowerOff, boot(0xb0), "ipmi"));
    assert_eq!(story.tell(prove(FenceKind::Fenced, boot(0xb0), "ipmi")).len(), 1, "another kind of proof is news");
    survives(&story.state);
    let withdrawn = EventKind::FenceProofWithdrawn { node: node_id("n1"), reason: "it is heard".to_owned() };
    assert_eq!(story.tell(withdraw("n1")), [withdrawn]);
    story.in_vain(withdraw("n1"));
    assert_eq!(fence(&story), None);
}

#[test]
fn a_node_that_is_heard_or_is_not_known_or_runs_in_another_boot_cannot_be_proved_off() {
    let mut story = Story::begun();
    assert_eq!(story.refused(prove(FenceKind::Fenced, boot(0xb0), "")), DenyReason::NodeIsHeard(node_id("n1")));
    let mut story = silent();
    let other = DenyReason::OtherBoot { node: node_id("n1"), recorded: boot(0xb0), told: boot(1) };
    assert_eq!(story.refused(prove(FenceKind::Fenced, boot(1), "")), other);
    let unknown = Command::RecordFenceProof {
        node: node_id("n9"),
        boot: boot(0xb0),
        kind: FenceKind::Fenced,
        note: String::new(),
        at: at(60),
    };
    assert_eq!(story.refused(unknown), DenyReason::UnknownNode(node_id("n9")));
    assert_eq!(story.refused(withdraw("n9")), DenyReason::UnknownNode(node_id("n9")));
}

#[test]
fn a_note_of_a_proof_has_so_many_bytes_and_no_more() {
    let mut story = silent();
    let refused = story.refused(prove(FenceKind::Fenced, boot(0xb0), &"x".repeat(PROOF_NOTE_MAX + 1)));
    assert!(matches!(&refused, DenyReason::BadValue { field, .. } if field == "proof.note"), "{refused:?}");
    story.tell(prove(FenceKind::Fenced, boot(0xb0), &"x".repeat(PROOF_NOTE_MAX)));
}

#[test]
fn a_new_boot_is_a_sign_of_life_and_a_new_agent_of_the_same_boot_keeps_the_proof() {
    let mut story = silent();
    story.tell(prove(FenceKind::PowerOff, boot(0xb0), ""));
    let restarted = vouch_types::NodeRecord { incarnation: Incarnation::new(2), ..node("n1") };
    story.tell(Command::RecordNode { node: restarted.clone(), at: at(61) });
    assert!(fence(&story).is_some(), "the detector withdraws it, with its reason");
    let rebooted = vouch_types::NodeRecord { boot: boot(0xb1), incarnation: Incarnation::new(3), ..restarted };
    story.tell(Command::RecordNode { node: rebooted, at: at(62) });
    assert_eq!(fence(&story), None, "the proof spoke of another boot");
}

fn moved(vm: u128, replaces: u64, to: &str) -> Command {
    let change = PlacementChange { vm: vm_id(vm), replaces: Generation::new(replaces), to: node_id(to) };
    Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        incidents: Vec::new(),
        placements: vec![change],
        at: at(80),
    }
}

#[test]
fn a_vm_that_has_moved_gets_a_new_generation_and_keeps_what_was_proven_and_said_of_it() {
    let mut story = Story::begun();
    story.tell(Command::RecordProven { proven: vec![(vm_id(1), ping())], pins: Vec::new() });
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let events = story.tell(moved(1, 1, "n2"));
    let expected =
        EventKind::VmMoved { vm: vm_id(1), from: node_id("n1"), to: node_id("n2"), generation: Generation::new(4) };
    assert_eq!(events, [expected]);
    let vm = &story.state.vms()[&vm_id(1)];
    assert_eq!((vm.node.as_str(), vm.verdict.state, vm.proven.len()), ("n2", VmState::Up, 1));
    story.in_vain(moved(1, 4, "n2"));
    for stale in [moved(1, 1, "n1"), moved(1, 4, "n9"), moved(99, 1, "n2")] {
        let applied = story.in_vain(stale);
        assert!(matches!(&applied, Applied::Recorded { stale_vms, .. } if stale_vms.len() == 1), "{applied:?}");
    }
    // What was judged of the old placement says nothing of the new one.
    let applied = story.in_vain(record_verdict(1, 1, verdict(VmState::Down), 90));
    assert!(matches!(&applied, Applied::Recorded { stale_vms, .. } if *stale_vms == [vm_id(1)]), "{applied:?}");
    survives(&story.state);
}

fn pin(identity: u64) -> Pin {
    Pin { probe: ProbeName::new("ping").unwrap(), network: Network::Service, identity: Identity::new(identity) }
}

#[test]
fn the_first_identity_stays_pinned_until_it_is_forgotten() {
    let mut story = Story::begun();
    let find = |pin| Command::RecordProven { proven: Vec::new(), pins: vec![(vm_id(1), pin)] };
    let pins = |story: &Story| story.state.vms()[&vm_id(1)].pins.clone();
    story.tell(find(pin(1)));
    story.in_vain(find(pin(2)));
    story.in_vain(find(Pin { network: Network::Management, ..pin(3) }));
    assert_eq!(pins(&story), [pin(1)]);
    survives(&story.state);
    let forget = |vm| Command::ForgetPins { vm: vm_id(vm), at: at(90) };
    assert_eq!(story.tell(forget(1)), [EventKind::VmPinsForgotten { vm: vm_id(1) }]);
    story.in_vain(forget(1));
    assert_eq!(story.refused(forget(99)), DenyReason::UnknownVm(vm_id(99)));
    story.tell(find(pin(2)));
    assert_eq!(pins(&story), [pin(2)]);
    let bare = vouch_types::VmSpec { probes: Vec::new(), ..vm_spec(1) };
    story.tell(Command::RecordVms { node: node_id("n1"), vms: vec![bare, vm_spec(2)], at: at(91) });
    assert_eq!(pins(&story), [], "a pin of a probe that is gone is gone");
}

#[test]
fn an_identity_that_was_found_by_other_settings_is_not_pinned() {
    let mut story = Story::begun();
    story.tell(Command::RecordProven { proven: Vec::new(), pins: vec![(vm_id(1), pin(1))] });
    let with = |name: &str, settings: &str| {
        let probes = vec![vouch_types::ProbeAssignment { settings: settings.to_owned(), ..ping() }];
        let spec = vouch_types::VmSpec { name: name.to_owned(), probes, ..vm_spec(1) };
        Command::RecordVms { node: node_id("n1"), vms: vec![spec, vm_spec(2)], at: at(91) }
    };
    let pins = |story: &Story| story.state.vms()[&vm_id(1)].pins.clone();
    story.tell(with("other", &ping().settings));
    assert_eq!(pins(&story), [pin(1)], "another name changes nothing about it");
    story.tell(with("other", r#"{"count":7}"#));
    assert_eq!(pins(&story), []);
}

#[test]
fn claims_of_other_nodes_are_kept_beside_one_placement_and_wake_nobody() {
    let mut story = Story::begun();
    let claim = |generation: u64, by: &[&str]| {
        let claimed_by = by.iter().map(|name| node_id(name)).collect();
        let change = ClaimChange { vm: vm_id(1), generation: Generation::new(generation), claimed_by };
        Command::RecordVerdicts {
            verdicts: Vec::new(),
            paths: Vec::new(),
            manager_notes: None,
            incidents: Vec::new(),
            placements: Vec::new(),
            boots: Vec::new(),
            claims: vec![change],
            at: at(60),
        }
    };
    let claimed_by = |story: &Story| story.state.vms()[&vm_id(1)].claimed_by.clone();
    let before = story.state.vms()[&vm_id(1)].modified;
    let (applied, changes) = story.apply(claim(1, &["n2"]));
    assert!(matches!(&applied, Applied::Recorded { stale_vms, .. } if stale_vms.is_empty()), "{applied:?}");
    assert!(changes.events.is_empty() && changes.vms.is_empty() && changes.unshown.contains(&vm_id(1)));
    assert_eq!((claimed_by(&story), story.state.vms()[&vm_id(1)].modified), (vec![node_id("n2")], before));
    survives(&story.state);
    story.in_vain(claim(1, &["n2"]));
    let (stale, _) = story.apply(claim(9, &[]));
    assert!(matches!(&stale, Applied::Recorded { stale_vms, .. } if *stale_vms == [vm_id(1)]), "{stale:?}");
    // It moves there: what was claimed beside its old owner is over.
    story.tell(moved(1, 1, "n2"));
    assert!(claimed_by(&story).is_empty());
}

#[test]
fn the_claim_of_a_removed_node_goes_only_with_a_proof_that_it_is_off() {
    for proved in [false, true] {
        let mut story = Story::begun();
        let change = ClaimChange { vm: vm_id(1), generation: Generation::new(1), claimed_by: vec![node_id("n2")] };
        let mut batch = record_path("n2", 0, Source::Watcher, vec![cut()], 50);
        if let Command::RecordVerdicts { claims, .. } = &mut batch {
            claims.push(change);
        }
        story.tell(batch);
        if proved {
            let (boot, kind) = (node("n2").boot, FenceKind::Fenced);
            let note = String::new();
            story.tell(Command::RecordFenceProof { node: node_id("n2"), boot, kind, note, at: at(64) });
        }
        story.tell(remove_node("n2", vouch_types::VmsLeft::Forget));
        let left = &story.state.vms()[&vm_id(1)].claimed_by;
        assert_eq!(left.is_empty(), proved, "{left:?}");
        survives(&story.state);
    }
}
