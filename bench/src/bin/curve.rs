//! `vouch-bench-curve`: what the detector costs against the number of VMs, as a table and a plot.
//!
//! It counts allocated bytes with an allocator of its own, and times operations by the processor time of its thread, the
//! best of several rounds: what else the machine does disturbs them little, though caches are shared.

#![expect(clippy::print_stdout, reason = "a command talks to its terminal")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use vouch_bench::fleet::Fleet;
use vouch_bench::svg::{Line, plot};
use vouch_detector::Event;
use vouch_types::Outcome;

/// Rounds of each timing; the best counts.
const ROUNDS: usize = 5;
/// Single operations per round.
const OPERATIONS: usize = 2_000;

/// Bytes that are allocated now.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of what it gave.
struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one only counts and hands on to the system's"
)]
// SAFETY: every call is handed on unchanged to `System`, which keeps the contract of `GlobalAlloc`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `System.alloc` with this layout, and the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Parser)]
#[command(name = "vouch-bench-curve", about = "What the detector costs against the number of VMs")]
struct Arguments {
    /// Numbers of VMs
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000])]
    vms: Vec<usize>,
    /// Where the plot goes
    #[arg(long, default_value = "bench/results/detector.svg")]
    plot: PathBuf,
}

/// What one size costs.
struct Cost {
    vms: usize,
    /// One observation that changes something, and the judgement that follows.
    changed: Duration,
    /// One observation that changes nothing.
    same: Duration,
    /// A tick with nothing new.
    tick: Duration,
    /// Every VM judged once.
    pass: Duration,
    /// One changed record, told alone, as the manager does after a commit.
    record: Duration,
    bytes_per_vm: usize,
}

fn best(mut once: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| once()).min().unwrap_or_default()
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = processor_time();
    work();
    processor_time().saturating_sub(begun)
}

fn processor_time() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(at.tv_sec).unwrap_or_default(), u32::try_from(at.tv_nsec).unwrap_or_default())
}

fn measure(vms: usize) -> Cost {
    let mut fleet = Fleet::new(vms);
    let observed = |fleet: &mut Fleet, changing: bool| {
        let outcome = |n: usize| if changing && n.is_multiple_of(2) { Outcome::Down } else { Outcome::Up };
        let stride = (vms / 97).max(1);
        let events: Vec<_> =
            (0..OPERATIONS).map(|n| Event::Observed(fleet.seen((n / 2 * stride) % vms, 1, outcome(n)))).collect();
        timed(|| {
            for event in events {
                fleet.handle(event);
            }
        }) / u32::try_from(OPERATIONS).unwrap_or(u32::MAX)
    };
    let changed = best(|| observed(&mut fleet, true));
    let same = best(|| observed(&mut fleet, false));
    let tick = best(|| {
        timed(|| {
            fleet.handle(Event::Ticked);
        })
    });
    let pass = best(|| {
        timed(|| {
            fleet.judge_all();
        })
    });
    let record = best(|| {
        let records = fleet.touch_record(vms / 2);
        timed(|| {
            fleet.handle(Event::RecordsChanged(records));
        })
    });
    let detector = fleet.into_detector();
    let with = LIVE.load(Ordering::Relaxed);
    drop(detector);
    let bytes_per_vm = (with - LIVE.load(Ordering::Relaxed)) / vms;
    Cost { vms, changed, same, tick, pass, record, bytes_per_vm }
}

fn micros(d: Duration) -> f64 {
    d.as_nanos() as f64 / 1_000.0
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!(
        "| VMs | changed observation (us) | same observation (us) | tick (us) | full pass (ms) | changed record (ms) | bytes per VM |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut costs = Vec::new();
    for vms in arguments.vms {
        let cost = measure(vms);
        println!(
            "| {} | {:.2} | {:.2} | {:.1} | {:.2} | {:.2} | {} |",
            cost.vms,
            micros(cost.changed),
            micros(cost.same),
            micros(cost.tick),
            micros(cost.pass) / 1_000.0,
            micros(cost.record) / 1_000.0,
            cost.bytes_per_vm,
        );
        costs.push(cost);
    }
    let line = |name: &str, of: &dyn Fn(&Cost) -> Duration| Line {
        name: name.to_owned(),
        points: costs.iter().map(|c| (c.vms as f64, micros(of(c)))).collect(),
    };
    let lines = [
        line("one changed observation", &|c| c.changed),
        line("one unchanged observation", &|c| c.same),
        line("a tick, nothing new", &|c| c.tick),
        line("every VM judged once", &|c| c.pass),
        line("one changed record", &|c| c.record),
    ];
    let svg = plot("Cost of the detector against the number of VMs", "VMs", "microseconds", &lines);
    match std::fs::write(&arguments.plot, svg) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}: {error}", arguments.plot.display());
            ExitCode::FAILURE
        }
    }
}
