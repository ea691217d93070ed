//! A node that is removed: what stands in the way, what goes with it, and who may come back under its name.

use std::time::Duration;

use vouch_types::event::ManagerNote;
use vouch_types::removed_node::{REMOVAL_VMS_NAMED, REMOVED_NODES_MAX};
use vouch_types::{
    Advice, Digest, FenceKind, Generation, Incarnation, IncidentChange, IncidentScope, IncidentWord, JoinFor,
    JoinRefusal, JoinRole, JoinTokenId, Joiner, ManagerId, Policy, PolicyScope, SignedBy, Source, VmId, VmsLeft,
};

use super::*;

/// The story in which nobody hears n1, whose VMs 1 and 2 are lost.
fn silent() -> Story {
    let mut story = Story::begun();
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 50));
    for vm in [1, 2] {
        judge(&mut story, vm, VmState::Lost, Advice::FenceFirst { generation: Generation::new(1) });
    }
    story
}

fn judge(story: &mut Story, vm: u128, state: VmState, advice: Advice) {
    let version = story.verdict(vm).version.get();
    story.tell(record_verdict(vm, version, vouch_types::Verdict { advice, ..verdict(state) }, 60));
}

fn key(byte: u8) -> Digest {
    Digest::new([byte; 32])
}

fn join(secret: u8, request: u8) -> Command {
    Command::RedeemJoinToken {
        secret_hash: key(secret),
        joiner: Joiner::Node(node_id("n1")),
        request: key(request),
        key: Some(key(request)),
        incarnation: Incarnation::default(),
        at: at(200),
    }
}

fn token(secret: u8, uses: u32) -> Command {
    let (allows, ttl) = (JoinFor::Any(JoinRole::Node), Duration::from_secs(3600));
    Command::CreateJoinToken { allows, secret_hash: key(secret), uses, ttl, at: at(100) }
}

fn may_speak(story: &Story, shown: Option<u8>) -> bool {
    story.state.refusal_of(&node_id("n1"), shown.map(key).as_ref()).is_none()
}

#[test]
fn a_node_that_is_heard_itself_or_through_a_watcher_on_it_is_not_removed_whatever_is_asked_for() {
    let mut story = Story::begun();
    for left in [VmsLeft::Refuse, VmsLeft::Forget] {
        let lives = DenyReason::NodeLives { node: node_id("n1"), watchers: Vec::new() };
        assert_eq!(story.refused(remove_node("n1", left)), lives);
    }
    story.tell(place("n1", 1));
    story.tell(redeem(1, 1));
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 50));
    let watchers = vec![WatcherId::new(1)];
    let lives = DenyReason::NodeLives { node: node_id("n1"), watchers };
    assert_eq!(story.refused(remove_node("n1", VmsLeft::Forget)), lives);
    let lost = Command::LoseWatcher { watcher: WatcherId::new(1), reason: "silent".to_owned(), at: at(51) };
    story.tell(lost);
    story.tell(remove_node("n1", VmsLeft::Forget));
    assert_eq!(story.refused(remove_node("n1", VmsLeft::Forget)), DenyReason::UnknownNode(node_id("n1")));
}

#[test]
fn vms_that_may_run_stand_in_the_way_and_are_named() {
    let mut story = silent();
    let DenyReason::NodeHasVms { count, vms, .. } = story.refused(remove_node("n1", VmsLeft::Refuse)) else {
        panic!("two are lost")
    };
    let named: Vec<(VmId, VmState)> = vms.into_iter().map(|vm| (vm.id, vm.state)).collect();
    assert_eq!((count, named), (2, vec![(vm_id(1), VmState::Lost), (vm_id(2), VmState::Lost)]));
    judge(&mut story, 1, VmState::Stopped, Advice::None);
    judge(&mut story, 2, VmState::Down, Advice::Blocked);
    let refused = story.refused(remove_node("n1", VmsLeft::Refuse));
    assert!(
        refused.to_string().ends_with("1 VMs that may run: desktop-2 (down)"),
        "somebody answers for it: {refused}"
    );
    judge(&mut story, 2, VmState::Down, Advice::Restart { generation: Generation::new(2) });
    let (applied, changes) = story.apply(remove_node("n1", VmsLeft::Refuse));
    assert!(matches!(applied, Applied::NodeRemoved { vms: 2, watchers: 0, .. }), "{applied:?}");
    assert!(changes.vms.is_superset(&[vm_id(1), vm_id(2)].into()) && story.state.vms().len() == 1);
}

#[test]
fn a_refusal_names_so_many_vms_and_counts_the_others() {
    let mut story = Story::begun();
    let numbers: Vec<u128> = (100..).take(REMOVAL_VMS_NAMED + 2).collect();
    story.tell(record_vms("n1", &numbers));
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 50));
    let refused = story.refused(remove_node("n1", VmsLeft::Refuse));
    let DenyReason::NodeHasVms { count, vms, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((*count as usize, vms.len()), (REMOVAL_VMS_NAMED + 2, REMOVAL_VMS_NAMED));
    assert!(refused.to_string().ends_with(" and 2 more"), "{refused}");
}

