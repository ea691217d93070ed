//! The rows of the fault table that one detector can show, each by its number, against a world with a truth.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_types::{Source, VmState};
use world::{NodeTruth, SimWorld, Told, watcher};

const SECOND: Duration = Duration::from_secs(1);

/// A world that has run for long enough to be judged.
fn settled() -> SimWorld {
    let mut w = SimWorld::new();
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Up; 2]);
    assert_eq!(w.path(0).source, Source::Direct);
    w.told.clear();
    w
}

fn states(w: &SimWorld) -> Vec<VmState> {
    let mut out = vec![];
    for t in &w.told {
        if let Told::State { to, .. } = t {
            out.push(*to);
        }
    }
    out
}

fn recoveries(w: &SimWorld) -> usize {
    w.told.iter().filter(|t| matches!(t, Told::Path { recovered: true, .. })).count()
}

#[test]
fn row_1_a_cut_path_between_agent_and_managers() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 2);
    assert_eq!(w.path(0).source, Source::Watcher);
    assert_eq!(w.top_causes(0), ["manager_node_path"]);
    w.run(SECOND * 30);
    w.truth[0].paths = [true; 2];
    w.run(SECOND);
    assert_eq!(w.path(0).source, Source::Direct);
    w.run(SECOND * 10);
    assert_eq!(states(&w), [], "the state never changed");
    assert_eq!(recoveries(&w), 1);
    assert_eq!(w.told.len(), 2, "one event for the cut, one for the heal: {:?}", w.told);
}

#[test]
fn row_2_one_manager_that_cannot_hear_the_node() {
    let mut w = settled();
    w.truth[0].paths = [false, true];
    w.run(SECOND * 8);
    assert_eq!(w.path(0).source, Source::Direct);
    assert_eq!(w.notes(), ["m1 n1"]);
    assert_eq!(w.told, []);
    w.truth[0].paths = [true; 2];
    w.run(SECOND * 2);
    assert_eq!(w.notes(), [""; 0]);
}

#[test]
fn a_manager_that_died_is_not_called_deaf() {
    let mut w = settled();
    w.other_manager = false;
    for _ in 0..200 {
        w.run(Duration::from_millis(50));
        assert_eq!(w.notes(), [""; 0]);
    }
}

#[test]
fn row_3_a_killed_node_agent() {
    let mut w = settled();
    w.truth[0].agent = false;
    w.run(SECOND * 2);
    assert_eq!((w.state(0), w.path(0).source), (VmState::Up, Source::Watcher));
    assert_eq!(w.top_causes(0), ["node_agent"]);
    w.run(SECOND * 30);
    assert_eq!(states(&w), []);
}

#[test]
fn row_6_a_qemu_process_that_dies() {
    let mut w = settled();
    w.truth[0].vm = false;
    w.run(SECOND);
    assert_eq!(w.state(0), VmState::Down);
    assert_eq!(w.top_causes(0), ["vm_process"]);
}

#[test]
fn row_6_during_a_cut_is_proved_by_a_statement() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Down);
    assert_eq!(w.top_causes(0), ["manager_node_path", "vm_process"]);
}

#[test]
fn row_12_a_pulled_cable_during_a_cut_is_never_down() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    w.truth[0].cable = false;
    w.run(SECOND * 15);
    assert_eq!(w.state(0), VmState::Degraded);
    assert!(!states(&w).contains(&VmState::Down) && !states(&w).contains(&VmState::Lost), "{:?}", w.told);
}

#[test]
fn row_14_a_stopped_service() {
    let mut w = settled();
    w.truth[0].rdp = false;
    w.run(SECOND * 3);
    assert_eq!(w.state(0), VmState::Degraded);
    assert_eq!(w.top_causes(0), ["service(rdp)"]);
    w.truth[0].rdp = true;
    w.run(SECOND * 3);
    assert_eq!(w.state(0), VmState::Up);
}

