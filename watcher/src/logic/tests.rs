//! The logic as a whole, driven with a clock of the test's own.

use std::time::Duration;

use proptest::prelude::*;
use vouch_types::{Digest, Incarnation, ManagerId, Moment, Network, Outcome, RelayOutcome, Timing, VmId, WatcherId};
use vouch_wire::links::ManagerEndpoint;
use vouch_wire::proto;
use vouch_wire::proto::from_watcher::Message as Said;
use vouch_wire::proto::to_watcher::Message as Heard;

use super::*;

mod bursts;
mod findings;
mod loss;

const DIGEST: [u8; 32] = [7; 32];
const M1: SessionId = SessionId(1);
const M2: SessionId = SessionId(2);

fn vm(n: u8) -> VmId {
    VmId::new(uuid::Uuid::from_bytes([n; 16]))
}

fn assignment(index: u64, vms: u8) -> proto::Assignment {
    let probe = |name: &str| proto::ProbeAssignment {
        probe: name.to_owned(),
        network: proto::Network::Service.into(),
        settings: "{}".to_owned(),
        ..Default::default()
    };
    let target = |n| proto::Target {
        vm: vm(n).get().as_bytes().to_vec(),
        node: "n1".to_owned(),
        addresses: vec![proto::Address { network: proto::Network::Service.into(), address: format!("10.2.0.{n}") }],
        probes: vec![probe("tcp")],
        ..Default::default()
    };
    proto::Assignment {
        fence: Some(proto::Fence { term: 1, log_index: index }),
        generation: index,
        targets: (1..=vms).map(target).collect(),
        relays: vec![proto::RelayTarget {
            node: "n1".to_owned(),
            address: "10.1.0.11:7002".to_owned(),
            grant: Some(proto::Signed::default()),
        }],
        probes: vec![proto::ProbeComponent { name: "tcp".to_owned(), digest: DIGEST.to_vec(), grant: None }],
        peers: Vec::new(),
    }
}

/// Few ticks, so that a test may let a second pass without sending any.
fn timing() -> Timing {
    Timing { tick_interval: Duration::from_millis(700), ..Timing::default() }
}

/// A watcher with a clock, and all that it has ordered.
struct Bench {
    logic: Logic,
    now: Moment,
    runs: Vec<Run>,
    rounds: Vec<EchoRound>,
    said: Vec<(SessionId, Said)>,
    closed: Vec<SessionId>,
}

impl Bench {
    /// A watcher with two managers that have said welcome and sent tick 1, and an assignment.
    fn new(vms: u8) -> Self {
        let logic = Logic::new(WatcherId::new(1), Incarnation::new(5), timing(), RunLimit::LEAST);
        let (now, runs, rounds, said, closed) = (Moment::ZERO, Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut bench = Self { logic, now, runs, rounds, said, closed };
        for (session, manager) in [(M1, 1), (M2, 2)] {
            let address = "10.1.0.1:7001".parse().unwrap();
            let endpoint = ManagerEndpoint { manager: ManagerId::new(manager), network: Network::Management, address };
            bench.event(Event::SessionOpened { session, endpoint });
            let timing = serde_json::to_string(&timing()).unwrap();
            bench.hear(session, Heard::Welcome(proto::ManagerWelcome { timing, ..Default::default() }));
            bench.tick(session, 1);
        }
        bench.hear(M1, Heard::Assignment(assignment(1, vms)));
        bench.event(Event::ProbeReady { digest: Digest::new(DIGEST), origin: Origin::Shipped });
        bench
    }

    fn event(&mut self, event: Event) {
        for effect in self.logic.handle(self.now, event) {
            match effect {
                Effect::Begin(run) => self.runs.push(run),
                Effect::Send { session, message } => self.said.push((session, message.message.unwrap())),
                Effect::Close { session, why: _ } => self.closed.push(session),
                Effect::Echo(round) => self.rounds.push(round),
                Effect::Prepare { .. } | Effect::Forget { .. } => {}
            }
        }
    }

    fn hear(&mut self, session: SessionId, message: Heard) {
        self.event(Event::Heard { session, message: proto::ToWatcher { message: Some(message) } });
    }

    fn tick(&mut self, session: SessionId, sequence: u64) {
        self.hear(session, Heard::Tick(proto::Tick { sequence }));
    }

    fn ask(&mut self, nonce: u64, nodes: &[&str], vms: &[u8]) {
        let nodes = nodes.iter().map(|n| (*n).to_owned()).collect();
        let vms = vms.iter().map(|n| vm(*n).get().as_bytes().to_vec()).collect();
        self.hear(M1, Heard::Ask(proto::Ask { nonce, deadline_micros: 400_000, nodes, vms, ..Default::default() }));
    }

    /// Lets time pass, waking the watcher whenever it asked for it; ticks come so that streams stay.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.logic.next_wake().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.event(Event::Woken);
        }
        self.now = until;
    }

    /// Ends all runs in flight, all probes with this outcome.
    fn end_runs(&mut self, outcome: Outcome) {
        for run in std::mem::take(&mut self.runs) {
            self.end(&run, outcome);
        }
    }

    fn end(&mut self, run: &Run, outcome: Outcome) {
        let ended = match &run.spec {
            CheckSpec::Probe(_) => Ended::probe(outcome, "why", "text"),
            CheckSpec::Relay(_) => Ended::Relay {
                hears: Vec::new(),
                outcome: RelayOutcome::Reached,
                statements: vec![proto::Signed {
                    payload: run.nonce.get().to_be_bytes().to_vec(),
                    ..Default::default()
                }],
            },
        };
        self.event(Event::RunEnded { run: run.id, ended });
    }

    fn reports(&mut self, to: SessionId) -> Vec<proto::WatcherReport> {
        let said = std::mem::take(&mut self.said);
        let of = |(session, said)| match said {
            Said::Report(report) if session == to => Some(report),
            Said::Report(_) | Said::Hello(_) | Said::Answer(_) | Said::Durations(_) => None,
        };
        said.into_iter().filter_map(of).collect()
    }

    fn answers(&mut self) -> Vec<proto::Answer> {
        let said = std::mem::take(&mut self.said);
        let of = |(_, said)| match said {
            Said::Answer(answer) => Some(answer),
            Said::Report(_) | Said::Hello(_) | Said::Durations(_) => None,
        };
        said.into_iter().filter_map(of).collect()
    }
}

