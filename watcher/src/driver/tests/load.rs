//! More runs than a watcher has places for: of targets that are silent, and of components that compute.

use std::collections::BTreeSet;

use vouch_probe_kit::fakes::{Fake, FakeTcp};

use super::*;
use crate::boot::allow_files_of;
use crate::logic::WINDOW_FIRST;

/// Runs a component by this order on hundreds of VMs until 20 of them have ended with this reason, and looks at a target that
/// lives with another all the while.
///
/// Between two looks of the other so many may end at most, where that is known. A run has so many milliseconds.
async fn no_look_of_another_is_delayed(order: &str, reason: &str, between_looks: Option<usize>, within_ms: u64) {
    const VMS: u128 = 300;
    let (mut connections, port) = counted_service().await;
    let hostile = vouch_probe_bundle::hostile();
    let mut bench = Bench::start(vec![tcp_component(), hostile.bytes.to_vec()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    bench.outcome(proto::Outcome::Up).await;
    let mut assigned = tcp_assignment(2, port);
    let digest = hostile.digest().as_bytes().to_vec();
    assigned.probes.push(proto::ProbeComponent { name: "hostile".to_owned(), digest, grant: None });
    let computed = |vm: u128| proto::Target {
        vm: uuid::Uuid::from_u128(vm).as_bytes().to_vec(),
        probes: vec![proto::ProbeAssignment {
            probe: "hostile".to_owned(),
            settings: format!(r#"{{"order": "{order}"}}"#),
            ..assigned.targets[0].probes[0].clone()
        }],
        probe_timeout_micros: within_ms * 1_000,
        ..assigned.targets[0].clone()
    };
    let computed: Vec<_> = (0..VMS).map(computed).collect();
    assigned.targets.extend(computed);
    bench.tell(Heard::Assignment(assigned)).await;
    // By VM: what has not changed may be told again.
    let (mut looks, mut ended, mut since_look) = (0, BTreeSet::new(), 0);
    let watch = async {
        while looks < 10 || ended.len() < 20 {
            tokio::select! {
                look = connections.recv() => {
                    look.unwrap();
                    (looks, since_look) = (looks + 1, 0);
                }
                said = bench.manager.inbound.recv() => {
                    let Some(Said::Report(report)) = said.unwrap().unwrap().message else { continue };
                    let (tcp, hostile): (Vec<_>, Vec<_>) = report.observations.iter().partition(|o| o.probe == "tcp");
                    let up = i32::from(proto::Outcome::Up);
                    assert!(tcp.iter().all(|o| o.outcome == up), "it lives: {tcp:?}");
                    let over = hostile.into_iter().filter(|o| o.reason == reason);
                    since_look += over.filter(|o| ended.insert(o.vm.clone())).count();
                    let most = between_looks.unwrap_or(usize::MAX);
                    assert!(since_look <= most, "{since_look} have ended without a look");
                }
            }
        }
    };
    timeout(PATIENCE, watch).await.expect("the target that lives is looked at, and the component runs");
}

/// One takes 400 ms at least, and soon there is one at a time; each interval has its look.
const FEW: Option<usize> = Some(3 * WINDOW_FIRST);

#[tokio::test]
async fn a_component_that_loops_on_every_vm_neither_delays_nor_falsifies_the_looks_of_others() {
    no_look_of_another_is_delayed("loop", "overstayed", FEW, 500).await;
}

#[tokio::test]
async fn a_component_that_computes_up_to_its_deadline_does_not_either() {
    no_look_of_another_is_delayed("spin 400", "spun", FEW, 500).await;
}

#[tokio::test]
async fn components_that_crash_eat_memory_or_talk_without_end_on_every_vm_do_not_either() {
    for (order, reason) in [("recurse", "crashed"), ("eat", "memory"), ("log", "logged"), ("panic", "crashed")] {
        no_look_of_another_is_delayed(order, reason, None, 4_000).await;
    }
}

#[tokio::test]
async fn a_component_that_holds_sockets_on_every_vm_leaves_others_theirs() {
    no_look_of_another_is_delayed("hold-sockets 300", "held", None, 4_000).await;
}

/// Has all runs but one in flight until their deadline, and looks at a target that lives with the one that is left.
async fn dead_targets_delay_no_look_at_another(runs: RunLimit) {
    let hang = Fake::Tcp(FakeTcp::Hang).start().await.unwrap();
    let (mut connections, port) = counted_service().await;
    let mut bench = Bench::start_with(vec![tcp_component()], runs, |runner| Arc::new(AsShipped(runner))).await;
    let mut assigned = tcp_assignment(1, hang.port().unwrap());
    let silent = assigned.targets.remove(0);
    // One check over each network, as an assignment may have more checks than targets.
    let networks = [proto::Network::Management, proto::Network::Service].map(i32::from);
    let here = silent.addresses[0].clone();
    let dead = |vm: usize, checks: usize| proto::Target {
        vm: uuid::Uuid::from_u128(vm as u128).as_bytes().to_vec(),
        addresses: networks.map(|network| proto::Address { network, ..here.clone() }).to_vec(),
        probes: networks
            .map(|network| proto::ProbeAssignment { network, ..silent.probes[0].clone() })
            .into_iter()
            .take(checks)
            .collect(),
        probe_timeout_micros: 30_000_000,
        ..silent.clone()
    };
    let checks = runs.all() - 1;
    assigned.targets = (0..checks.div_ceil(2)).map(|vm| dead(vm, checks - 2 * vm)).collect();
    let mut alive = tcp_assignment(1, port).targets.remove(0);
    alive.vm = uuid::Uuid::from_u128(u128::MAX).as_bytes().to_vec();
    assigned.targets.push(alive);
    bench.tell(Heard::Assignment(assigned)).await;
    for _ in 0..5 {
        timeout(PATIENCE, connections.recv()).await.expect("the target that lives is looked at").unwrap();
    }
    while let Ok(said) = bench.manager.inbound.try_recv() {
        if let Some(Said::Report(report)) = said.unwrap().message {
            let ended = report.observations.iter().find(|o| o.outcome == i32::from(proto::Outcome::Down));
            assert_eq!(ended, None, "the dead ones are still waited for");
        }
    }
}

#[tokio::test]
async fn dead_targets_delay_no_look_at_another_up_to_the_limit_of_runs() {
    dead_targets_delay_no_look_at_another(RunLimit::LEAST).await;
}

#[tokio::test]
async fn two_thousand_runs_are_in_flight_where_there_is_memory_for_them() {
    let runs = RunLimit::of_memory(280 << 20);
    assert_eq!(runs.all(), 1_984);
    // A socket each.
    assert!(allow_files_of(runs));
    dead_targets_delay_no_look_at_another(runs).await;
}
