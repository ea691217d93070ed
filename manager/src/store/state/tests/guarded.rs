//! Guarded writes, and the marks that reads wait for.

use vouch_types::guard::ONCE_KEY_MAX;
use vouch_types::{
    Applied, Command, DenyReason, Digest, Expected, Guard, LogIndex, MaintenanceId, Once, Policy, PolicyScope, VmState,
};

use super::super::super::tests::samples::*;
use super::super::{ONCE_KEPT, ONCE_MAX, Subject};
use super::{Story, survives};

fn guarded(command: Command, expects: Option<Expected>, once: Option<(&str, u8)>, millis: u64) -> Command {
    let once = once.map(|(key, request)| Once { key: key.to_owned(), request: Digest::new([request; 32]) });
    Command::Guarded { command: Box::new(command), guard: Guard { expects, once, at: at(millis) } }
}

fn policy(interval: u64) -> Command {
    let policy = Policy { probe_interval_ms: Some(interval), ..Policy::default() };
    Command::SetPolicy { scope: PolicyScope::Cluster, policy, at: at(60) }
}

fn begin() -> Command {
    let (reason, lasts) = ("new firmware".to_owned(), std::time::Duration::from_secs(60));
    Command::BeginMaintenance { scope: PolicyScope::Cluster, reason, lasts, at: at(60) }
}

#[test]
fn a_write_is_done_only_to_the_version_that_its_writer_has_seen() {
    let mut story = Story::begun();
    let refused = story.refused(guarded(policy(5_000), Some(Expected::Existing), None, 60));
    assert_eq!(refused, DenyReason::VersionMoved { current: None }, "there is none yet");
    story.tell(policy(5_000));
    let first = story.state.policy_version(&PolicyScope::Cluster).unwrap();
    story.tell(guarded(policy(6_000), Some(Expected::At(first)), None, 60));
    let second = story.state.policy_version(&PolicyScope::Cluster).unwrap();
    assert!(second > first);
    let late = story.refused(guarded(policy(7_000), Some(Expected::At(first)), None, 60));
    assert_eq!(late, DenyReason::VersionMoved { current: Some(second) });
    story.tell(guarded(policy(7_000), Some(Expected::Existing), None, 60));
    let twice = guarded(guarded(policy(8_000), None, None, 60), None, None, 60);
    assert!(matches!(story.refused(twice), DenyReason::BadValue { .. }));
}

#[test]
fn vms_nodes_and_windows_have_versions_of_their_own() {
    let mut story = Story::begun();
    let vm = story.state.vm_version(vm_id(1)).unwrap();
    story.tell(record_verdict(2, 0, verdict(VmState::Up), 40));
    assert_eq!(story.state.vm_version(vm_id(1)), Some(vm), "another vm changed");
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 41));
    assert!(story.state.vm_version(vm_id(1)) > Some(vm));
    let forget = guarded(Command::ForgetPins { vm: vm_id(1), at: at(42) }, Some(Expected::At(vm)), None, 42);
    assert!(matches!(story.refused(forget), DenyReason::VersionMoved { current: Some(_) }));
    let node = story.state.node_version(&node_id("n1")).unwrap();
    story.in_vain(record_node("n1"));
    assert_eq!(story.state.node_version(&node_id("n1")), Some(node), "nothing of it changed");
    story.tell(begin());
    let window = story.state.maintenance_version(MaintenanceId::new(1)).unwrap();
    story.apply(Command::RecordMaintenance { remaining: vec![(MaintenanceId::new(1), 50_000)] });
    assert_eq!(story.state.maintenance_version(MaintenanceId::new(1)), Some(window), "its time goes by");
    survives(&story.state);
}

#[test]
fn a_key_makes_a_write_happen_once_and_is_refused_for_another_one() {
    let mut story = Story::begun();
    let (first, _) = story.apply(guarded(begin(), None, Some(("k", 1)), 1_000));
    let again = story.in_vain(guarded(begin(), None, Some(("k", 1)), 2_000));
    assert_eq!(again, Applied::Repeated { at: at(1_000), first: Box::new(first) });
    assert_eq!(story.refused(guarded(begin(), None, Some(("k", 2)), 2_000)), DenyReason::KeyReused("k".to_owned()));
    assert_eq!(story.state.maintenances().len(), 1);
    survives(&story.state);
    for key in ["", &"k".repeat(ONCE_KEY_MAX + 1)] {
        assert!(matches!(story.refused(guarded(begin(), None, Some((key, 1)), 1)), DenyReason::BadValue { .. }));
    }
}

#[test]
fn a_key_whose_write_was_refused_may_be_used_again() {
    let mut story = Story::begun();
    let end = |millis| {
        let end = Command::EndMaintenance { maintenance: MaintenanceId::new(1), at: at(60) };
        guarded(end, None, Some(("k", 1)), millis)
    };
    assert!(matches!(story.refused(end(1)), DenyReason::UnknownMaintenance(_)));
    story.tell(begin());
    assert!(matches!(story.apply(end(2)).0, Applied::Done { .. }));
}

