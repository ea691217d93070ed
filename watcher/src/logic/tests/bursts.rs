//! Asks that follow each other faster than their runs end, and what they must not do to scheduled runs.

use std::collections::BTreeSet;

use super::*;

fn asked(bench: &mut Bench, nonce: u64, vms: &[u8]) -> Vec<Run> {
    bench.runs.clear();
    bench.ask(nonce, &[], vms);
    std::mem::take(&mut bench.runs)
}

#[test]
fn each_ask_of_a_burst_has_its_own_run_and_answer() {
    let mut bench = Bench::new(1);
    let runs: Vec<Run> = (1..=3).flat_map(|nonce| asked(&mut bench, nonce, &[1])).collect();
    assert_eq!(runs.len(), 3, "all at once");
    bench.said.clear();
    bench.end(&runs[1], Outcome::Up);
    bench.pass(Duration::from_millis(10));
    let answers = bench.answers();
    assert_eq!(answers.iter().map(|a| (a.nonce, a.complete, a.observations.len())).collect::<Vec<_>>(), [(2, true, 1)]);
    bench.end(&runs[0], Outcome::Down);
    bench.end(&runs[2], Outcome::Up);
    bench.pass(Duration::from_millis(10));
    let nonces: BTreeSet<u64> = bench.answers().iter().filter(|a| a.complete).map(|a| a.nonce).collect();
    assert_eq!(nonces, BTreeSet::from([1, 3]));
}

#[test]
fn one_ask_too_many_for_a_probe_waits_for_a_run_to_end() {
    let mut bench = Bench::new(1);
    let max = BURST_IN_FLIGHT_MAX as u64;
    let runs: Vec<Run> = (1..=max).flat_map(|nonce| asked(&mut bench, nonce, &[1])).collect();
    assert_eq!(runs.len(), BURST_IN_FLIGHT_MAX);
    assert_eq!(asked(&mut bench, max + 1, &[1]), []);
    bench.end(&runs[0], Outcome::Up);
    let begun = std::mem::take(&mut bench.runs);
    assert_eq!(begun.len(), 1);
    bench.said.clear();
    bench.end(&begun[0], Outcome::Up);
    assert!(bench.answers().iter().any(|a| a.nonce == max + 1 && a.complete));
}

#[test]
fn the_scheduled_run_stands_in_for_an_ask_that_waits() {
    let mut bench = Bench::new(1);
    let max = BURST_IN_FLIGHT_MAX as u64;
    bench.pass(Duration::from_millis(1000));
    bench.end_runs(Outcome::Up);
    for nonce in 1..=max + 1 {
        let deadline_micros = 2_000_000;
        let vms = vec![vm(1).get().as_bytes().to_vec()];
        bench.hear(M1, Heard::Ask(proto::Ask { nonce, deadline_micros, vms, ..Default::default() }));
    }
    let before = bench.runs.len();
    bench.pass(Duration::from_millis(1000));
    bench.said.clear();
    for run in bench.runs.split_off(before) {
        bench.end(&run, Outcome::Up);
    }
    bench.pass(Duration::from_millis(10));
    let answered: Vec<u64> = bench.answers().iter().filter(|a| a.complete).map(|a| a.nonce).collect();
    assert_eq!(answered, [max + 1]);
}

#[test]
fn a_light_ask_runs_no_heavy_probe() {
    let mut bench = Bench::new(1);
    let mut assigned = assignment(2, 1);
    let tcp = assigned.targets[0].probes[0].clone();
    assigned.targets[0].probes.push(proto::ProbeAssignment { probe: "http".to_owned(), ..tcp });
    assigned.probes.push(proto::ProbeComponent { name: "http".to_owned(), digest: DIGEST.to_vec(), grant: None });
    bench.hear(M1, Heard::Assignment(assigned));
    for (nonce, light, runs) in [(1, false, 2), (2, true, 1)] {
        bench.runs.clear();
        let vms = vec![vm(1).get().as_bytes().to_vec()];
        bench.hear(M1, Heard::Ask(proto::Ask { nonce, deadline_micros: 400_000, vms, light, ..Default::default() }));
        assert_eq!(bench.runs.len(), runs);
    }
}

