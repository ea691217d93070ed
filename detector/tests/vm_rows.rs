//! The rows of the fault table that strike one VM, as one detector can show them, each by its number, against a world with a truth.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_types::{
    ExitReason, HypervisorState, Operation, PauseReason, ProbeAssignment, ProbeTimes, Progress, VmState,
};
use world::told::{settled, states};
use world::{NodeTruth, node};

const SECOND: Duration = Duration::from_secs(1);

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
fn row_7_a_kernel_panic_with_and_without_a_panic_device() {
    let mut w = settled();
    w.truth[0].word = Some(HypervisorState::Panicked);
    w.run(SECOND);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Down, vec!["guest_os".to_owned()]));
    let mut w = settled();
    w.truth[0].guest = false;
    w.truth[0].progress = Progress::Still;
    w.run(SECOND * 8);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Hung, vec!["guest_os".to_owned()]));
}

#[test]
fn row_8_a_guest_that_hangs_and_comes_back() {
    for stuck in [Progress::Still, Progress::Spinning] {
        let mut w = settled();
        w.truth[0].guest = false;
        w.truth[0].progress = stuck;
        w.run(SECOND * 8);
        assert_eq!(states(&w), [VmState::Hung], "and nothing else on the way: {:?}", w.told);
        w.run(SECOND * 5);
        assert_eq!(w.verdict(0).advice.as_str(), "restart", "once it has lasted");
        w.truth[0].guest = true;
        w.truth[0].progress = Progress::Working;
        w.run(SECOND * 3);
        assert_eq!((w.state(0), w.verdict(0).advice.as_str()), (VmState::Up, "none"));
    }
}

#[test]
fn row_8_a_guest_that_hangs_during_a_cut() {
    let mut w = settled();
    w.truth[0].paths = [false; 2];
    w.run(SECOND * 4);
    w.truth[0].guest = false;
    w.truth[0].progress = Progress::Still;
    w.run(SECOND * 10);
    assert_eq!(w.state(0), VmState::Hung, "{:?}", w.told);
}

#[test]
fn row_9_one_vm_paused_by_an_io_error() {
    let mut w = settled();
    w.truth[0].word = Some(HypervisorState::Paused(PauseReason::IoError));
    w.run(SECOND);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Paused, vec!["storage".to_owned()]));
    assert_eq!(w.verdict(0).advice.as_str(), "none");
}

#[test]
fn row_10_a_pause_and_a_snapshot_raise_no_alarm() {
    let mut w = settled();
    w.truth[0].word = Some(HypervisorState::Paused(PauseReason::Operator));
    w.truth[0].guest = false;
    w.run(SECOND * 20);
    assert_eq!(states(&w), [VmState::Paused]);
    w.truth[0].word = None;
    w.run(Duration::from_millis(300));
    w.truth[0].guest = true;
    w.run(SECOND * 20);
    assert_eq!(states(&w), [VmState::Paused, VmState::Up], "what failed meanwhile is forgotten: {:?}", w.told);
    w.truth[0].operation = Some(Operation::Snapshot);
    w.truth[0].guest = false;
    w.truth[0].progress = Progress::Still;
    w.run(SECOND * 15);
    assert_eq!((w.state(0), w.verdict(0).suppressed.as_str()), (VmState::Up, "snapshot"));
    w.truth[0] = NodeTruth::WELL;
    w.run(SECOND * 10);
    assert_eq!(states(&w), [VmState::Paused, VmState::Up]);
    assert_eq!(w.verdict(0).suppressed, "");
}

#[test]
fn row_10_a_migration_is_followed() {
    let mut w = settled();
    w.truth[0].operation = Some(Operation::Migration);
    w.truth[1].claims = Some(HypervisorState::Paused(PauseReason::Migration));
    w.run(SECOND * 4);
    w.truth[0].word = Some(HypervisorState::Paused(PauseReason::Migration));
    w.truth[1].claims = Some(HypervisorState::Running);
    w.run(SECOND * 5);
    assert_eq!(*w.owner(0), node(1));
    w.truth[0].word = Some(HypervisorState::Gone(ExitReason::Process));
    w.truth[0].operation = None;
    w.run(SECOND * 10);
    assert_eq!(w.state(0), VmState::Up);
    assert_eq!(states(&w), [], "a migration is no news: {:?}", w.told);
}