#[test]
fn keys_are_forgotten_after_their_time_and_when_there_are_too_many() {
    let mut story = Story::begun();
    let set = |key: &str, interval: u64, millis: u64| guarded(policy(interval), None, Some((key, 1)), millis);
    story.tell(set("old", 5_000, 1));
    let kept = u64::try_from(ONCE_KEPT.as_millis()).unwrap();
    assert!(matches!(story.in_vain(set("old", 5_000, kept)), Applied::Repeated { .. }));
    assert!(matches!(story.apply(set("old", 5_000, kept + 1)).0, Applied::Done { .. }), "its time is over");
    for n in 0..ONCE_MAX as u64 {
        story.apply(set(&format!("k{n}"), 5_000 + n, kept + 2));
    }
    let before = story.state.policy_version(&PolicyScope::Cluster);
    story.apply(set("old", 9_999, kept + 3));
    assert!(story.state.policy_version(&PolicyScope::Cluster) > before, "forgotten to make room");
    survives(&story.state);
}

#[test]
fn a_key_that_was_put_and_forgotten_leaves_the_store_with_it() {
    use crate::store::{Batch, MemoryStateStore, Position, StateStore, replace_all};
    let mut story = Story::begun();
    let store = MemoryStateStore::default();
    let mut hash = replace_all(&store, &story.state, &Position::default()).unwrap();
    for n in 0..=ONCE_MAX as u64 {
        let (_, changes) = story.apply(guarded(policy(5_000 + n), None, Some((&format!("k{n}"), 1)), 1));
        store.commit(Batch::of_changes(&story.state, &changes, &Position::default(), &mut hash).unwrap()).unwrap();
    }
    assert_eq!(store.load().unwrap().unwrap().state, story.state);
}

#[test]
fn a_mark_moves_when_what_a_reader_sees_changes_and_no_other_does() {
    let mut story = Story::begun();
    let subjects = [
        Subject::Vms,
        Subject::Vm(vm_id(1)),
        Subject::Vm(vm_id(3)),
        Subject::Nodes,
        Subject::Watchers,
        Subject::Probes,
        Subject::Incidents,
        Subject::Policies,
        Subject::Policy(PolicyScope::Cluster),
        Subject::VmPolicy(vm_id(1)),
        Subject::Maintenances,
        Subject::JoinTokens,
    ];
    let moved = |story: &mut Story, command: Command| {
        let before: Vec<LogIndex> = subjects.iter().map(|s| story.state.changed_at(s)).collect();
        story.tell(command);
        let changed = subjects.iter().zip(before).filter(|(s, before)| story.state.changed_at(s) > *before);
        changed.map(|(s, _)| s.clone()).collect::<Vec<_>>()
    };
    let [vms, vm1, vm3] = [Subject::Vms, Subject::Vm(vm_id(1)), Subject::Vm(vm_id(3))];
    let of_vm1 = moved(&mut story, record_verdict(1, 0, verdict(VmState::Up), 40));
    assert_eq!(
        of_vm1,
        [vms.clone(), vm1.clone(), Subject::Nodes, Subject::Incidents, Subject::VmPolicy(vm_id(1))],
        "vm 3 slept"
    );
    let of_n1 = moved(&mut story, record_path("n1", 0, vouch_types::Source::Watcher, vec![cut()], 41));
    assert_eq!(of_n1, [vms.clone(), vm1.clone(), Subject::Nodes], "a vm shows the path of its node");
    assert_eq!(moved(&mut story, place("n2", 1)), [vms, vm1, vm3, Subject::Nodes, Subject::Watchers]);
    assert_eq!(
        moved(&mut story, Command::RecordProbe { probe: probe(), by: String::new(), at: at(50) }),
        [Subject::Probes]
    );
    assert_eq!(
        moved(&mut story, policy(5_000)),
        [Subject::Policies, Subject::Policy(PolicyScope::Cluster), Subject::VmPolicy(vm_id(1))]
    );
    assert_eq!(moved(&mut story, begin()), [Subject::Maintenances]);
}

#[test]
fn a_removed_policy_and_a_removed_vm_move_the_marks_of_those_who_waited_for_them() {
    let mut story = Story::begun();
    story.tell(policy(5_000));
    let (was, vm) = (
        story.state.changed_at(&Subject::Policy(PolicyScope::Cluster)),
        story.state.changed_at(&Subject::Vm(vm_id(2))),
    );
    story.tell(Command::SetPolicy { scope: PolicyScope::Cluster, policy: Policy::default(), at: at(61) });
    assert!(story.state.changed_at(&Subject::Policy(PolicyScope::Cluster)) > was);
    story.tell(record_vms("n1", &[1]));
    assert!(story.state.changed_at(&Subject::Vm(vm_id(2))) > vm);
}
