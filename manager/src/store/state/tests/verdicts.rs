//! Verdicts and paths: what is stale is refused by itself, what says the same is no event.

use std::time::Duration;

use vouch_types::command::{CHANGES_MAX, PathChange};
use vouch_types::path::HAND_BACKS_MAX;
use vouch_types::{Advice, Cause, Fault, HandBack, Network, Source};

use super::*;

#[test]
fn a_verdict_raises_the_version_and_tells_of_the_change_of_state() {
    let mut story = Story::begun();
    let events = story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let [EventKind::VmStateChanged { vm, from, to, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((*vm, *from, *to), (vm_id(1), VmState::Unknown, VmState::Up));
    assert_eq!((story.verdict(1).version.get(), story.verdict(1).since), (1, at(30)));
}

#[test]
fn a_verdict_with_the_same_state_keeps_since_and_tells_of_faults() {
    let mut story = Story::begun();
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let noted = vouch_types::Verdict { notes: vec![Fault::sure(Cause::GuestAgent)], ..verdict(VmState::Up) };
    let events = story.tell(record_verdict(1, 1, noted, 40));
    assert!(matches!(events.as_slice(), [EventKind::VmFaultsChanged { state: VmState::Up, .. }]), "{events:?}");
    assert_eq!((story.verdict(1).version.get(), story.verdict(1).since), (2, at(30)));
    let advised = vouch_types::Verdict { advice: Advice::Blocked, ..story.verdict(1).clone() };
    let events = story.tell(record_verdict(1, 2, advised, 50));
    assert!(matches!(events.as_slice(), [EventKind::VmFaultsChanged { advice: Advice::Blocked, .. }]), "{events:?}");
}

#[test]
fn a_verdict_that_says_the_same_makes_no_event_and_no_version() {
    let mut story = Story::begun();
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let reworded = vouch_types::Verdict { reason: "in other words".to_owned(), ..verdict(VmState::Up) };
    let applied = story.in_vain(record_verdict(1, 1, reworded, 40));
    let Applied::Recorded { stale_vms, stale_nodes, .. } = applied else { panic!("{applied:?}") };
    assert!(stale_vms.is_empty() && stale_nodes.is_empty());
}

#[test]
fn since_never_goes_back_when_a_new_leaders_clock_is_behind() {
    let mut story = Story::begun();
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 1_000));
    story.tell(record_verdict(1, 1, verdict(VmState::Lost), 400));
    assert_eq!(story.verdict(1).since, at(1_000));
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 1_000));
    story.tell(record_path("n1", 1, Source::Direct, Vec::new(), 400));
    assert_eq!(story.path("n1").since, at(1_000));
}

#[test]
fn a_stale_verdict_is_refused_by_itself_and_the_others_are_recorded() {
    let mut story = Story::begun();
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let wrong_generation = vouch_types::VerdictChange {
        generation: vouch_types::Generation::new(2),
        ..change(3, 0, verdict(VmState::Up))
    };
    let command = Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts: vec![
            change(1, 0, verdict(VmState::Down)),
            change(2, 0, verdict(VmState::Up)),
            change(2, 0, verdict(VmState::Down)),
            wrong_generation,
            change(99, 0, verdict(VmState::Up)),
        ],
        paths: Vec::new(),
        manager_notes: None,
        at: at(40),
    };
    let (applied, changes) = story.apply(command);
    let Applied::Recorded { stale_vms, .. } = applied else { panic!("{applied:?}") };
    assert_eq!(stale_vms, [1, 2, 3, 99].map(vm_id));
    assert_eq!(changes.events.len(), 1);
    assert_eq!((story.verdict(1).state, story.verdict(2).state), (VmState::Up, VmState::Up));
    assert_eq!(story.verdict(3).state, VmState::Unknown);
}

