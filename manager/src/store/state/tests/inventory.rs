//! Nodes and VMs: recorded as they are described, and nothing that was proven is lost or kept too long.

use vouch_types::command::CHANGES_MAX;
use vouch_types::vm::{ADDRESSES_MAX, PROBES_PER_VM_MAX};
use vouch_types::{BootId, Incarnation, Network, Source, VerdictVersion};

use super::*;

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
