//! What outcomes rest on, and who is told.

use vouch_types::Findings;
use vouch_types::findings::{FACTS_MAX, FINDING_TEXT_MAX};
use vouch_wire::convert::limits::{FINDINGS_BYTES_MAX, FINDINGS_PER_ANSWER_MAX};

use super::*;

fn found(facts: usize, value: &str) -> Findings {
    Findings { facts: vec![("status".to_owned(), value.to_owned()); facts], ..Findings::default() }
}

/// Asks about these VMs, ends what was begun for it, and returns the findings of the answers.
fn asked(bench: &mut Bench, vms: u8, findings: bool, found: &Findings) -> Vec<proto::Findings> {
    let vms = (1..=vms).map(|n| vm(n).get().as_bytes().to_vec()).collect();
    let (nonce, deadline_micros) = (71, 400_000);
    bench.hear(M1, Heard::Ask(proto::Ask { nonce, deadline_micros, vms, findings, ..Default::default() }));
    for run in std::mem::take(&mut bench.runs) {
        let ended = Ended::probe(Outcome::Degraded, "status", "text").finding(found.clone());
        bench.event(Event::RunEnded { run: run.id, ended });
    }
    bench.pass(Duration::from_millis(10));
    bench.answers().into_iter().flat_map(|answer| answer.findings).collect()
}

fn bench(vms: u8) -> Bench {
    let mut bench = Bench::new(vms);
    bench.pass(Duration::from_millis(1000));
    bench.end_runs(Outcome::Up);
    bench
}

#[test]
fn they_are_told_to_asks_that_want_to_know() {
    let mut bench = bench(1);
    assert_eq!(asked(&mut bench, 1, false, &found(1, "200")), []);
    let told = asked(&mut bench, 1, true, &found(1, "200"));
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].probe.as_str(), told[0].facts[0].value.as_str()), ("tcp", "200"));
    assert_eq!(asked(&mut bench, 1, true, &Findings::default()), [], "there is nothing to tell");
}

#[test]
fn what_is_kept_for_reports_has_none() {
    let plain = Ended::probe(Outcome::Up, "answered", "text");
    assert_eq!(plain.clone().finding(found(1, "200")).for_reports(), plain);
}

#[test]
fn an_answer_has_as_many_of_them_as_it_may() {
    let many = u8::try_from(FINDINGS_PER_ANSWER_MAX).unwrap() + 1;
    assert_eq!(asked(&mut bench(many), many, true, &found(1, "200")).len(), FINDINGS_PER_ANSWER_MAX);
    let large = found(FACTS_MAX, &"x".repeat(FINDING_TEXT_MAX));
    let room = FINDINGS_BYTES_MAX / large.bytes();
    assert!(room < FINDINGS_PER_ANSWER_MAX, "each of the limits is hit");
    assert_eq!(asked(&mut bench(many), many, true, &large).len(), room);
}
