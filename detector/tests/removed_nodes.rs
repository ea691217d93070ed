//! A node that an operator removes takes its VMs and watchers along, and says nothing of any other VM by that.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_types::{Advice, HypervisorState, Source, VmState};
use world::told::settled;
use world::{SimWorld, node};

const SECOND: Duration = Duration::from_secs(1);

/// Removes the second node as the replicated state does, with all that is recorded of it.
fn remove_second(w: &mut SimWorld) {
    w.change_records(|records| {
        if records.nodes[1].fence.is_some() {
            records.vms.iter_mut().for_each(|vm| vm.claimed_by.retain(|by| *by != node(1)));
        }
        records.nodes.retain(|entry| entry.node != node(1));
        records.vms.retain(|vm| vm.node != node(1));
        records.watchers.retain(|watcher| watcher.node != node(1));
        records.incidents.retain(|incident| !incident.scope.to_string().contains("n2"));
        records.manager_notes.retain(|note| note.node != node(1));
    });
    w.told.clear();
}

#[test]
fn nothing_is_told_of_a_removed_node_nor_of_its_vms_and_the_other_node_stays_as_it_was() {
    let mut w = settled();
    w.truth[1].power = false;
    w.run(SECOND * 8);
    assert_eq!((w.path(1).source, w.state(1)), (Source::Watcher, VmState::Lost));
    remove_second(&mut w);
    w.run(SECOND * 20);
    assert_eq!((w.records().nodes.len(), w.records().vms.len()), (1, 1), "nothing brings it back");
    assert_eq!((w.path(0).source, w.state(0)), (Source::Direct, VmState::Up));
    assert!(w.incidents().is_empty() && w.notes().is_empty(), "{:?} {:?}", w.incidents(), w.notes());
    assert_eq!(w.told, [], "nothing at all");
}

/// The second node says that it executes the first one's VM, and then both lose their power.
fn claimed_and_both_dark() -> SimWorld {
    let mut w = settled();
    w.truth[1].claims = Some(HypervisorState::Running);
    w.run(SECOND);
    w.truth[0].power = false;
    w.truth[1].power = false;
    w.run(SECOND * 8);
    w
}

#[test]
fn what_a_removed_node_claimed_to_execute_still_stands_against_a_start_elsewhere() {
    let mut w = claimed_and_both_dark();
    w.fence(0);
    w.run(SECOND * 2);
    assert_eq!((w.state(0), &w.verdict(0).advice), (VmState::Down, &Advice::Blocked), "the other one may be it");
    remove_second(&mut w);
    w.run(SECOND * 10);
    assert_eq!(w.verdict(0).advice, Advice::Blocked, "that it was removed proves nothing");
    w.restart_managers();
    w.run(SECOND * 20);
    assert_eq!(w.verdict(0).advice, Advice::Blocked, "nor do managers that never heard it");
}

#[test]
fn the_claim_of_a_node_that_was_proved_off_goes_with_it() {
    let mut w = claimed_and_both_dark();
    w.fence(1);
    w.fence(0);
    w.run(SECOND * 2);
    assert!(matches!(w.verdict(0).advice, Advice::SafeToRestart { .. }), "both are off: {:?}", w.verdict(0));
    remove_second(&mut w);
    w.run(SECOND * 10);
    assert!(matches!(w.verdict(0).advice, Advice::SafeToRestart { .. }), "{:?}", w.verdict(0));
}

#[test]
fn a_lost_vm_of_another_node_is_no_safer_to_start_once_a_node_is_removed() {
    let mut w = settled();
    w.truth[0].power = false;
    w.truth[1].power = false;
    w.run(SECOND * 8);
    assert_eq!(w.state(0), VmState::Lost);
    let before = w.verdict(0).advice.clone();
    assert!(matches!(before, Advice::FenceFirst { .. }), "{before:?}");
    remove_second(&mut w);
    w.run(SECOND * 20);
    assert_eq!((w.state(0), &w.verdict(0).advice), (VmState::Lost, &before));
}
