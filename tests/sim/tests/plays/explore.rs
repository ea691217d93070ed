//! Schedules of several faults at once, drawn from fixed seeds, against the invariants; and that a lie is found out.

use std::sync::Arc;
use std::time::Duration;

use vouch_sim::cluster::commands::explore;
use vouch_sim::cluster::host::{VmNo, vm};
use vouch_sim::cluster::invariants::{Invariant, check};
use vouch_sim::cluster::oracle::{Replay, examine};
use vouch_sim::cluster::play::{Run, play};
use vouch_sim::cluster::row::Row;
use vouch_sim::cluster::schedule::Schedule;
use vouch_sim::cluster::trial::AFTER_HEAL;
use vouch_sim::cluster::world::Size;
use vouch_types::{Advice, Cause, EventKind, EventRecord, Fault, LogIndex, VmState};

/// What is explored on every change; `cargo xtask sim explore --seeds A..B` plays more.
const SEEDS: std::ops::Range<u64> = 1..25;

#[test]
fn no_schedule_of_the_fixed_seeds_breaks_an_invariant() {
    let breaches = explore(&SEEDS.collect::<Vec<_>>());
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// A cluster that calls a VM of any node whose path is cut dead, as a system would that takes silence for death.
fn lying(seed: u64, schedule: &Schedule) -> Run {
    let mut run = play(seed, schedule, Size::default(), AFTER_HEAL);
    let cut = run.record.events.iter().find(|told| {
        matches!(&told.event.kind, EventKind::PathChanged { faults, .. } if faults.iter().any(|f| *f.top() == Cause::ManagerNodePath))
    });
    if let Some(mut told) = cut.cloned() {
        told.event = EventRecord {
            index: LogIndex::new(u64::MAX),
            kind: EventKind::VmStateChanged {
                vm: vm(1),
                from: VmState::Up,
                to: VmState::Down,
                faults: vec![Fault::sure(Cause::Node)],
                advice: Advice::None,
                reason: "its node is silent".to_owned(),
                shared: None,
                cleared: Vec::new(),
            },
            ..told.event
        };
        run.record.events.push(told);
    }
    run
}

#[test]
fn a_lie_is_found_shrunk_to_its_one_fault_and_replayed_by_the_printed_command() {
    let schedule: Schedule = "14:v4@300+6000,1:n1@1500+9000,17:v8@4000+5000".parse().unwrap();
    let breaches = examine(&lying, 11, &schedule, Replay::Once);
    let breach = breaches.iter().find(|b| b.violation.invariant == Invariant::I1).unwrap();
    assert_eq!(breach.least.0.len(), 1, "{breach}");
    assert_eq!(breach.least.0[0].fault.row, Row::PathCut, "{breach}");
    assert!(breach.least.0[0].lasts < Duration::from_secs(9), "{breach}");

    let command = breach.command();
    assert!(command.starts_with("cargo xtask sim run --seed 11 --schedule 1:n1@"), "{command}");
    let printed: Schedule = command.rsplit(' ').next().unwrap().parse().unwrap();
    let again = check(&lying(11, &printed));
    assert!(again.contains(&breach.violation), "the replay is exact: {again:?}");
    assert!(check(&play(11, &printed, Size::default(), AFTER_HEAL)).is_empty(), "the truth breaks nothing");
}

#[test]
fn a_state_of_the_future_is_no_proof() {
    let schedule: Schedule = "6:v1@4000+6000".parse().unwrap();
    let mut run = play(5, &schedule, Size::default(), AFTER_HEAL);
    assert_eq!(check(&run), []);
    let first_down = run
        .record
        .events
        .iter_mut()
        .find(|told| matches!(told.event.kind, EventKind::VmStateChanged { to: VmState::Down, .. }));
    first_down.unwrap().at = Duration::from_secs(1);
    let broken = check(&run);
    assert!(broken.iter().any(|v| v.invariant == Invariant::I1), "down three seconds before it died: {broken:?}");
}

#[test]
fn advice_to_restart_elsewhere_a_vm_that_runs_is_found() {
    let schedule: Schedule = "17:v2@500+3000".parse().unwrap();
    let mut run = play(6, &schedule, Size::default(), Duration::from_secs(2));
    let last = run.record.published.last_mut().unwrap();
    let mut said = (*last.said).clone();
    let index = LogIndex::new(9);
    let advice = Advice::SafeToRestart {
        generation: vouch_types::Generation::new(1),
        proof: vouch_types::Proof::PowerOff,
        index,
        valid_for: vouch_types::advice::SAFE_VALID_FOR,
    };
    said.vms.get_mut(&VmNo(2)).unwrap().advice = advice;
    last.said = Arc::new(said);
    assert!(check(&run).iter().any(|v| v.invariant == Invariant::I7));
}
