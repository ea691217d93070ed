//! Incidents: one open per scope, each opened and closed once, and only so many kept.

use vouch_types::incident::{INCIDENT_NODES_MAX, INCIDENTS_KEPT};
use vouch_types::{Cause, Fault, IncidentChange, IncidentId, IncidentScope, IncidentWord};

use super::*;

fn scope(name: &str) -> IncidentScope {
    IncidentScope::Node(node_id(name))
}

fn word(reason: &str) -> IncidentWord {
    IncidentWord {
        fault: Fault::sure(Cause::Node),
        vms_touched: 2,
        nodes_touched: 1,
        nodes: vec![node_id("n1")],
        reason: reason.to_owned(),
    }
}

fn record(scope: &IncidentScope, word: Option<IncidentWord>, millis: u64) -> Command {
    Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: vec![IncidentChange { scope: scope.clone(), word }],
        placements: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        at: at(millis),
    }
}

#[test]
fn an_incident_opens_changes_and_closes_with_one_event_each() {
    let mut story = Story::begun();
    let n1 = scope("n1");
    let id = IncidentId::new(1);
    let opened = EventKind::IncidentOpened { incident: id, scope: n1.clone(), word: word("silent") };
    assert_eq!(story.tell(record(&n1, Some(word("silent")), 40)), [opened]);
    story.in_vain(record(&n1, Some(word("silent")), 41));
    let changed = EventKind::IncidentChanged { incident: id, scope: n1.clone(), word: word("off") };
    assert_eq!(story.tell(record(&n1, Some(word("off")), 42)), [changed]);
    let record_of = |story: &Story| (**story.state.incidents().get(&id).unwrap()).clone();
    assert_eq!((record_of(&story).opened, record_of(&story).closed), (at(40), None));
    assert_eq!(record_of(&story).opened_index, LogIndex::new(6));
    assert_eq!(story.tell(record(&n1, None, 50)), [EventKind::IncidentClosed { incident: id, scope: n1.clone() }]);
    story.in_vain(record(&n1, None, 51));
    assert_eq!((record_of(&story).closed, record_of(&story).word.reason), (Some(at(50)), "off".to_owned()));
    survives(&story.state);
}

#[test]
fn a_scope_that_breaks_again_is_another_incident_and_numbers_are_never_used_again() {
    let mut story = Story::begun();
    for number in 1..=3 {
        story.tell(record(&scope("n1"), Some(word("silent")), number));
        assert_eq!(story.state.open_incident(&scope("n1")).unwrap().id, IncidentId::new(number));
        assert_eq!(story.state.open_incident(&scope("n2")), None);
        story.tell(record(&scope("n1"), None, number));
    }
    assert_eq!(story.state.incidents().len(), 3);
    assert_eq!(story.state.open_incidents().count(), 0);
}

#[test]
fn an_incident_never_closes_before_it_opened() {
    let mut story = Story::begun();
    story.tell(record(&scope("n1"), Some(word("silent")), 1_000));
    story.tell(record(&scope("n1"), None, 400));
    assert_eq!(story.state.incidents()[&IncidentId::new(1)].closed, Some(at(1_000)));
}

#[test]
fn an_incident_names_so_many_nodes_and_its_reason_is_cut() {
    let mut story = Story::begun();
    let nodes: Vec<_> = (0..=INCIDENT_NODES_MAX).map(|n| node_id(&format!("n{n}"))).collect();
    let long = IncidentWord { nodes_touched: nodes.len() as u64, nodes, reason: "ü".repeat(200), ..word("") };
    story.tell(record(&scope("n1"), Some(long.clone()), 40));
    let kept = &story.state.incidents()[&IncidentId::new(1)].word;
    assert_eq!((kept.nodes.len(), kept.nodes_touched), (INCIDENT_NODES_MAX, INCIDENT_NODES_MAX as u64 + 1));
    assert_eq!(kept.reason, "ü".repeat(128));
    story.in_vain(record(&scope("n1"), Some(long), 41));
}

#[test]
fn only_so_many_incidents_are_kept_and_an_open_one_never_leaves() {
    let mut story = Story::begun();
    story.tell(record(&scope("n2"), Some(word("silent")), 1));
    for _ in 0..INCIDENTS_KEPT {
        story.tell(record(&scope("n1"), Some(word("silent")), 2));
        story.tell(record(&scope("n1"), None, 3));
    }
    assert_eq!(story.state.incidents().len(), INCIDENTS_KEPT);
    assert!(story.state.open_incident(&scope("n2")).is_some(), "the oldest is open");
    assert!(!story.state.incidents().contains_key(&IncidentId::new(2)), "the oldest closed one has left");
    let (_, changes) = story.apply(record(&scope("n1"), Some(word("silent")), 4));
    assert_eq!(changes.incidents.len(), 1);
    let (_, changes) = story.apply(record(&scope("n1"), None, 5));
    assert_eq!(changes.incidents.len(), 2, "the projection is told which one has left");
    survives(&story.state);
}

#[test]
fn incidents_are_told_before_the_verdicts_that_they_explain() {
    let mut story = Story::begun();
    let shared = Some(scope("n1"));
    let lost = vouch_types::VerdictChange { shared, ..change(1, 0, verdict(VmState::Lost)) };
    let (_, changes) = story.apply(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: vec![IncidentChange { scope: scope("n1"), word: Some(word("silent")) }],
        placements: Vec::new(),
        verdicts: vec![lost],
        paths: Vec::new(),
        manager_notes: None,
        at: at(40),
    });
    let told: Vec<bool> = changes.events.iter().map(|event| event.kind.is_notification()).collect();
    assert_eq!(told, [true, false], "one notification for both");
}