#[test]
fn a_change_is_reported_at_once_and_what_has_not_changed_is_not_repeated() {
    let mut bench = Bench::new(3);
    bench.pass(Duration::from_millis(1000));
    bench.end_runs(Outcome::Up);
    bench.pass(Duration::from_millis(20));
    bench.said.clear();
    bench.tick(M1, 2);
    bench.tick(M2, 2);
    bench.pass(Duration::from_millis(980));
    bench.said.clear();
    let run = bench.runs.iter().find(|run| matches!(run.spec, CheckSpec::Probe(_))).unwrap().clone();
    bench.end(&run, Outcome::Down);
    bench.pass(Duration::from_millis(20));
    let reports = bench.reports(M1);
    let changed: Vec<_> = reports.iter().flat_map(|r| &r.observations).filter(|o| o.outcome == 3).collect();
    assert_eq!(changed.len(), 1);
    assert!(reports.iter().all(|r| !r.full && r.others_age_micros.is_some()));
}

#[test]
fn what_a_manager_cannot_date_is_told_again_until_it_can() {
    let mut bench = Bench::new(1);
    bench.pass(Duration::from_millis(1000));
    bench.end_runs(Outcome::Up);
    bench.said.clear();
    const NEW: SessionId = SessionId(3);
    let address = "10.1.0.1:7001".parse().unwrap();
    let endpoint = ManagerEndpoint { manager: ManagerId::new(2), network: Network::Management, address };
    bench.event(Event::SessionOpened { session: NEW, endpoint });
    let timing = serde_json::to_string(&timing()).unwrap();
    bench.hear(NEW, Heard::Welcome(proto::ManagerWelcome { timing, ..Default::default() }));
    bench.tick(M1, 2);
    bench.tick(NEW, 7);
    bench.pass(Duration::from_millis(100));
    let reports = bench.reports(NEW);
    assert_eq!(reports.len(), 1, "told once, and again in its time: {reports:?}");
    assert!(reports[0].full && reports[0].others_age_micros.is_none());
    assert!(reports[0].observations.iter().all(|o| o.begun == Some(proto::Tick { sequence: 0 })));
    bench.pass(Duration::from_millis(890));
    bench.tick(M1, 3);
    bench.tick(NEW, 8);
    bench.end_runs(Outcome::Up);
    bench.said.clear();
    bench.pass(Duration::from_millis(600));
    let reports = bench.reports(NEW);
    let full: Vec<_> = reports.iter().filter(|r| r.full).collect();
    assert_eq!(full.len(), 1, "{reports:?}");
    assert!(full[0].observations.iter().all(|o| o.begun == Some(proto::Tick { sequence: 7 })));
    bench.tick(NEW, 9);
    bench.pass(Duration::from_millis(600));
    let reports = bench.reports(NEW);
    assert!(reports.iter().all(|r| !r.full && r.others_age_micros.is_some()), "{reports:?}");
}