/// Lets 20 ms pass so often in which the first VMs are silent, and returns when the runs of all others began, and how many
/// runs were in flight at most.
fn begun_of_others(bench: &mut Bench, steps: u64, silent: u8, burst: bool) -> (Vec<(VmId, Moment)>, usize) {
    let (mut in_flight, mut others): (Vec<(Moment, Run)>, Vec<_>) = (Vec::new(), Vec::new());
    let mut most = 0;
    for step in 0..steps {
        if burst && step % 5 == 0 {
            let vms: Vec<u8> = (1..=silent).collect();
            bench.ask(step + 1, &["n1"], &vms);
        }
        if step % 20 == 0 {
            bench.tick(M1, step + 2);
            bench.tick(M2, step + 2);
        }
        for _ in 0..20 {
            let now = bench.now;
            in_flight.extend(std::mem::take(&mut bench.runs).into_iter().map(|run| (now, run)));
            most = most.max(in_flight.len());
            let is_over = |(begun, run): &(Moment, Run)| match &run.spec {
                CheckSpec::Probe(spec) => spec.vm > vm(silent) || now.since(*begun) >= run.timeout,
                CheckSpec::Relay(_) => true,
            };
            let (over, still): (Vec<_>, Vec<_>) = std::mem::take(&mut in_flight).into_iter().partition(is_over);
            in_flight = still;
            for (begun, run) in over {
                match &run.spec {
                    CheckSpec::Probe(spec) if spec.vm > vm(silent) => {
                        others.push((spec.vm, begun));
                        bench.end(&run, Outcome::Up);
                    }
                    CheckSpec::Probe(_) | CheckSpec::Relay(_) => bench.end(&run, Outcome::Down),
                }
            }
            bench.pass(Duration::from_millis(1));
        }
    }
    (others, most)
}

#[test]
fn a_burst_on_silent_vms_does_not_delay_the_scheduled_runs_of_others() {
    let begun = |burst| begun_of_others(&mut Bench::new(64 + 40), 200, 64, burst);
    let ((calm, few), (others, most)) = (begun(false), begun(true));
    assert!(calm.len() >= 40 * 3);
    assert_eq!(others, calm);
    assert!(few <= RunLimit::LEAST.asked() && most > few && most <= RunLimit::LEAST.all(), "{few} and {most} runs");
}

#[test]
fn more_silent_checks_than_there_are_places_delay_those_of_others_once_and_not_again() {
    const VMS: u8 = 240;
    const SILENT: u8 = 200;
    let begun = |silent: u8, burst: bool| {
        let mut bench = Bench::new(VMS);
        let mut assigned = assignment(2, VMS);
        for name in ["ssh", "rdp"] {
            let probe = proto::ProbeAssignment { probe: name.to_owned(), ..assigned.targets[0].probes[0].clone() };
            assigned.targets.iter_mut().for_each(|target| target.probes.push(probe.clone()));
            assigned.probes.push(proto::ProbeComponent { name: name.to_owned(), ..assigned.probes[0].clone() });
        }
        bench.hear(M1, Heard::Assignment(assigned));
        let (begun, most) = begun_of_others(&mut bench, 500, silent, burst);
        assert_eq!(most == RunLimit::LEAST.all(), silent > 0, "{most} runs at once");
        // The first scheduled run of a silent check is like any other. From the second on it is known that they last.
        let known = Moment::from_micros(5_000_000);
        begun.into_iter().filter(|(who, at)| *who > vm(SILENT) && *at > known).collect::<Vec<_>>()
    };
    let calm = begun(0, false);
    assert!(calm.len() >= 40 * 3 * 4, "{}", calm.len());
    assert!(begun(SILENT, false) == calm, "each of them at its own time");
    assert!(begun(SILENT, true) == calm, "with asks about the silent ones, too");
}

#[test]
fn no_more_asked_checks_wait_than_the_limit_and_their_asks_end_at_the_deadline() {
    let vms = 100;
    let mut bench = Bench::new(vms);
    let asks = (WANTED_MAX + RunLimit::LEAST.asked()) as u64 / u64::from(vms) + 2;
    bench.runs.clear();
    for nonce in 1..=asks {
        bench.ask(nonce, &[], &(1..=vms).collect::<Vec<_>>());
    }
    let mut begun = 0;
    while let Some(run) = bench.runs.pop() {
        begun += 1;
        bench.end(&run, Outcome::Up);
    }
    assert_eq!(begun, WANTED_MAX + RunLimit::LEAST.asked());
    bench.pass(Duration::from_millis(400));
    let ended: BTreeSet<u64> = bench.answers().iter().filter(|a| a.complete).map(|a| a.nonce).collect();
    assert_eq!(ended, (1..=asks).collect());
}
