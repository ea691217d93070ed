//! What outlives a leader, and all managers at once: hand-backs that count towards flapping, and boot budgets.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_types::{Advice, BootKind, HypervisorState, PauseReason, Progress, VmState};
use world::told::{recoveries, settled, states};
use world::{SimWorld, Told, node};

const SECOND: Duration = Duration::from_secs(1);

/// What people are notified of.
fn notices(w: &SimWorld) -> Vec<String> {
    let notice = |told: &Told| match told {
        Told::Incident { scope, opened, .. } => Some(format!("{scope} {opened}")),
        _ => None,
    };
    w.told.iter().filter_map(notice).collect()
}

/// Cuts the path for three seconds and heals it for two, as often as this; something happens in the middle of each cut.
fn flap(w: &mut SimWorld, times: u32, mut in_a_cut: impl FnMut(&mut SimWorld, u32)) {
    for time in 0..times {
        w.truth[0].paths = [false; 2];
        w.run(SECOND * 2);
        in_a_cut(w, time);
        w.run(SECOND);
        w.truth[0].paths = [true; 2];
        w.run(SECOND * 2);
    }
}

#[test]
fn row_37_with_a_leader_change_in_every_cut_is_one_incident_and_one_clear() {
    let mut w = settled();
    flap(&mut w, 8, |w, _| w.change_leader());
    assert_eq!(notices(&w), ["path to n1 true"], "{:?}", w.told);
    assert_eq!(recoveries(&w), 2, "and the others are part of it: {:?}", w.told);
    w.run(SECOND * 70);
    assert_eq!(notices(&w), ["path to n1 true", "path to n1 false"]);
}

#[test]
fn row_37_with_restarts_of_all_managers_is_one_incident_and_one_clear() {
    let mut w = settled();
    flap(&mut w, 12, |w, time| {
        if time % 3 == 2 {
            w.restart_managers();
        }
    });
    assert_eq!(notices(&w), ["path to n1 true"], "{:?}", w.told);
    assert_eq!(recoveries(&w), 2, "and the others are part of it: {:?}", w.told);
    w.run(SECOND * 70);
    assert_eq!(notices(&w), ["path to n1 true", "path to n1 false"]);
    assert_eq!(recoveries(&w), 3, "the last one ends it");
}

#[test]
fn a_flapping_path_is_clear_in_its_time_whenever_all_managers_start_again() {
    let mut w = settled();
    flap(&mut w, 3, |_, _| ());
    let before = w.now;
    w.run(SECOND * 30);
    w.restart_managers();
    w.run(SECOND * 20);
    assert_eq!(notices(&w), ["path to n1 true"], "not told as over because nobody remembered");
    while notices(&w).len() < 2 {
        w.run(SECOND);
        assert!(w.now.since(before) < SECOND * 100, "what was left is granted once more, and no longer: {:?}", w.told);
    }
}

#[test]
fn silence_that_is_told_is_neither_over_nor_told_again_when_all_managers_start_again() {
    for (dark, incident) in [(1..2, "node n2 true"), (0..2, "site true")] {
        let mut w = settled();
        dark.clone().for_each(|i| w.truth[i].power = false);
        w.run(SECOND * 10);
        assert_eq!(notices(&w), [incident], "{:?}", w.told);
        for _ in 0..3 {
            w.restart_managers();
            w.run(SECOND * 7);
        }
        assert_eq!(notices(&w), [incident], "{:?}", w.told);
        dark.for_each(|i| w.truth[i].power = true);
        w.run(SECOND * 15);
        assert_eq!(notices(&w), [incident.to_owned(), incident.replace("true", "false")], "{:?}", w.told);
    }
}

#[test]
fn a_loss_that_is_told_is_neither_over_nor_told_again_when_all_managers_start_again() {
    let mut w = settled();
    w.truth[0].beats_lost = Some(300);
    w.truth[1].beats_lost = Some(0);
    w.run(SECOND * 20);
    let before = w.told.clone();
    assert_eq!(w.top_causes(0), ["lossy_path"], "{before:?}");
    for _ in 0..3 {
        // Their meters are empty for longer than a path has to be well before that is told.
        w.restart_managers();
        w.run(SECOND * 10);
    }
    assert_eq!(w.told, before);
    w.truth[0].beats_lost = Some(0);
    w.run(SECOND * 10);
    assert_eq!(w.top_causes(0), [""; 0], "{:?}", w.told);
}

#[test]
fn a_lossy_network_is_one_incident_over_restarts_of_all_managers() {
    let mut w = settled();
    w.truth.iter_mut().for_each(|t| t.beats_lost = Some(300));
    w.run(SECOND * 20);
    assert_eq!(notices(&w), ["network management true"], "{:?}", w.told);
    for _ in 0..3 {
        w.restart_managers();
        w.run(SECOND * 10);
    }
    assert_eq!(notices(&w), ["network management true"], "{:?}", w.told);
    w.truth.iter_mut().for_each(|t| t.beats_lost = Some(0));
    w.run(SECOND * 10);
    assert_eq!(notices(&w), ["network management true", "network management false"], "{:?}", w.told);
}

