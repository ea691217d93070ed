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
