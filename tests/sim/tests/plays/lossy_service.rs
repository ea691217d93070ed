//! Row 32 on a service network that no manager has a leg on, with few VMs: only what watchers tell of one another shows
//! its loss.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use vouch_sim::cluster::host::{Host, m};
use vouch_sim::cluster::network::{Condition, Element, Toward};
use vouch_sim::cluster::sim::{Sim, on_paused_clock};
use vouch_sim::cluster::world::Size;
use vouch_types::{Cause, IncidentRecord, IncidentScope, Network, VmState, WatcherLife};

/// Two nodes, three managers and four VMs.
const SMALL: Size = Size { managers: 3, nodes: 2, racks: 2, vms_per_node: 2 };
/// Row 32: within this time it is told, and its share within five points a little later.
const ROW_32: Duration = Duration::from_secs(10);
/// What a new share may wait: one window, so that it is not told again and again.
const TOLD_ANEW: Duration = Duration::from_secs(5);
const SEEDS: [u64; 2] = [1, 2];
/// The key of what is laid on the network.
const LOSS: u64 = 32;
const NO_LEG: u64 = 33;

async fn start(seed: u64) -> Sim {
    let sim = Sim::start(seed, SMALL).await;
    sim.network().change(|topology| {
        for manager in [1, 2, 3] {
            for toward in [Toward::Out, Toward::In] {
                let port = Element::Port(Host::Manager(m(manager)), Network::Service, toward);
                topology.set(port, NO_LEG, Condition::cut());
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    sim
}

fn lose(sim: &Sim, per_mille: u32) {
    sim.network().change(|topology| {
        topology.set(Element::Core(Network::Service), LOSS, Condition::lossy(per_mille));
    });
}

fn incidents(sim: &Sim) -> Vec<Arc<IncidentRecord>> {
    sim.read(|state| state.incidents().values().cloned().collect())
}

/// Returns how much is told to be lost, in per cent.
fn told(incident: &IncidentRecord) -> Option<u32> {
    incident.word.fault.detail.strip_prefix("service ")?.strip_suffix(" %")?.parse().ok()
}

#[test]
fn thirty_per_cent_on_the_service_network_is_told_once_in_time_and_within_five_points() {
    for seed in SEEDS {
        on_paused_clock(seed, async {
            let sim = start(seed).await;
            let (before, states) = (incidents(&sim).len(), sim.events().len());
            lose(&sim, 300);
            let begun = Instant::now();
            let open = loop {
                let new = incidents(&sim).split_off(before);
                if let Some(incident) = new.first() {
                    break Arc::clone(incident);
                }
                assert!(begun.elapsed() < ROW_32, "seed {seed}: nothing is told");
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            assert_eq!(open.scope, IncidentScope::Network(Network::Service), "seed {seed}");
            assert_eq!(*open.word.fault.top(), Cause::LossyPath, "seed {seed}");
            tokio::time::sleep_until(begun + ROW_32 + TOLD_ANEW).await;
            for _ in 0..30 {
                let all = incidents(&sim).split_off(before);
                assert_eq!(all.len(), 1, "seed {seed}: it flaps: {all:?}");
                let told = told(&all[0]).expect("it says how much");
                assert!(all[0].closed.is_none() && told.abs_diff(30) <= 5, "seed {seed}: {:?}", all[0]);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert!(sim.read(|state| state.vms().values().all(|vm| vm.verdict.state == VmState::Up)), "seed {seed}");
            let said: Vec<_> = sim.events().split_off(states);
            assert!(said.len() <= 8, "seed {seed}: one incident and its share: {said:#?}");
            lose(&sim, 0);
            sim.until("the incident is over", |state| state.open_incidents().next().is_none()).await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert_eq!(incidents(&sim).len(), before + 1, "seed {seed}");
            sim.stop().await;
        });
    }
}

#[test]
fn one_to_five_per_cent_on_the_service_network_is_told_to_nobody() {
    for (seed, per_mille) in [(1, 10), (2, 30), (3, 50)] {
        on_paused_clock(seed, async {
            let sim = start(seed).await;
            let before = sim.events().len();
            lose(&sim, per_mille);
            tokio::time::sleep(Duration::from_secs(100)).await;
            let said = sim.events().split_off(before);
            assert!(said.is_empty(), "seed {seed}: {said:#?}");
            sim.stop().await;
        });
    }
}

#[test]
fn a_watcher_that_dies_is_no_loss_and_its_successor_is_asked_instead() {
    on_paused_clock(7, async {
        let sim = start(7).await;
        let before = incidents(&sim).len();
        let node = sim.node(vouch_sim::cluster::host::n(2));
        let dead = node.running_watchers()[0];
        node.kill_watcher(dead);
        sim.until("another one lives", |state| {
            let of_node = |w: &vouch_types::WatcherRecord| w.node == node.id && w.id != dead;
            state.watchers().values().any(|w| of_node(w) && w.life == WatcherLife::Live)
        })
        .await;
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(incidents(&sim).len(), before, "a dead peer is no loss");
        lose(&sim, 300);
        let scope = IncidentScope::Network(Network::Service);
        let took = sim.until("the loss is told", |s| s.open_incidents().any(|i| i.scope == scope)).await;
        assert!(took <= ROW_32, "the new one is asked: {took:?}");
        sim.stop().await;
    });
}
