//! N2 in small: a fleet of which nothing dies, over two bad networks, is never called dead. `vouch-sim n2` plays it
//! large and long.

use std::time::Duration;

use vouch_sim::fleet::{FleetConfig, Score, SimFleet};
use vouch_types::VmState;

const VMS: usize = 60;
const NODES: usize = 6;
const SEED: u64 = 1;

fn played(config: FleetConfig, time: Duration) -> Score {
    let mut fleet = SimFleet::new(config).expect("a valid fleet");
    fleet.run(time);
    fleet.score().clone()
}

/// Panics with what was said wrongly, and how to play it again.
fn assert_nothing_false(score: &Score, config: &FleetConfig) {
    assert_eq!(
        score.false_down_or_lost(),
        0,
        "{:#?}\nreplay: vouch-sim n2 --vms {} --nodes {} --loss-management {} --loss-service {} --seed {}",
        score.false_verdicts,
        config.vms,
        config.nodes,
        config.loss_management * 100.0,
        config.loss_service * 100.0,
        config.seed,
    );
}

#[test]
fn ten_minutes_with_a_bad_service_network_call_nothing_dead() {
    let config = FleetConfig::n2(VMS, NODES, SEED);
    let score = played(config.clone(), Duration::from_secs(600));
    assert_nothing_false(&score, &config);
    assert!(score.count(VmState::Up) >= VMS as u64, "every VM was seen to be up: {score}");
    assert!(score.observations > 1_000 && score.redials > 0, "the networks were bad: {score}");
}

#[test]
fn ten_minutes_with_a_bad_management_network_call_nothing_dead() {
    let n2 = FleetConfig::n2(VMS, NODES, SEED);
    let config = FleetConfig { loss_management: n2.loss_service, loss_service: n2.loss_management, ..n2 };
    let score = played(config.clone(), Duration::from_secs(600));
    assert_nothing_false(&score, &config);
    assert!(score.count(VmState::Up) >= VMS as u64, "every VM was seen to be up: {score}");
    assert!(score.redials > 0, "the networks were bad: {score}");
}

#[test]
fn the_same_seed_plays_the_same_and_another_one_does_not() {
    let (one, time) = (FleetConfig { probes: 3, ..FleetConfig::n2(12, 3, SEED) }, Duration::from_secs(60));
    let score = played(one.clone(), time);
    assert_eq!(score, played(one.clone(), time));
    assert_ne!(score, played(FleetConfig { seed: SEED + 1, ..one }, time));
}
