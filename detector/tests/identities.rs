//! Who answers at a VM's address: another machine there is not the VM, until it is said to be.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_types::VmState;
use world::SimWorld;
use world::told::{settled, states};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a world in which the first VM's service has told who it is, and that is pinned.
fn pinned() -> SimWorld {
    let mut w = settled();
    w.truth[0].who = Some(7);
    w.run(SECOND * 5);
    assert_eq!(pins(&w), [7]);
    assert_eq!(states(&w), []);
    w
}

fn pins(w: &SimWorld) -> Vec<u64> {
    w.records().vms[0].pins.iter().map(|pin| pin.identity.get()).collect()
}

fn faults(w: &SimWorld) -> Vec<String> {
    w.verdict(0).faults.iter().map(|fault| format!("{} {}", fault.top(), fault.detail)).collect()
}

#[test]
fn another_machine_at_the_address_is_told_once_and_the_vm_is_well_again_when_it_is_back() {
    let mut w = pinned();
    w.truth[0].who = Some(8);
    w.run(SECOND * 30);
    assert_eq!((w.state(0), faults(&w)), (VmState::Degraded, vec!["service(rdp) identity".to_owned()]));
    assert_eq!((states(&w), pins(&w)), (vec![VmState::Degraded], vec![7]), "once, and nobody takes its place");
    w.truth[0].who = Some(7);
    w.run(SECOND * 10);
    assert_eq!(states(&w), [VmState::Degraded, VmState::Up]);
}

#[test]
fn an_identity_that_is_forgotten_makes_room_for_the_one_that_answers() {
    let mut w = pinned();
    w.truth[0].who = Some(8);
    w.run(SECOND * 10);
    w.forget_pins(0);
    w.run(SECOND * 10);
    assert_eq!((states(&w), pins(&w)), (vec![VmState::Degraded, VmState::Up], vec![8]));
}

#[test]
fn an_answer_that_tells_no_identity_is_not_compared() {
    let mut w = pinned();
    w.truth[0].who = None;
    w.run(SECOND * 30);
    assert_eq!((states(&w), pins(&w)), (vec![], vec![7]));
}

#[test]
fn what_was_found_by_other_settings_is_not_pinned_by_these() {
    let mut w = pinned();
    // Until the watchers have run with the new settings, what they said last stands.
    w.truth[0].who = Some(9);
    w.change_settings(0, r#"{"nla": true, "identity": "name"}"#);
    w.run(SECOND * 10);
    assert_eq!((states(&w), pins(&w)), (vec![], vec![9]));
}
