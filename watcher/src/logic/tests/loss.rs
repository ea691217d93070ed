//! What a watcher tells of loss, end to end: runs in, health in its reports.

use super::*;

/// Returns the loss on the service network that is told by a watcher on `own` when every other run is silent.
fn told_loss(own: &str) -> Vec<u32> {
    let mut bench = Bench::new(4);
    bench.hear(M1, Heard::Welcome(proto::ManagerWelcome { node: own.to_owned(), ..Default::default() }));
    for second in 0..40 {
        bench.pass(Duration::from_secs(1));
        bench.tick(M1, second + 2);
        bench.tick(M2, second + 2);
        for run in std::mem::take(&mut bench.runs) {
            let ended = match (&run.spec, second % 2) {
                (CheckSpec::Relay(_), _) => {
                    Ended::Relay { hears: Vec::new(), outcome: RelayOutcome::Reached, statements: Vec::new() }
                }
                (CheckSpec::Probe(_), 0) => Ended::probe(Outcome::Down, "timeout", ""),
                (CheckSpec::Probe(_), _) => Ended::probe(Outcome::Up, "open", ""),
            };
            bench.event(Event::RunEnded { run: run.id, ended });
        }
    }
    bench.said.clear();
    bench.pass(Duration::from_millis(600));
    let health = bench.reports(M1).into_iter().filter_map(|r| r.health);
    health.map(|h| h.service_loss_per_mille + h.management_loss_per_mille).collect()
}

#[test]
fn loss_is_told_for_targets_beyond_the_own_node_alone() {
    assert!(told_loss("n9").iter().any(|loss| (450..=550).contains(loss)), "{:?}", told_loss("n9"));
    assert!(told_loss("n1").iter().all(|loss| *loss == 0), "what runs beside it is reached over no network");
    assert!(told_loss("").iter().all(|loss| *loss == 0), "where it runs is not known yet");
}

/// Returns the health that a watcher tells after half a minute in which its probes lose nothing, and every other echo to a
/// peer over the service network is silent.
fn told_with_peers(peers: Vec<proto::Peer>) -> proto::WatcherHealth {
    let mut bench = Bench::new(4);
    bench.hear(M1, Heard::Welcome(proto::ManagerWelcome { node: "n9".to_owned(), ..Default::default() }));
    bench.hear(M1, Heard::Assignment(proto::Assignment { peers, ..assignment(2, 4) }));
    for second in 0..30 {
        bench.pass(Duration::from_secs(1));
        bench.tick(M1, second + 2);
        bench.tick(M2, second + 2);
        bench.end_runs(Outcome::Up);
        for round in std::mem::take(&mut bench.rounds) {
            let echo = |number: u32| {
                let silent = round.network == Network::Service && number.is_multiple_of(2);
                if silent { Echo::Silent } else { Echo::Replied }
            };
            let came = Came::Sent((0..round.count).map(echo).collect());
            bench.event(Event::EchoesEnded { round: round.id, came: vec![came; round.addresses.len()] });
        }
    }
    bench.said.clear();
    bench.pass(Duration::from_millis(600));
    bench.reports(M1).into_iter().filter_map(|r| r.health).next_back().expect("it says how it is")
}

#[test]
fn peers_tell_what_a_network_loses_and_probes_only_where_there_are_none() {
    let leg =
        |network: proto::Network, address: &str| proto::Address { network: network.into(), address: address.into() };
    let legs = vec![leg(proto::Network::Management, "10.1.0.200"), leg(proto::Network::Service, "10.2.0.200")];
    let health = told_with_peers(vec![proto::Peer { watcher: 2, legs }]);
    assert!((480..=520).contains(&health.service_loss_per_mille), "{health:?}");
    assert_eq!(health.management_loss_per_mille, 0);
    let reached: Vec<_> = health.peers.iter().map(|peer| (peer.watcher, peer.network, peer.reached)).collect();
    assert_eq!(reached, [(2, proto::Network::Management.into(), true), (2, proto::Network::Service.into(), true)]);
    let alone = told_with_peers(Vec::new());
    assert_eq!((alone.service_loss_per_mille, alone.peers.len()), (0, 0));
}