#[test]
fn a_cut_path_and_its_heal_are_one_event_each() {
    let mut story = Story::begun();
    let events = story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 40));
    let [EventKind::PathChanged { from: Source::Direct, to: Source::Watcher, faults, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(faults, &[cut()]);
    let events = story.tell(record_path("n1", 1, Source::Direct, Vec::new(), 50));
    assert!(matches!(events.as_slice(), [EventKind::PathRecovered { .. }]), "{events:?}");
    story.in_vain(record_path("n1", 2, Source::Direct, Vec::new(), 60));
    assert_eq!(story.path("n1").version.get(), 2);
}

#[test]
fn faults_of_a_direct_path_that_are_cleared_are_a_recovery_too() {
    let mut story = Story::begun();
    let uplink = Fault::sure(Cause::NodeUplink(Network::Service));
    let events = story.tell(record_path("n1", 0, Source::Direct, vec![uplink.clone()], 40));
    assert!(matches!(events.as_slice(), [EventKind::PathChanged { to: Source::Direct, .. }]), "{events:?}");
    let events = story.tell(record_path("n1", 1, Source::Direct, Vec::new(), 50));
    assert!(matches!(events.as_slice(), [EventKind::PathRecovered { .. }]), "{events:?}");

    // Back to direct with something still broken is no recovery yet.
    story.tell(record_path("n1", 2, Source::Watcher, vec![cut()], 60));
    let events = story.tell(record_path("n1", 3, Source::Direct, vec![uplink], 70));
    assert!(matches!(events.as_slice(), [EventKind::PathChanged { .. }]), "{events:?}");
}

#[test]
fn a_stale_path_is_refused() {
    let mut story = Story::begun();
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 40));
    for (name, replaces) in [("n1", 0), ("n9", 0)] {
        let applied = story.in_vain(record_path(name, replaces, Source::Direct, Vec::new(), 50));
        let Applied::Recorded { stale_nodes, .. } = applied else { panic!("{applied:?}") };
        assert_eq!(stale_nodes, [node_id(name)]);
    }
}

#[test]
fn paths_are_told_before_the_verdicts_that_they_explain() {
    let mut story = Story::begun();
    let Command::RecordVerdicts { paths, .. } = record_path("n1", 0, Source::Watcher, vec![cut()], 40) else {
        panic!("record_path makes a RecordVerdicts");
    };
    let verdicts = vec![change(1, 0, verdict(VmState::Lost))];
    let (_, changes) = story.apply(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts,
        paths,
        manager_notes: None,
        at: at(40),
    });
    let ordinals: Vec<u32> = changes.events.iter().map(|event| event.ordinal).collect();
    assert_eq!(ordinals, [0, 1]);
    assert!(matches!(changes.events[0].kind, EventKind::PathChanged { .. }));
}

#[test]
fn manager_notes_are_told_when_they_change_in_any_order() {
    let mut story = Story::begun();
    let notes = |names: &[&str]| {
        let note = |name: &&str| vouch_types::event::ManagerNote { manager: ManagerId::new(2), node: node_id(name) };
        Command::RecordVerdicts {
            boots: Vec::new(),
            claims: Vec::new(),
            incidents: Vec::new(),
            placements: Vec::new(),
            verdicts: Vec::new(),
            paths: Vec::new(),
            manager_notes: Some(names.iter().map(note).collect()),
            at: at(40),
        }
    };
    assert_eq!(story.tell(notes(&["n2", "n1"])).len(), 1);
    story.in_vain(notes(&["n1", "n2", "n1"]));
    assert_eq!(story.state.manager_notes().len(), 2);
    assert_eq!(story.tell(notes(&[])), [EventKind::ManagerNotesChanged { notes: Vec::new() }]);
}

#[test]
fn more_changes_than_a_command_may_carry_are_refused() {
    let mut story = Story::begun();
    let verdicts = vec![change(1, 0, verdict(VmState::Up)); CHANGES_MAX + 1];
    let command = Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts,
        paths: Vec::new(),
        manager_notes: None,
        at: at(40),
    };
    assert!(matches!(story.refused(command), DenyReason::TooMany { count: 10_001, limit: 10_000, .. }));
}

#[test]
fn a_reason_that_is_too_long_is_cut_between_characters() {
    let mut story = Story::begun();
    let long = vouch_types::Verdict { reason: "ü".repeat(200), ..verdict(VmState::Up) };
    story.tell(record_verdict(1, 0, long, 30));
    assert_eq!(story.verdict(1).reason, "ü".repeat(128));
    let odd = vouch_types::Verdict { reason: format!("a{}", "ü".repeat(200)), ..verdict(VmState::Hung) };
    story.tell(record_verdict(1, 1, odd, 31));
    assert_eq!(story.verdict(1).reason.len(), 255);
}

