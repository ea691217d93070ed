//! Each command: what it does, what it refuses, and that doing it again does nothing.

use vouch_types::command::CHANGES_MAX;
use vouch_types::grant::GRANT_VMS_MAX;
use vouch_types::vm::{ADDRESSES_MAX, PROBES_PER_VM_MAX};
use vouch_types::{
    Advice, Applied, AssignmentGeneration, BootId, Cause, Command, DenyReason, EventKind, Fault, Incarnation, LogIndex,
    ManagerId, Network, NodeId, Source, Term, VerdictVersion, VmState, WatcherId, WatcherLife,
};

use super::super::tests::samples::*;
use super::{EVENTS_MAX, State};
use crate::store::Changes;

/// A state, and the index that the next command gets.
struct Story {
    state: State,
    next: u64,
}

impl Story {
    fn empty() -> Self {
        Self { state: State::default(), next: 1 }
    }

    /// A cluster with the nodes n1 and n2, the VMs 1 and 2 on n1 and 3 on n2.
    fn begun() -> Self {
        let mut story = Self::empty();
        for command in [init(), record_node("n1"), record_node("n2"), record_vms("n1", &[1, 2]), record_vms("n2", &[3])]
        {
            story.tell(command);
        }
        story
    }

    fn apply(&mut self, command: Command) -> (Applied, Changes) {
        let index = LogIndex::new(self.next);
        self.next += 1;
        self.state.apply(index, command)
    }

    /// Applies a command that must be accepted, and returns its events.
    fn tell(&mut self, command: Command) -> Vec<EventKind> {
        let (applied, changes) = self.apply(command);
        assert!(!matches!(applied, Applied::Denied(_)), "{applied:?}");
        changes.events.iter().map(|event| event.kind.clone()).collect()
    }

    /// Applies a command that must change nothing at all, and returns what came of it.
    fn in_vain(&mut self, command: Command) -> Applied {
        let before = self.state.clone();
        let (applied, changes) = self.apply(command);
        assert!(changes.is_empty(), "{changes:?}");
        assert_eq!(self.state, before);
        applied
    }

    fn refused(&mut self, command: Command) -> DenyReason {
        match self.in_vain(command) {
            Applied::Denied(reason) => reason,
            other => panic!("must be refused: {other:?}"),
        }
    }

    fn verdict(&self, vm: u128) -> &vouch_types::Verdict {
        &self.state.vms()[&vm_id(vm)].verdict
    }

    fn path(&self, node: &str) -> &vouch_types::NodePath {
        &self.state.nodes()[&node_id(node)].path
    }

    fn watcher(&self, number: u64) -> &vouch_types::WatcherRecord {
        &self.state.watchers()[&WatcherId::new(number)]
    }
}

#[test]
fn a_cluster_is_made_once() {
    let mut story = Story::empty();
    assert_eq!(story.tell(init()), [EventKind::ClusterInitialised]);
    assert_eq!(story.state.cluster().unwrap().id, cluster_id());
    assert_eq!(story.refused(init()), DenyReason::AlreadyInitialised(cluster_id()));
}

#[test]
fn before_there_is_a_cluster_only_the_leader_is_recorded() {
    for command in every_command().into_iter().skip(2) {
        assert_eq!(Story::empty().refused(command), DenyReason::NotInitialised);
    }
}

#[test]
fn a_leader_is_recorded_once_per_term() {
    let mut story = Story::empty();
    let lead =
        |manager, term| Command::RecordLeader { manager: ManagerId::new(manager), term: Term::new(term), at: at(5) };
    let elected = EventKind::LeaderElected { manager: ManagerId::new(1), term: Term::new(3) };
    assert_eq!(story.tell(lead(1, 3)), [elected]);
    story.in_vain(lead(1, 3));
    story.in_vain(lead(2, 2));
    assert_eq!(story.tell(lead(2, 4)).len(), 1);
    assert_eq!(story.state.leader().unwrap().manager, ManagerId::new(2));
}

