//! What no VM shows: a node that has none and loses its power or its agent, and a manager whose disk is full (row 35).

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_detector::DiskWord;
use vouch_types::{ExitReason, HypervisorState, Source};
use world::told::settled;
use world::{SimWorld, node};

const SECOND: Duration = Duration::from_secs(1);

/// A world whose second node has given its VM to the first one.
fn with_an_empty_node() -> SimWorld {
    let mut w = settled();
    w.truth[1].word = Some(HypervisorState::Gone(ExitReason::Process));
    w.truth[0].claims = Some(HypervisorState::Running);
    w.run(SECOND * 6);
    assert_eq!(*w.owner(1), node(0), "it has migrated");
    assert!(w.incidents().is_empty(), "{:?}", w.incidents());
    // A new assignment of the watcher on the other node, as placement makes one after a migration.
    w.change_records(|records| records.watchers[0].vms.reverse());
    w.told.clear();
    w
}

fn causes(w: &SimWorld) -> Vec<String> {
    w.path(1).faults.iter().map(|fault| fault.top().to_string()).collect()
}

#[test]
fn an_empty_node_that_loses_its_power_is_one_incident_that_touches_no_vm() {
    let mut w = with_an_empty_node();
    w.truth[1].power = false;
    w.run(SECOND * 5);
    assert_eq!((w.path(1).source, causes(&w)), (Source::Watcher, vec!["node".to_owned()]));
    let word = w.records().incidents.iter().find(|incident| incident.scope.to_string() == "node n2").unwrap();
    assert_eq!((word.word.vms_touched, word.word.nodes_touched), (0, 1));
    let scores: Vec<u8> = word.word.fault.causes.iter().map(|cause| cause.score).collect();
    assert!(scores[0] < 50, "nobody elsewhere looks at it, so this is not sure: {scores:?}");
    w.truth[1].power = true;
    w.run(SECOND * 6);
    assert_eq!((w.path(1).source, w.incidents()), (Source::Direct, vec![]), "{:?}", w.told);
}

#[test]
fn an_empty_node_whose_agent_dies_is_told_by_the_watcher_on_it() {
    let mut w = with_an_empty_node();
    w.truth[1].agent = false;
    w.run(SECOND * 2);
    assert_eq!((w.path(1).source, causes(&w)), (Source::Watcher, vec!["node_agent".to_owned()]));
    w.run(SECOND * 5);
    assert!(w.incidents().is_empty(), "the node lives: {:?}", w.incidents());
}

#[test]
fn row_35_a_full_disk_of_another_manager_is_one_incident_until_it_has_room() {
    let mut w = settled();
    w.tell_disk(DiskWord::Low);
    w.run(SECOND * 2);
    assert_eq!(w.incidents(), ["manager m2: manager disk full"]);
    w.tell_disk(DiskWord::Enough);
    w.run(SECOND * 3);
    w.run(SECOND * 3);
    assert_eq!(w.incidents(), Vec::<String>::new());
    let opened: Vec<_> = w.told.iter().map(|told| format!("{told:?}")).collect();
    assert_eq!(opened.len(), 2, "opened and closed, and nothing else: {opened:?}");
}

#[test]
fn a_manager_that_is_removed_takes_its_full_disk_along() {
    let mut w = settled();
    w.tell_disk(DiskWord::Low);
    w.run(SECOND * 2);
    w.change_records(|records| records.managers.retain(|manager| manager.get() != 2));
    w.other_manager = false;
    w.run(SECOND * 8);
    assert_eq!(w.incidents(), Vec::<String>::new());
    w.tell_disk(DiskWord::Low);
    w.run(SECOND * 4);
    assert_eq!(w.incidents(), Vec::<String>::new(), "who is no member is not believed");
}