/// A VM that resets and never answers again.
fn stuck_in_a_reboot() -> SimWorld {
    let mut w = settled();
    w.change_records(|records| records.vms[0].policy.boot_budget_ms = Some(40_000));
    w.truth[0].guest = false;
    w.truth[0].progress = Progress::Still;
    w.truth[0].word = Some(HypervisorState::Rebooting);
    w.run(SECOND * 2);
    w.truth[0].word = None;
    w.run(SECOND);
    assert_eq!(w.state(0), VmState::Rebooting);
    w
}

#[test]
fn row_11_a_boot_that_overruns_its_budget_over_restarts_is_hung_a_step_later_at_the_most() {
    let mut w = stuck_in_a_reboot();
    let began = w.now;
    assert_eq!(w.records().vms[0].boot.unwrap().kind, BootKind::Reboot);
    for _ in 0..3 {
        w.run(SECOND * 11);
        w.restart_managers();
    }
    assert_eq!(states(&w), [VmState::Rebooting], "{:?}", w.told);
    while w.state(0) != VmState::Hung {
        w.run(SECOND);
        // 40 s, a step of 10 s for what was not recorded at each restart, and the time of a hang.
        assert!(w.now.since(began) < SECOND * 60, "{:?} {:?}", w.told, w.records().vms[0].boot);
    }
    assert_eq!(w.records().vms[0].boot.unwrap().left, Duration::ZERO);
    w.restart_managers();
    w.run(SECOND * 20);
    assert_eq!(states(&w), [VmState::Rebooting, VmState::Hung], "and stays so: {:?}", w.told);
}

#[test]
fn a_reboot_that_ends_leaves_nothing_behind_and_one_that_all_managers_missed_is_none() {
    let mut w = stuck_in_a_reboot();
    w.run(SECOND * 5);
    w.restart_managers();
    w.run(SECOND * 5);
    w.truth[0].guest = true;
    w.truth[0].progress = Progress::Working;
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.records().vms[0].boot), (VmState::Up, None));
    assert_eq!(states(&w), [VmState::Rebooting, VmState::Up], "{:?}", w.told);
}

#[test]
fn row_8_a_guest_that_hangs_stays_hung_when_all_managers_start_again() {
    let mut w = settled();
    w.truth[0].guest = false;
    w.truth[0].progress = Progress::Still;
    w.run(SECOND * 8);
    w.restart_managers();
    w.run(SECOND * 20);
    assert_eq!(states(&w), [VmState::Hung], "{:?}", w.told);
    w.restart_managers();
    w.truth[0].guest = true;
    w.truth[0].progress = Progress::Working;
    w.run(SECOND * 3);
    assert_eq!(states(&w), [VmState::Hung, VmState::Up], "a sign of life counts at once: {:?}", w.told);
}

#[test]
fn a_node_that_executed_a_vm_when_it_was_last_heard_stands_against_a_start_elsewhere_after_a_restart_of_all_managers() {
    let mut w = settled();
    w.truth[1].claims = Some(HypervisorState::Running);
    w.run(SECOND * 2);
    assert_eq!(w.records().vms[0].claimed_by, [node(1)]);
    w.truth[0].power = false;
    w.truth[1].power = false;
    w.run(SECOND * 8);
    w.restart_managers();
    w.run(SECOND * 10);
    w.fence(0);
    w.run(SECOND * 4);
    assert_eq!((w.state(0), &w.verdict(0).advice), (VmState::Down, &Advice::Blocked), "it may run on the other");
    w.fence(1);
    w.run(SECOND * 4);
    assert!(matches!(w.verdict(0).advice, Advice::SafeToRestart { .. }), "both are off: {:?}", w.verdict(0));
}

#[test]
fn what_a_node_says_of_itself_rules_over_what_is_remembered_of_it() {
    let mut w = settled();
    w.truth[1].claims = Some(HypervisorState::Running);
    w.run(SECOND * 2);
    w.truth[1].power = false;
    w.run(SECOND * 8);
    w.restart_managers();
    w.run(SECOND * 4);
    assert_eq!(w.records().vms[0].claimed_by, [node(1)], "it is still silent");
    // It comes back, and has it no more.
    w.truth[1].claims = None;
    w.truth[1].power = true;
    w.run(SECOND * 10);
    assert!(w.records().vms[0].claimed_by.is_empty());
    assert_eq!((w.state(0), &w.verdict(0).advice), (VmState::Up, &Advice::None));
}

#[test]
fn a_migration_that_takes_its_course_records_no_claim() {
    let mut w = settled();
    w.truth[1].claims = Some(HypervisorState::Paused(PauseReason::Migration));
    w.run(SECOND * 5);
    assert!(w.records().vms[0].claimed_by.is_empty(), "what is paused executes nowhere");
}