#[test]
fn a_node_joins_reboots_and_has_its_agent_restarted() {
    let mut story = Story::empty();
    story.tell(init());
    let id = node_id("n1");
    assert_eq!(story.tell(record_node("n1")), [EventKind::NodeJoined { node: id.clone() }]);
    story.in_vain(record_node("n1"));

    let restarted = vouch_types::NodeRecord { incarnation: Incarnation::new(2), ..node("n1") };
    let command = Command::RecordNode { node: restarted.clone(), at: at(11) };
    assert_eq!(story.tell(command), [EventKind::NodeAgentRestarted { node: id.clone() }]);

    let boot = BootId::new(uuid::Uuid::from_u128(0xb1));
    let rebooted = vouch_types::NodeRecord { boot, incarnation: Incarnation::new(3), ..restarted };
    let command = Command::RecordNode { node: rebooted.clone(), at: at(12) };
    assert_eq!(story.tell(command), [EventKind::NodeRebooted { node: id.clone() }]);

    let moved = vouch_types::NodeRecord { relay: "10.0.0.9:1".parse().unwrap(), ..rebooted };
    let (_, changes) = story.apply(Command::RecordNode { node: moved, at: at(13) });
    assert_eq!((changes.events.len(), changes.nodes.len()), (0, 1), "no event, and yet recorded");
}

#[test]
fn recording_a_node_again_keeps_the_state_of_its_paths() {
    let mut story = Story::begun();
    story.tell(record_path("n1", 0, Source::Watcher, vec![cut()], 40));
    let restarted = vouch_types::NodeRecord { incarnation: Incarnation::new(2), ..node("n1") };
    story.tell(Command::RecordNode { node: restarted, at: at(50) });
    assert_eq!(story.path("n1").source, Source::Watcher);
    assert_eq!(story.path("n1").version, VerdictVersion::new(1));
}

#[test]
fn vms_are_registered_and_removed_as_their_node_names_them() {
    let mut story = Story::begun();
    let vm = &story.state.vms()[&vm_id(1)];
    assert_eq!((vm.generation.get(), vm.verdict.state, vm.node.as_str()), (1, VmState::Unknown, "n1"));
    story.in_vain(record_vms("n1", &[2, 1]));
    let removed = EventKind::VmRemoved { vm: vm_id(1), node: node_id("n1") };
    assert_eq!(story.tell(record_vms("n1", &[2])), [removed]);
    assert!(story.state.vms().contains_key(&vm_id(3)), "another node's VM stays");
    assert_eq!(story.state.vms_of(&node_id("n1")).count(), 1);
}

#[test]
fn a_vm_that_was_removed_and_added_again_is_another_placement() {
    let mut story = Story::begun();
    let before = story.state.vms()[&vm_id(1)].generation;
    story.tell(record_vms("n1", &[2]));
    story.tell(record_vms("n1", &[1, 2]));
    let again = story.state.vms()[&vm_id(1)].generation;
    assert!(again > before, "{again:?} after {before:?}");
    assert!(story.state.vms().values().filter(|vm| vm.generation == again).count() == 1);
}

#[test]
fn a_node_that_names_another_nodes_vm_is_refused_whole() {
    let mut story = Story::begun();
    let reason = story.refused(record_vms("n1", &[1, 3, 4]));
    assert_eq!(reason, DenyReason::NotOwner { vm: vm_id(3), owner: node_id("n2") });
    assert_eq!(story.refused(record_vms("n9", &[])), DenyReason::UnknownNode(node_id("n9")));
}

#[test]
fn more_vms_probes_or_addresses_than_a_command_may_carry_are_refused() {
    let mut story = Story::begun();
    let refused =
        |story: &mut Story, vms| match story.refused(Command::RecordVms { node: node_id("n1"), vms, at: at(1) }) {
            DenyReason::TooMany { limit, .. } => limit,
            other => panic!("{other:?}"),
        };
    let vms = (0..=CHANGES_MAX as u128).map(vm_spec).collect();
    assert_eq!(refused(&mut story, vms), CHANGES_MAX as u64);
    let probes = vec![ping(); PROBES_PER_VM_MAX + 1];
    let vms = vec![vouch_types::VmSpec { probes, ..vm_spec(1) }];
    assert_eq!(refused(&mut story, vms), PROBES_PER_VM_MAX as u64);
    let addresses = [(Network::Service, vec!["10.0.0.1".parse().unwrap(); ADDRESSES_MAX + 1])].into();
    let vms = vec![vouch_types::VmSpec { addresses, ..vm_spec(1) }];
    assert_eq!(refused(&mut story, vms), ADDRESSES_MAX as u64);
}