#[test]
fn row_11_a_reboot_from_inside_and_one_that_never_ends() {
    let mut w = settled();
    w.truth[0].word = Some(HypervisorState::Rebooting);
    w.truth[0].guest = false;
    w.run(SECOND * 2);
    w.truth[0].word = None;
    w.run(SECOND * 40);
    assert_eq!(states(&w), [VmState::Rebooting]);
    w.truth[0].guest = true;
    w.run(SECOND * 3);
    assert_eq!(states(&w), [VmState::Rebooting, VmState::Up]);
    w.told.clear();
    w.truth[0].word = Some(HypervisorState::Rebooting);
    w.truth[0].guest = false;
    w.run(SECOND * 2);
    w.truth[0].word = None;
    w.run(SECOND * 150);
    assert_eq!(states(&w), [VmState::Rebooting, VmState::Hung]);
    assert_eq!(w.top_causes(0), ["guest_os"]);
}

#[test]
fn row_14_is_told_though_a_silent_watcher_last_saw_the_service_work() {
    let mut w = settled();
    w.truth[1].watcher_heard = false;
    w.run(Duration::from_millis(200));
    w.truth[0].rdp = false;
    w.run(SECOND * 8);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Degraded, vec!["service(rdp)".to_owned()]));
}

#[test]
fn row_15_a_service_that_accepts_and_stays_silent() {
    let mut w = settled();
    w.truth[0].wedged = true;
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Degraded, vec!["service(rdp)".to_owned()]));
}

#[test]
fn row_16_a_guest_agent_that_stops_is_a_note() {
    let mut w = settled();
    w.truth[0].guest_agent = false;
    w.run(SECOND * 10);
    assert_eq!((w.state(0), states(&w)), (VmState::Up, vec![]));
    assert_eq!(w.verdict(0).notes[0].top().to_string(), "guest_agent");
    w.truth[0].guest_agent = true;
    w.run(SECOND * 5);
    assert_eq!(w.verdict(0).notes, []);
}

#[test]
fn row_40_a_monitor_that_is_silent_for_one_vm() {
    let mut w = settled();
    w.truth[0].word = Some(HypervisorState::Unknown);
    w.run(SECOND * 3);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Up, vec!["node_vm_path".to_owned()]));
}

#[test]
fn a_vm_that_two_nodes_execute_is_a_conflict_until_one_stops() {
    let mut w = settled();
    w.truth[1].claims = Some(HypervisorState::Running);
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.verdict(0).advice.as_str()), (VmState::Conflict, "blocked"));
    w.truth[1].claims = None;
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.verdict(0).advice.as_str()), (VmState::Up, "none"));
}

#[test]
fn maintenance_says_nothing_against_a_vm_and_why() {
    let mut w = settled();
    w.change_records(|records| "maintenance x1: new disks".clone_into(&mut records.vms[0].maintenance));
    w.truth[0].rdp = false;
    w.run(SECOND * 10);
    assert_eq!((w.state(0), w.verdict(0).suppressed.as_str()), (VmState::Up, "maintenance x1: new disks"));
    w.change_records(|records| records.vms[0].maintenance.clear());
    w.run(SECOND * 5);
    assert_eq!((w.state(0), w.top_causes(0)), (VmState::Degraded, vec!["service(rdp)".to_owned()]));
}

#[test]
fn who_asks_for_a_fresh_look_waits_until_a_silent_vms_probes_give_up() {
    let timing = vouch_types::Timing::default();
    let slack = timing.tick_interval * 2;
    let mut w = settled();
    assert_eq!(w.check(0), [timing.probe_timeout + slack; 2]);
    w.change_records(|records| records.vms[0].policy.probe_timeout_ms = Some(3_000));
    assert_eq!(w.check(0), [SECOND * 3 + slack; 2]);
}

#[test]
fn times_of_probes_that_nobody_should_have_recorded_overflow_nothing() {
    for (by_policy, longest) in
        [(true, Duration::MAX), (false, Duration::MAX), (false, Duration::from_secs(u64::MAX / 2))]
    {
        let mut w = settled();
        w.change_records(|records| {
            let vm = &mut records.vms[0];
            if by_policy {
                vm.policy.probe_interval_ms = Some(u64::MAX);
                vm.policy.probe_timeout_ms = Some(u64::MAX);
            }
            let times = |probe: &ProbeAssignment| ProbeTimes {
                probe: probe.probe.clone(),
                network: probe.network,
                interval: Some(longest),
                timeout: Some(longest),
            };
            vm.probe_times = if by_policy { Vec::new() } else { vm.probes.iter().map(times).collect() };
        });
        w.run(SECOND * 5);
        assert!(w.check(0).iter().all(|deadline| *deadline < SECOND * 7), "nobody waits for that");
        w.truth[0].power = false;
        w.run(SECOND * 30);
        assert_eq!(w.state(1), VmState::Up);
    }
}