#[test]
fn row_18_a_node_that_loses_power() {
    let mut w = settled();
    w.truth[0].power = false;
    w.run(SECOND * 5);
    assert_eq!(w.state(0), VmState::Lost);
    assert_eq!(w.top_causes(0), ["node"]);
    assert_eq!(w.state(1), VmState::Up);
    w.run(SECOND * 30);
    assert_eq!(states(&w), [VmState::Lost]);
}

#[test]
fn row_25_a_watcher_that_dies() {
    let mut w = settled();
    w.truth[1].watcher = false;
    w.run(SECOND * 3);
    assert!(matches!(w.told[..], [Told::WatcherLost { watcher: lost, .. }] if lost == watcher(1)), "{:?}", w.told);
}

#[test]
fn a_statement_from_before_the_last_report_proves_nothing() {
    let mut w = settled();
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Down);
    w.truth[0].vm = true;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Up);
    w.truth[0].paths = [false; 2];
    w.replay_statements = true;
    w.run(SECOND * 10);
    assert_eq!(w.state(0), VmState::Up, "{:?}", w.told);
}

#[test]
fn a_watcher_that_runs_and_is_silent_is_given_time() {
    let mut w = settled();
    w.truth[1].watcher_heard = false;
    w.run(SECOND * 10);
    assert_eq!(w.told, [], "a slow watcher is not replaced: that would be more load on a host that has too much");
    w.run(SECOND * 8);
    assert!(matches!(w.told[..], [Told::WatcherLost { watcher: lost, .. }] if lost == watcher(1)), "{:?}", w.told);
}

#[test]
fn what_a_watcher_saw_before_it_was_lost_still_counts() {
    let mut w = settled();
    w.truth[1].agent = false;
    w.run(Duration::from_millis(50));
    w.truth[1].watcher = false;
    w.run(Duration::from_millis(2_500));
    w.truth[0].watcher = false;
    w.run(Duration::from_millis(1_950));
    assert!(!states(&w).contains(&VmState::Lost), "seen less than a window ago: {:?}", w.told);
}

#[test]
fn row_28_a_new_leader_during_a_cut_says_the_same() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    let before = w.told.clone();
    w.change_leader();
    w.run(SECOND * 5);
    assert_eq!(w.told, before);
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    assert_eq!(w.state(0), VmState::Down);
}

#[test]
fn a_new_leader_keeps_a_verdict_that_rests_on_a_statement() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    w.truth[0].vm = false;
    w.run(SECOND * 2);
    let before = w.told.clone();
    w.change_leader();
    w.run(SECOND * 10);
    assert_eq!(w.told, before, "the word from before the cut must not make it up again");
}

#[test]
fn row_39_and_37_hand_back_follows_at_once_and_flapping_is_told_once() {
    let mut w = settled();
    for _ in 0..10 {
        w.truth[0].paths = [false; 2];
        w.run(SECOND * 4);
        w.truth[0].paths = [true; 2];
        w.run(SECOND);
        assert_eq!(w.path(0).source, Source::Direct, "within a second of the heal");
        w.run(SECOND * 2);
    }
    assert_eq!(recoveries(&w), 2, "{:?}", w.told);
    w.run(SECOND * 70);
    assert_eq!(recoveries(&w), 3, "one clear when it has been stable for a minute");
    assert_eq!(w.path(0).faults, []);
    assert_eq!(states(&w), []);
}

#[test]
fn row_41_a_dead_management_uplink() {
    let mut w = settled();
    w.truth[0].uplink = false;
    w.run(SECOND * 2 + Duration::from_millis(100));
    assert_eq!((w.state(0), w.path(0).source), (VmState::Up, Source::Watcher));
    assert_eq!(w.top_causes(0), ["node_uplink(management)"]);
    w.run(SECOND * 30);
    w.truth[0].uplink = true;
    w.run(SECOND * 5);
    assert_eq!(states(&w), []);
    assert_eq!(recoveries(&w), 1);
}

#[test]
fn a_world_that_is_well_says_nothing() {
    let mut w = settled();
    w.run(SECOND * 120);
    assert_eq!(w.told, []);
    assert_eq!(w.truth, [NodeTruth::WELL; 2]);
}
