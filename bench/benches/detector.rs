//! The detector's single operations: taking in an observation or a report, and judging everything once.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use vouch_bench::fleet::{Fleet, VMS_PER_NODE};
use vouch_detector::Event;
use vouch_types::Outcome;

/// VMs of the fleet that takes in words.
const INGEST_VMS: usize = 10_000;
/// VMs of the full pass.
const PASS_VMS: usize = 100_000;

fn ingest(c: &mut Criterion) {
    let mut group = c.benchmark_group("ingest");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    let mut fleet = Fleet::new(INGEST_VMS);
    let seen: Vec<_> = (0..INGEST_VMS).map(|n| fleet.seen(n * 7 % INGEST_VMS, 1, Outcome::Up)).collect();
    let mut next = seen.iter().cycle();
    group.bench_function("observation, nothing new", |b| {
        b.iter_batched(
            || next.next().cloned().expect("a cycle has no end"),
            |seen| black_box(fleet.handle(Event::Observed(seen))),
            BatchSize::SmallInput,
        );
    });
    group.finish();

    let mut group = c.benchmark_group("report");
    group.throughput(Throughput::Elements(VMS_PER_NODE as u64));
    for (name, full) in [("of a node, nothing changed", false), ("of a node, full", true)] {
        let mut fleet = Fleet::new(INGEST_VMS);
        let reports: Vec<_> = (0..INGEST_VMS / VMS_PER_NODE).map(|n| fleet.report(n, full)).collect();
        let mut next = reports.iter().cycle();
        group.bench_function(name, |b| {
            b.iter_batched(
                || next.next().cloned().expect("a cycle has no end"),
                |report| black_box(fleet.handle(Event::NodeReported(report))),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn pass(c: &mut Criterion) {
    let mut group = c.benchmark_group("pass");
    group.throughput(Throughput::Elements(PASS_VMS as u64)).sample_size(10);
    let mut fleet = Fleet::new(PASS_VMS);
    group.bench_function("all of 100,000 VMs judged", |b| b.iter(|| black_box(fleet.judge_all())));
    group.bench_function("a tick over 100,000 VMs, nothing new", |b| {
        b.iter(|| black_box(fleet.handle(Event::Ticked)));
    });
    group.finish();
}

criterion_group!(benches, ingest, pass);
criterion_main!(benches);