#[test]
fn a_changed_vm_keeps_verdict_and_generation_and_loses_what_was_proven_of_removed_probes() {
    let mut story = Story::begun();
    story.tell(Command::RecordProven { pins: Vec::new(), proven: vec![(vm_id(1), ping())] });
    story.tell(record_verdict(1, 0, verdict(VmState::Up), 30));
    let spec = vouch_types::VmSpec { name: "other".to_owned(), probes: Vec::new(), ..vm_spec(1) };
    let events = story.tell(Command::RecordVms { node: node_id("n1"), vms: vec![spec, vm_spec(2)], at: at(31) });
    assert_eq!(events, []);
    let vm = &story.state.vms()[&vm_id(1)];
    assert_eq!((vm.spec.name.as_str(), vm.verdict.state, vm.generation.get()), ("other", VmState::Up, 1));
    assert!(vm.proven.is_empty());
}

#[test]
fn a_probe_is_proven_once_and_only_where_it_is_assigned() {
    let mut story = Story::begun();
    let proven = |vm, probe| Command::RecordProven { pins: Vec::new(), proven: vec![(vm_id(vm), probe)] };
    story.tell(proven(1, ping()));
    assert_eq!(story.state.vms()[&vm_id(1)].proven, [ping()]);
    story.in_vain(proven(1, ping()));
    story.in_vain(proven(99, ping()));
    story.in_vain(proven(1, vouch_types::ProbeAssignment { network: Network::Management, ..ping() }));
}

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
fn numbers_of_watchers_are_never_used_again() {
    let mut story = Story::begun();
    let placed = |story: &mut Story| match story.apply(place("n1", 1)).0 {
        Applied::WatcherPlaced { watcher, .. } => watcher.get(),
        other => panic!("{other:?}"),
    };
    assert_eq!(placed(&mut story), 1);
    story.tell(Command::ForgetWatcher { watcher: WatcherId::new(1) });
    assert_eq!(placed(&mut story), 2);
    assert_eq!(story.watcher(2).placed, LogIndex::new(story.next - 1));
    assert_eq!(story.refused(place("n9", 1)), DenyReason::UnknownNode(NodeId::new("n9").unwrap()));
}

#[test]
fn a_secret_is_redeemed_once_and_only_the_right_one() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    let bad = DenyReason::BadSecret(WatcherId::new(1));
    assert_eq!(story.refused(redeem(1, 8)), bad);
    let short = Command::RedeemSecret {
        watcher: WatcherId::new(1),
        secret_hash: vec![7; 31],
        incarnation: Incarnation::new(1),
        at: at(31),
    };
    assert_eq!(story.refused(short), bad);
    let live = EventKind::WatcherLive { watcher: WatcherId::new(1), node: node_id("n1") };
    assert_eq!(story.tell(redeem(1, 7)), [live]);
    let watcher = story.watcher(1);
    assert_eq!((watcher.life, watcher.incarnation), (WatcherLife::Live, Some(Incarnation::new(5))));
    assert_eq!(watcher.secret_hash, None);
    assert_eq!(watcher.redeemed_hash, Some(vec![7; 32]));
    assert!(matches!(story.in_vain(redeem(1, 7)), Applied::Done { .. }), "the same life lost the first answer");
    let other_life = Command::RedeemSecret {
        watcher: WatcherId::new(1),
        secret_hash: vec![7; 32],
        incarnation: Incarnation::new(6),
        at: at(32),
    };
    assert_eq!(story.refused(other_life), bad, "to another life a used secret is worth nothing");
    assert_eq!(story.refused(redeem(1, 0)), bad, "and neither is the absence of one");
    assert_eq!(story.refused(redeem(9, 7)), DenyReason::UnknownWatcher(WatcherId::new(9)));
    story.tell(Command::LoseWatcher { watcher: WatcherId::new(1), reason: "silent".to_owned(), at: at(40) });
    assert_eq!(story.refused(redeem(1, 7)), bad, "a life that is over enrols no more");
}