fn word(name: &str) -> IncidentWord {
    IncidentWord {
        fault: cut(),
        vms_touched: 2,
        nodes_touched: 1,
        nodes: vec![node_id(name)],
        reason: "silent".to_owned(),
    }
}

/// All that can be recorded of n1 beside its VMs, and the same of n2.
fn with_all_that_is_recorded_of_nodes() -> Story {
    let mut story = silent();
    story.tell(Command::RecordProbe { probe: described(), by: "admin token of m1".to_owned(), at: at(60) });
    for name in ["n1", "n2"] {
        let scope = PolicyScope::Node(node_id(name));
        story.tell(assign(scope.clone(), "{}"));
        let policy = Policy { lost_after_ms: Some(10_000), ..Policy::default() };
        story.tell(Command::SetPolicy { scope: scope.clone(), policy, at: at(61) });
        let (reason, lasts) = ("new firmware".to_owned(), Duration::from_secs(60));
        story.tell(Command::BeginMaintenance { scope, reason, lasts, at: at(62) });
        story.tell(place(name, 1));
    }
    story.tell(place("n1", 2));
    story.tell(Command::RetireWatcher { watcher: WatcherId::new(3), at: at(63) });
    let boot = node("n1").boot;
    story.tell(Command::RecordFenceProof {
        node: node_id("n1"),
        boot,
        kind: FenceKind::Fenced,
        note: String::new(),
        at: at(64),
    });
    let scopes = ["n1", "n2"].map(|name| [IncidentScope::Node(node_id(name)), IncidentScope::Flapping(node_id(name))]);
    let open = |scope: IncidentScope| IncidentChange { scope, word: Some(word("n1")) };
    story.tell(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: Some(["n1", "n2"].map(|n| ManagerNote { manager: ManagerId::new(2), node: node_id(n) }).into()),
        incidents: scopes.into_iter().flatten().map(open).collect(),
        placements: Vec::new(),
        at: at(65),
    });
    story
}

#[test]
fn all_that_is_recorded_of_it_goes_with_it_is_told_and_what_is_of_others_stays() {
    let mut story = with_all_that_is_recorded_of_nodes();
    let events = story.tell(remove_node("n1", VmsLeft::Forget));
    let told: Vec<String> =
        events.iter().map(|kind| serde_json::to_value(kind).unwrap()["kind"].as_str().unwrap().to_owned()).collect();
    let expected = [
        "node_removed",
        "vm_removed",
        "vm_removed",
        "watcher_retired",
        "incident_closed",
        "incident_closed",
        "manager_notes_changed",
        "maintenance_ended",
        "probe_unassigned",
        "policy_changed",
    ];
    assert_eq!(told, expected, "the watcher that was to be destroyed already is told no second time");
    let EventKind::NodeRemoved { vms: 2, watchers: 2, fence: Some(fence), by, .. } = &events[0] else {
        panic!("{:?}", events[0])
    };
    assert_eq!((fence.kind, by.as_str()), (FenceKind::Fenced, "admin token of m1"));

    let state = &story.state;
    assert_eq!(state.nodes().keys().map(|n| n.as_str()).collect::<Vec<_>>(), ["n2"]);
    assert_eq!(state.vms().keys().copied().collect::<Vec<_>>(), [vm_id(3)]);
    assert_eq!(state.watchers().keys().copied().collect::<Vec<_>>(), [WatcherId::new(2)]);
    let n2 = PolicyScope::Node(node_id("n2"));
    assert_eq!(state.policies().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&n2));
    assert_eq!(state.maintenances().iter().map(|window| &window.scope).collect::<Vec<_>>(), [&n2]);
    assert_eq!(state.scoped_probes().iter().map(|probe| &probe.scope).collect::<Vec<_>>(), [&n2]);
    let open: Vec<String> = state.open_incidents().map(|incident| incident.scope.to_string()).collect();
    assert_eq!(open, ["node n2", "path to n2"]);
    assert_eq!(state.manager_notes().iter().map(|note| note.node.as_str()).collect::<Vec<_>>(), ["n2"]);
    survives(state);

    // A note and an incident of it that were under way change nothing.
    let notes = ["n1", "n2"].map(|n| ManagerNote { manager: ManagerId::new(2), node: node_id(n) }).into();
    story.in_vain(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: Some(notes),
        incidents: vec![IncidentChange { scope: IncidentScope::Node(node_id("n1")), word: Some(word("n1")) }],
        placements: Vec::new(),
        at: at(71),
    });
}