#[test]
fn each_manager_gets_its_own_tick_and_none_that_came_after_the_run_began() {
    let mut bench = Bench::new(1);
    bench.tick(M2, 40);
    bench.pass(Duration::from_millis(1000));
    assert_eq!(bench.runs.len(), 2);
    bench.tick(M1, 2);
    bench.tick(M2, 41);
    bench.said.clear();
    bench.end_runs(Outcome::Up);
    bench.pass(Duration::from_millis(20));
    let said = std::mem::take(&mut bench.said);
    for (session, tick) in [(M1, 1), (M2, 40)] {
        bench.said = said.clone();
        let begun: Vec<_> = bench.reports(session).into_iter().flat_map(|r| r.observations).map(|o| o.begun).collect();
        assert_eq!(begun, [Some(proto::Tick { sequence: tick })]);
    }
}

#[test]
fn an_ask_is_answered_by_runs_begun_after_it_though_an_older_one_is_in_flight() {
    let mut bench = Bench::new(1);
    bench.pass(Duration::from_millis(1000));
    let older = std::mem::take(&mut bench.runs);
    assert_eq!(older.len(), 2, "the relay and the probe are in flight");
    bench.ask(77, &["n1"], &[1]);
    assert_eq!(bench.runs.len(), 2, "both begin anew at once");
    for run in &older {
        bench.end(run, Outcome::Up);
    }
    bench.pass(Duration::from_millis(10));
    assert_eq!(bench.answers(), [], "what began before the ask does not answer it");
    bench.end_runs(Outcome::Down);
    bench.pass(Duration::from_millis(10));
    let answers = bench.answers();
    assert!(answers.last().unwrap().complete && answers.iter().all(|a| a.nonce == 77));
    let outcomes: Vec<_> = answers.iter().flat_map(|a| &a.observations).map(|o| o.outcome).collect();
    assert_eq!(outcomes, [i32::from(proto::Outcome::Down)]);
    let statements: Vec<_> = answers.iter().flat_map(|a| &a.statements).map(|s| s.payload.clone()).collect();
    assert_eq!(statements, [77u64.to_be_bytes().to_vec()], "the relay was asked with the nonce");
}

#[test]
fn an_ask_ends_at_its_deadline_when_a_target_is_silent() {
    let mut bench = Bench::new(2);
    bench.ask(5, &[], &[1, 2]);
    let answered = bench.runs.remove(0);
    bench.end(&answered, Outcome::Up);
    bench.tick(M1, 2);
    bench.pass(Duration::from_millis(399));
    let partial = bench.answers();
    assert_eq!((partial.len(), partial[0].observations.len(), partial[0].complete), (1, 1, false));
    bench.pass(Duration::from_millis(1));
    let last = bench.answers();
    assert_eq!((last.len(), last[0].observations.len(), last[0].complete), (1, 0, true));
}

#[test]
fn an_assignment_of_an_overtaken_manager_changes_nothing() {
    let mut bench = Bench::new(2);
    bench.hear(M2, Heard::Assignment(assignment(3, 1)));
    bench.hear(M1, Heard::Assignment(assignment(2, 9)));
    bench.said.clear();
    bench.pass(Duration::from_millis(600));
    assert!(bench.reports(M1).iter().all(|r| r.assignment == 3));
    bench.ask(1, &[], &[2]);
    let answers = bench.answers();
    assert!(answers[0].complete && answers[0].observations.is_empty(), "VM 2 is not its own any more");
}

#[test]
fn a_resync_is_answered_with_everything() {
    let mut bench = Bench::new(3);
    bench.pass(Duration::from_millis(1000));
    bench.end_runs(Outcome::Up);
    bench.pass(Duration::from_millis(20));
    bench.said.clear();
    bench.hear(M2, Heard::Resync(proto::Resync {}));
    bench.pass(Duration::from_millis(20));
    let full: Vec<_> = bench.reports(M2).into_iter().filter(|r| r.full).collect();
    assert_eq!(full.len(), 1);
    assert_eq!((full[0].observations.len(), full[0].relays.len()), (3, 1));
}