#[test]
fn a_watcher_that_was_lost_before_it_came_up_cannot_come_up_any_more() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    story.tell(Command::LoseWatcher { watcher: WatcherId::new(1), reason: "boot budget".to_owned(), at: at(40) });
    assert_eq!(story.refused(redeem(1, 7)), DenyReason::BadSecret(WatcherId::new(1)));
}

#[test]
fn an_assignment_gets_a_new_generation_only_when_it_changes() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    let watcher = WatcherId::new(1);
    let assign = |vms: &[u128]| Command::AssignWatchers {
        assignments: vec![(watcher, vms.iter().map(|vm| vm_id(*vm)).collect())],
    };
    let generation = |applied: Applied| match applied {
        Applied::WatchersAssigned { generations, .. } => generations,
        other => panic!("{other:?}"),
    };
    assert_eq!(generation(story.apply(assign(&[2, 1])).0), [(watcher, AssignmentGeneration::new(1))]);
    assert_eq!(generation(story.in_vain(assign(&[1, 2, 1]))), [(watcher, AssignmentGeneration::new(1))]);
    assert_eq!(generation(story.apply(assign(&[1])).0), [(watcher, AssignmentGeneration::new(2))]);
    assert_eq!(story.watcher(1).vms, [vm_id(1)]);

    let unknown = Command::AssignWatchers { assignments: vec![(watcher, Vec::new()), (WatcherId::new(9), Vec::new())] };
    assert_eq!(story.refused(unknown), DenyReason::UnknownWatcher(WatcherId::new(9)));
    let many: Vec<u128> = (0..=GRANT_VMS_MAX as u128).collect();
    assert!(matches!(story.refused(assign(&many)), DenyReason::TooMany { .. }));
}

#[test]
fn a_watcher_goes_through_its_life_in_order() {
    let mut story = Story::begun();
    story.tell(place("n1", 7));
    story.tell(redeem(1, 7));
    let watcher = WatcherId::new(1);
    let lose = Command::LoseWatcher { watcher, reason: "silent".to_owned(), at: at(40) };
    let retire = Command::RetireWatcher { watcher, at: at(41) };
    let forget = Command::ForgetWatcher { watcher };

    assert!(matches!(story.tell(lose.clone()).as_slice(), [EventKind::WatcherLost { .. }]));
    story.in_vain(lose.clone());
    assert!(matches!(story.tell(retire.clone()).as_slice(), [EventKind::WatcherRetired { .. }]));
    story.in_vain(retire.clone());
    story.in_vain(lose.clone());
    assert_eq!(story.watcher(1).life, WatcherLife::Retired);
    assert_eq!(story.tell(forget.clone()), []);
    assert!(story.state.watchers().is_empty());
    for command in [lose, retire, forget] {
        assert_eq!(story.refused(command), DenyReason::UnknownWatcher(watcher));
    }
}

#[test]
fn a_probe_is_recorded_when_it_is_new_or_different() {
    let mut story = Story::begun();
    let record = |probe| Command::RecordProbe { probe, at: at(50) };
    assert_eq!(story.tell(record(probe())).len(), 1);
    story.in_vain(record(probe()));
    let newer = vouch_types::ProbeRecord { version: "0.2.0".to_owned(), ..probe() };
    assert_eq!(story.tell(record(newer)).len(), 1);
    assert_eq!(story.state.probes().len(), 1);
}

#[test]
fn the_ring_of_events_lets_go_of_the_oldest_and_says_so() {
    let mut story = Story::begun();
    let kept_before = story.state.events().len();
    let mut evicted = Vec::new();
    let flips = EVENTS_MAX - kept_before + 3;
    for flip in 0..flips {
        let state = if flip % 2 == 0 { VmState::Up } else { VmState::Degraded };
        let (_, changes) = story.apply(record_verdict(1, flip as u64, verdict(state), 60));
        evicted.extend(changes.evicted);
    }
    assert_eq!(story.state.events().len(), EVENTS_MAX);
    assert_eq!(evicted, [1, 2, 3].map(|index| (LogIndex::new(index), 0)), "the oldest three");
    let last = story.state.events().next_back().unwrap();
    let before_last = (LogIndex::new(last.index.get() - 1), 0);
    assert_eq!(story.state.events_after(before_last).collect::<Vec<_>>(), [last]);
    assert_eq!(story.state.events_after((LogIndex::default(), 0)).count(), EVENTS_MAX);
}