#[test]
fn a_change_of_state_tells_which_faults_are_gone() {
    let mut story = Story::begun();
    let broken = |causes: &[Cause]| causes.iter().cloned().map(Fault::sure).collect::<Vec<_>>();
    let paused =
        vouch_types::Verdict { faults: broken(&[Cause::Storage, Cause::GuestAgent]), ..verdict(VmState::Paused) };
    story.tell(record_verdict(1, 0, paused, 30));
    let up = vouch_types::Verdict { faults: broken(&[Cause::GuestAgent]), ..verdict(VmState::Up) };
    let events = story.tell(record_verdict(1, 1, up, 40));
    let [EventKind::VmStateChanged { cleared, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(*cleared, broken(&[Cause::Storage]));
    assert!(events[0].is_notification(), "its disks are back");
}

#[test]
fn what_suppresses_a_verdict_is_told_when_it_begins_and_ends() {
    let mut story = Story::begun();
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let quiet = vouch_types::Verdict { suppressed: "maintenance x1: new switch".to_owned(), ..verdict(VmState::Up) };
    let events = story.tell(record_verdict(1, 1, quiet, 40));
    let [EventKind::VmFaultsChanged { suppressed, .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(suppressed, "maintenance x1: new switch");
    assert_eq!(story.tell(record_verdict(1, 2, verdict(VmState::Up), 50)).len(), 1);
}

#[test]
fn hand_backs_are_recorded_with_the_path_that_they_are_of_and_only_so_many() {
    let mut story = Story::begun();
    let back = |secs| HandBack { left: Duration::from_secs(secs) };
    let Command::RecordVerdicts { mut paths, at, .. } = record_path("n1", 0, Source::Watcher, vec![cut()], 30) else {
        panic!("a path");
    };
    paths[0].hand_backs = (1..=HAND_BACKS_MAX as u64 + 2).map(back).collect();
    let mut record = |paths: Vec<PathChange>| {
        story.tell(Command::RecordVerdicts {
            boots: Vec::new(),
            claims: Vec::new(),
            incidents: Vec::new(),
            placements: Vec::new(),
            verdicts: Vec::new(),
            paths,
            manager_notes: None,
            at,
        })
    };
    record(paths.clone());
    // One that is stale records nothing.
    paths[0].hand_backs = vec![back(50)];
    assert_eq!(record(paths), []);
    assert_eq!(story.path("n1").hand_backs, [3, 4, 5].map(back), "the latest");
    survives(&story.state);
}

#[test]
fn a_boot_is_recorded_without_an_event_and_one_of_another_generation_is_refused() {
    let mut story = Story::begun();
    assert_eq!(story.tell(record_boots(vec![boot(1, 1, 60), boot(2, 9, 60), boot(99, 1, 60)])), []);
    let recorded = |story: &Story, vm: u128| story.state.vms()[&vm_id(vm)].boot;
    assert_eq!(recorded(&story, 1), boot(1, 1, 60).boot);
    assert_eq!(recorded(&story, 2), None);
    let applied = story.in_vain(record_boots(vec![boot(1, 1, 60), boot(2, 9, 60)]));
    assert!(matches!(applied, Applied::Recorded { ref stale_vms, .. } if *stale_vms == [vm_id(2)]), "{applied:?}");
    survives(&story.state);
    let over = vouch_types::BootChange { boot: None, ..boot(1, 1, 0) };
    let (_, changes) = story.apply(record_boots(vec![over]));
    assert!(changes.events.is_empty() && changes.vms.is_empty() && changes.unshown.contains(&vm_id(1)));
    assert_eq!(recorded(&story, 1), None);
    let too_many = story.refused(record_boots(vec![boot(1, 1, 60); CHANGES_MAX + 1]));
    assert!(matches!(too_many, DenyReason::TooMany { count: 10_001, .. }), "{too_many:?}");
}

#[test]
fn what_an_older_version_wrote_has_no_memory_and_is_written_as_it_was() {
    use crate::store::codec::{decode, encode};
    let mut story = Story::begun();
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    for node in story.state.nodes().values() {
        let bytes = encode("node", &**node).unwrap();
        assert!(!String::from_utf8(bytes).unwrap().contains("hand_backs"));
    }
    let bytes = encode("vm", &*story.state.vms()[&vm_id(1)]).unwrap();
    assert!(!String::from_utf8(bytes.clone()).unwrap().contains("boot"));
    assert_eq!(decode::<vouch_types::VmRecord>("vm", &bytes).unwrap().boot, None);
    // As it stands in a log of the version before.
    let path = r#"{"node":"n1","replaces":0,"source":"watcher","faults":[],"reason":"a link was cut"}"#;
    let command = format!(
        r#"{{"RecordVerdicts":{{"verdicts":[],"paths":[{path}],"manager_notes":null,"incidents":[],"placements":[],"at":7}}}}"#
    );
    let command: Command = decode("command", command.as_bytes()).unwrap();
    assert!(!String::from_utf8(encode("command", &command).unwrap()).unwrap().contains("boots"));
    assert_eq!(story.tell(command).len(), 1);
    assert_eq!(story.path("n1").hand_backs, []);
}