#[test]
fn it_is_recorded_again_once_a_token_let_it_in_and_the_key_of_before_stays_shut_out() {
    let mut story = silent();
    assert!(may_speak(&story, Some(1)), "nothing is said of a node that was never removed");
    story.tell(remove_node("n1", VmsLeft::Forget));
    assert_eq!(story.refused(record_node("n1")), DenyReason::NodeRemoved(node_id("n1")));
    assert!(![None, Some(1)].into_iter().any(|shown| may_speak(&story, shown)));
    story.tell(token(9, 1));
    story.tell(join(9, 2));
    assert!(may_speak(&story, Some(2)) && !may_speak(&story, Some(1)) && !may_speak(&story, None));
    assert_eq!(story.tell(record_node("n1")), [EventKind::NodeJoined { node: node_id("n1") }]);
    survives(&story.state);
    // And once more: a later removal shuts out the second key as well.
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 80));
    story.tell(remove_node("n1", VmsLeft::Refuse));
    assert!(![Some(1), Some(2)].into_iter().any(|shown| may_speak(&story, shown)));
}

#[test]
fn the_request_by_which_it_joined_before_lets_its_old_key_in_no_more() {
    let mut story = silent();
    story.tell(token(9, 1));
    story.tell(join(9, 1));
    story.in_vain(join(9, 1));
    story.tell(remove_node("n1", VmsLeft::Forget));
    let refused = story.refused(join(9, 1));
    assert_eq!(refused, DenyReason::JoinRefused(JoinRefusal::UsedUp { token: JoinTokenId::new(1), uses: 1 }));
    assert!(!may_speak(&story, Some(1)));
}

#[test]
fn a_node_that_was_let_in_and_never_spoke_is_removed_and_its_key_opens_nothing() {
    let mut story = Story::begun();
    let n9 = node_id("n9");
    let join = |request: u8| Command::RedeemJoinToken {
        secret_hash: key(9),
        joiner: Joiner::Node(n9.clone()),
        request: key(request),
        key: Some(key(request)),
        incarnation: Incarnation::default(),
        at: at(200),
    };
    let unknown = DenyReason::UnknownNode(n9.clone());
    assert_eq!(story.refused(remove_node("n9", VmsLeft::Refuse)), unknown, "nobody knows it");
    story.tell(token(9, 2));
    story.tell(join(1));
    assert!(story.state.is_let_in_unheard(&n9));
    let told = story.tell(remove_node("n9", VmsLeft::Refuse));
    assert!(matches!(&told[..], [EventKind::NodeRemoved { node, vms: 0, watchers: 0, .. }] if *node == n9), "{told:?}");
    assert!(story.state.refusal_of(&n9, Some(&key(1))).is_some());
    assert_eq!(story.refused(record_node("n9")), DenyReason::NodeRemoved(n9.clone()));
    assert_eq!(story.refused(remove_node("n9", VmsLeft::Refuse)), unknown, "once");
    survives(&story.state);
    // Let in again, silent again, and removed again.
    story.tell(join(2));
    assert!(story.state.refusal_of(&n9, Some(&key(2))).is_none());
    story.tell(remove_node("n9", VmsLeft::Refuse));
    assert!(story.state.refusal_of(&n9, Some(&key(2))).is_some());
}

#[test]
fn what_is_remembered_ends_with_the_second_rotation_of_the_ca_after_it() {
    let mut story = silent();
    story.tell(remove_node("n1", VmsLeft::Forget));
    for (name, remembered) in [("second", Some(SignedBy::Former)), ("third", None)] {
        story.tell(add_ca(name));
        story.tell(Command::SwitchCa { at: at(90) });
        let signed_by = story.state.removed_nodes().get(&node_id("n1")).map(|removed| removed.signed_by);
        assert_eq!(signed_by, remembered, "{name}");
        survives(&story.state);
        story.tell(Command::RetireCa { at: at(91) });
        assert_eq!(story.state.removed_nodes().len(), usize::from(remembered.is_some()), "managers may trust it yet");
    }
}

#[test]
fn so_many_removed_nodes_are_remembered_and_no_more() {
    let mut story = Story::begun();
    let mut remove = |number: usize| {
        let name = format!("old-{number}");
        story.tell(record_node(&name));
        story.tell(record_path(&name, 0, Source::Watcher, vec![cut()], 50));
        story.apply(remove_node(&name, VmsLeft::Refuse)).0
    };
    for number in 0..REMOVED_NODES_MAX {
        assert!(matches!(remove(number), Applied::NodeRemoved { .. }), "{number}");
    }
    let full = remove(REMOVED_NODES_MAX);
    assert!(matches!(&full, Applied::Denied(DenyReason::TooMany { what, .. }) if what == "removed nodes"), "{full:?}");
}

#[test]
fn a_write_that_has_not_seen_the_node_as_it_is_does_not_remove_it() {
    let mut story = silent();
    let guarded = |index| {
        let expects = Some(vouch_types::Expected::At(LogIndex::new(index)));
        let guard = vouch_types::Guard { expects, once: None, at: at(70) };
        Command::Guarded { command: Box::new(remove_node("n1", VmsLeft::Forget)), guard }
    };
    let seen = story.state.node_version(&node_id("n1")).unwrap();
    let moved = DenyReason::VersionMoved { current: Some(seen) };
    assert_eq!(story.refused(guarded(1)), moved);
    story.tell(guarded(seen.get()));
}
