//! The story of a VM: what belongs to it, and what does not.

use std::sync::Arc;

use vouch_types::{Command, Generation, IncidentChange, LogIndex, PlacementChange};

use super::*;
use crate::store::tests::samples::*;

/// Applies commands one after the other.
fn state_after(commands: impl IntoIterator<Item = Command>) -> State {
    let mut state = State::default();
    for (index, command) in (1..).zip(commands) {
        state.apply(LogIndex::new(index), command);
    }
    state
}

fn moved(number: u128, replaces: u64, to: &str, millis: u64) -> Command {
    let change = PlacementChange { vm: vm_id(number), replaces: Generation::new(replaces), to: node_id(to) };
    Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        incidents: Vec::new(),
        placements: vec![change],
        at: at(millis),
    }
}

fn incident(scope: IncidentScope, word: Option<IncidentWord>) -> Command {
    Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        incidents: vec![IncidentChange { scope, word }],
        placements: Vec::new(),
        at: at(70),
    }
}

/// The kinds of the events of a VM's story, each with its log index.
fn told(state: &State, number: u128) -> Vec<(u64, String)> {
    let kind = |event: &EventRecord| serde_json::to_value(&event.kind).unwrap()["kind"].as_str().unwrap().to_owned();
    trace(state, vm_id(number)).unwrap().into_iter().map(|event| (event.index.get(), kind(event))).collect()
}

#[test]
fn what_happens_to_a_node_is_told_for_as_long_as_the_vm_is_there() {
    use vouch_types::Source::Watcher;
    let mut commands =
        vec![init(), record_node("n1"), record_node("n2"), record_vms("n1", &[1]), record_vms("n2", &[2])];
    commands.push(record_path("n2", 0, Watcher, vec![cut()], 40)); // 6
    commands.push(record_path("n1", 0, Watcher, vec![cut()], 41)); // 7
    commands.push(moved(1, 1, "n2", 42)); // 8
    commands.push(record_path("n1", 1, vouch_types::Source::Direct, Vec::new(), 43)); // 9
    commands.push(record_path("n2", 1, vouch_types::Source::Direct, Vec::new(), 44)); // 10
    let expected =
        [(2, "node_joined"), (4, "vm_registered"), (7, "path_changed"), (8, "vm_moved"), (10, "path_recovered")];
    let state = state_after(commands);
    assert_eq!(told(&state, 1), expected.map(|(index, kind)| (index, kind.to_owned())));
}

#[test]
fn an_incident_that_touched_the_vm_once_is_told_to_its_end() {
    let word = |nodes: &[&str]| IncidentWord {
        fault: cut(),
        vms_touched: 1,
        nodes_touched: nodes.len() as u64,
        nodes: nodes.iter().map(|name| node_id(name)).collect(),
        reason: String::new(),
    };
    let scope = IncidentScope::Network(vouch_types::Network::Service);
    let state = state_after([
        init(),
        record_node("n1"),
        record_node("n2"),
        record_vms("n1", &[1]),
        record_vms("n2", &[2]),
        incident(scope.clone(), Some(word(&["n2"]))),       // 6
        incident(scope.clone(), Some(word(&["n1", "n2"]))), // 7
        incident(scope.clone(), Some(word(&["n2"]))),       // 8
        incident(scope, None),                              // 9
    ]);
    let after =
        |number| told(&state, number).into_iter().map(|(index, _)| index).filter(|i| *i > 5).collect::<Vec<_>>();
    assert_eq!(after(1), [7, 8, 9]);
    assert_eq!(after(2), [6, 7, 8, 9]);
}

#[test]
fn the_story_of_a_vm_that_is_gone_is_still_told() {
    let state = state_after([init(), record_node("n1"), record_vms("n1", &[1]), record_vms("n1", &[])]);
    let kinds: Vec<_> = told(&state, 1).into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, ["node_joined", "vm_registered", "vm_removed"]);
    assert_eq!(trace(&state, vm_id(99)), None);
}

#[test]
fn a_manager_that_does_not_hear_the_node_is_told_when_that_begins_and_ends() {
    let notes = |names: &[&str]| Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: Some(
            names
                .iter()
                .map(|name| vouch_types::event::ManagerNote {
                    manager: vouch_types::ManagerId::new(2),
                    node: node_id(name),
                })
                .collect(),
        ),
        incidents: Vec::new(),
        placements: Vec::new(),
        at: at(40),
    };
    let state = state_after([
        init(),
        record_node("n1"),
        record_node("n2"),
        record_vms("n1", &[1]),
        notes(&["n2"]),       // 5
        notes(&["n1", "n2"]), // 6
        notes(&["n2"]),       // 7
        notes(&[]),           // 8
    ]);
    let indices: Vec<_> = told(&state, 1).into_iter().map(|(index, _)| index).filter(|i| *i > 4).collect();
    assert_eq!(indices, [6, 7]);
}

#[test]
fn a_place_in_the_story_is_a_time_ago_a_time_of_day_or_a_position() {
    let event = Arc::new(EventRecord {
        index: LogIndex::new(7),
        ordinal: 1,
        at: at(600_000),
        kind: EventKind::ClusterInitialised,
    });
    let now = at(1_200_000);
    for (text, reached, passed) in [
        ("10m", true, false),
        ("599s", false, false),
        ("601s", true, true),
        ("1970-01-01T00:10:00Z", true, false),
        ("1970-01-01T00:09:59Z", true, true),
        ("7.1", true, false),
        ("7.0", true, true),
        ("7.2", false, false),
    ] {
        let when = When::parse(text).unwrap();
        assert_eq!((when.is_reached(&event, now), when.is_passed(&event, now)), (reached, passed), "{text}");
    }
    assert!(When::parse("soon").unwrap_err().contains("10m"));
}