#[test]
fn a_stream_without_ticks_is_dropped_and_its_answer_leaves_by_another_to_the_same_manager() {
    let mut bench = Bench::new(1);
    let address = "10.2.0.1:7001".parse().unwrap();
    let endpoint = ManagerEndpoint { manager: ManagerId::new(1), network: Network::Service, address };
    let other = SessionId(9);
    bench.pass(Duration::from_millis(2700));
    bench.event(Event::SessionOpened { session: other, endpoint });
    bench.hear(other, Heard::Welcome(proto::ManagerWelcome::default()));
    bench.ask(8, &["n1"], &[]);
    bench.said.clear();
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.closed, [M1, M2]);
    bench.end_runs(Outcome::Up);
    bench.pass(Duration::from_millis(10));
    let to: Vec<_> = bench.said.iter().filter(|(_, s)| matches!(s, Said::Answer(_))).map(|(to, _)| *to).collect();
    assert_eq!(to, [other]);
}

#[test]
fn a_probe_that_cannot_run_is_unknown_and_never_down() {
    let mut bench = Bench::new(1);
    let digest = Digest::new([8; 32]);
    let mut assigned = assignment(2, 1);
    assigned.probes[0].digest = digest.as_bytes().to_vec();
    bench.hear(M1, Heard::Assignment(assigned));
    bench.event(Event::ProbeUnavailable { digest, why: "m1 sent other bytes".to_owned() });
    bench.said.clear();
    bench.pass(Duration::from_millis(1000));
    let told: Vec<_> = bench.reports(M1).into_iter().flat_map(|r| r.observations).collect();
    assert_eq!(told[0].outcome, i32::from(proto::Outcome::Unknown));
    assert_eq!(told[0].message, "m1 sent other bytes");
}

/// Returns how often each VM is looked at within 2 s of this assignment; each look at VM 1 may take 100 ms.
fn runs_in_two_seconds(bench: &mut Bench, order: proto::Assignment) -> std::collections::BTreeMap<VmId, u32> {
    bench.hear(M1, Heard::Assignment(order));
    let mut began = std::collections::BTreeMap::from([(vm(1), 0), (vm(2), 0)]);
    for _ in 0..16 {
        bench.tick(M1, 2);
        bench.pass(Duration::from_millis(125));
        for run in std::mem::take(&mut bench.runs) {
            if let CheckSpec::Probe(spec) = &run.spec {
                let own = spec.vm == vm(1);
                assert_eq!(run.timeout, if own { Duration::from_millis(100) } else { timing().probe_timeout });
                *began.get_mut(&spec.vm).unwrap() += 1;
            }
            bench.end(&run, Outcome::Up);
        }
    }
    began
}

#[test]
fn a_vm_with_a_policy_of_its_own_is_looked_at_as_that_says() {
    let mut bench = Bench::new(2);
    let mut order = assignment(2, 2);
    order.targets[0].probe_interval_micros = 250_000;
    order.targets[0].probe_timeout_micros = 100_000;
    assert_eq!(runs_in_two_seconds(&mut bench, order), [(vm(1), 8), (vm(2), 2)].into());
}

#[test]
fn a_probe_with_times_of_its_own_is_run_by_them_and_not_by_the_policy() {
    let mut bench = Bench::new(2);
    let mut order = assignment(2, 2);
    for target in &mut order.targets {
        target.probe_interval_micros = 1_000_000;
    }
    order.targets[0].probes[0].interval_micros = 250_000;
    order.targets[0].probes[0].timeout_micros = 100_000;
    assert_eq!(runs_in_two_seconds(&mut bench, order), [(vm(1), 8), (vm(2), 2)].into());
}

