//! The same seed twice is the same story, down to the log indexes, terms and moments.

use std::fmt::Write;
use std::time::Duration;

use vouch_types::{Command, VmState};

use super::cluster::{SimCluster, m, simulate};
use crate::store::tests::samples;

/// Plays leaders cut off and healed, with verdicts in between, and writes down all that can be seen.
fn story(seed: u64) -> String {
    simulate(seed, async {
        let mut told = String::new();
        let began = tokio::time::Instant::now();
        let cluster = SimCluster::start().await;
        cluster.propose(samples::init()).await;
        cluster.propose(samples::record_node("n1")).await;
        cluster.propose(samples::record_vms("n1", &[1, 2, 3])).await;
        let states = [VmState::Up, VmState::Degraded, VmState::Lost, VmState::Up, VmState::Hung];
        for (round, state) in (0..).zip(states) {
            let leader = cluster.leader(|_| true).await;
            let term = cluster.consensus(leader).status().term;
            let at = samples::at(u64::try_from(began.elapsed().as_millis()).unwrap());
            cluster.propose(Command::RecordLeader { manager: leader, term, at }).await;
            for vm in 1..=3 {
                cluster.propose(samples::record_verdict(vm, round, samples::verdict(state), at.as_unix_millis())).await;
            }
            cluster.links.isolate(leader);
            let next = cluster.leader(|status| status.manager != leader).await;
            writeln!(told, "{:?} {leader} term {term} then {next}", began.elapsed()).unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
            cluster.links.heal();
            for event in cluster.settled_events().await {
                writeln!(told, "{event:?}").unwrap();
            }
            for id in (1..=3).map(m) {
                writeln!(told, "{:?} {:?}", began.elapsed(), cluster.consensus(id).status()).unwrap();
            }
        }
        told
    })
}

#[test]
fn the_same_seed_twice_gives_the_same_event_log() {
    for seed in [1, 42, 0xdead_beef] {
        let first = story(seed);
        let second = story(seed);
        assert!(first.contains("VmStateChanged") && first.contains("LeaderElected"), "{first}");
        assert!(first == second, "seed {seed}: {}", first_difference(&first, &second));
    }
}

#[test]
fn different_seeds_give_different_stories() {
    // If they did not, the test above could not fail either.
    assert_ne!(story(1), story(2));
}

fn first_difference(first: &str, second: &str) -> String {
    first
        .lines()
        .zip(second.lines())
        .find(|(a, b)| a != b)
        .map_or_else(|| "one is longer".to_owned(), |(a, b)| format!("first differing line:\n{a}\n{b}"))
}