proptest! {
    /// However slow some targets are, no more runs than the limit are in flight, and each check that ends runs again.
    #[test]
    fn silent_targets_do_not_keep_others_from_running(silent in 1u8..40, vms in 41u8..80) {
        let mut bench = Bench::new(vms);
        let mut counts = std::collections::BTreeMap::new();
        for second in 0u64..4 {
            for tenth in 0u64..10 {
                bench.pass(Duration::from_millis(100));
                bench.tick(M1, second * 10 + tenth + 2);
                bench.tick(M2, second * 10 + tenth + 2);
                let (stay, end): (Vec<_>, Vec<_>) = std::mem::take(&mut bench.runs).into_iter().partition(|run| {
                    matches!(&run.spec, CheckSpec::Probe(spec) if spec.vm <= vm(silent))
                });
                bench.runs = stay;
                for run in end {
                    if let CheckSpec::Probe(spec) = &run.spec {
                        *counts.entry(spec.vm).or_insert(0) += 1;
                    }
                    bench.end(&run, Outcome::Up);
                }
                prop_assert!(bench.runs.len() <= RunLimit::LEAST.all());
            }
        }
        for n in silent + 1..=vms {
            prop_assert!(counts.get(&vm(n)).is_some_and(|count| *count >= 3), "VM {} ran {:?}", n, counts.get(&vm(n)));
        }
    }
}

/// Runs every check for so long, each of which takes 3 ms and comes to this; returns how many runs of probes there were.
fn look(bench: &mut Bench, time: Duration, outcome: Outcome) -> u64 {
    let mut runs = 0;
    let until = bench.now + time;
    let mut ticks = 2;
    while bench.now < until {
        bench.pass(Duration::from_millis(200));
        ticks += 1;
        bench.tick(M1, ticks);
        bench.tick(M2, ticks);
        bench.now = bench.now + Duration::from_millis(3);
        runs += bench.runs.iter().filter(|run| matches!(run.spec, CheckSpec::Probe(_))).count() as u64;
        bench.end_runs(outcome);
    }
    runs
}

fn durations(bench: &mut Bench, to: SessionId) -> Vec<proto::DurationHistogram> {
    let mut told = std::mem::take(&mut bench.said).into_iter().filter_map(|(session, said)| match said {
        Said::Durations(durations) if session == to => Some(durations.histograms),
        _ => None,
    });
    told.next_back().unwrap_or_default()
}

#[test]
fn how_long_answered_checks_took_is_told_to_each_manager_and_counts_from_the_start() {
    let mut bench = Bench::new(3);
    let mut answered = look(&mut bench, Duration::from_secs(12), Outcome::Up);
    let said = bench.said.clone();
    let first = durations(&mut bench, M1);
    bench.said = said;
    assert_eq!(durations(&mut bench, M2), first, "both managers are told the same");
    let [tcp] = &first[..] else { panic!("one series: {first:?}") };
    assert_eq!((tcp.probe.as_str(), tcp.node.as_str()), ("tcp", "n1"), "relays are none");
    let counted = |of: &proto::DurationHistogram| of.counts.iter().sum::<u64>();
    assert!((20..=answered).contains(&counted(tcp)), "{tcp:?}");
    answered += look(&mut bench, Duration::from_secs(12), Outcome::Up);
    look(&mut bench, Duration::from_secs(12), Outcome::Down);
    let last = durations(&mut bench, M1);
    assert_eq!(last.iter().map(counted).collect::<Vec<_>>(), [answered], "it counts on, and what is answered alone");
    look(&mut bench, Duration::from_secs(24), Outcome::Down);
    assert!(durations(&mut bench, M1).is_empty(), "and where nothing is, nothing is told");
}

#[test]
fn series_of_nodes_that_are_watched_no_more_are_forgotten_and_there_are_no_more_than_may_be_told() {
    use vouch_wire::convert::limits::DURATION_HISTOGRAMS_MAX;
    let mut bench = Bench::new(0);
    let many = u16::try_from(DURATION_HISTOGRAMS_MAX + 10).unwrap();
    let mut all = assignment(2, 1);
    let target = all.targets[0].clone();
    all.targets = (0..many)
        .map(|n| proto::Target {
            vm: uuid::Uuid::from_u128(u128::from(n) + 1).as_bytes().to_vec(),
            node: format!("n{n}"),
            ..target.clone()
        })
        .collect();
    bench.hear(M1, Heard::Assignment(all));
    bench.event(Event::ProbeReady { digest: Digest::new(DIGEST), origin: Origin::Shipped });
    look(&mut bench, Duration::from_secs(24), Outcome::Up);
    assert_eq!(durations(&mut bench, M1).len(), DURATION_HISTOGRAMS_MAX);
    bench.hear(M1, Heard::Assignment(assignment(3, 1)));
    look(&mut bench, Duration::from_secs(24), Outcome::Up);
    let told = durations(&mut bench, M1);
    assert_eq!(told.iter().map(|h| h.node.as_str()).collect::<Vec<_>>(), ["n1"]);
}
