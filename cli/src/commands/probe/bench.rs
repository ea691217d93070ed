//! `vouch probe bench`: how fast a component is, and what it costs.

use std::time::Duration;

use serde::Serialize;
use vouch_probe_kit::{Benched, Load, Trial, bench};

use super::run::{open, plan};
use super::runtime;
use crate::args::{Global, ProbeBenchArgs};
use crate::exit::CliError;
use crate::output::Output;

/// What was measured, as programs read it.
#[derive(Debug, Serialize)]
struct BenchDocument {
    runs: usize,
    concurrency: u32,
    took_us: u64,
    runs_per_second: f64,
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    cpu_per_run_us: u64,
    memory_peak_bytes: Option<u64>,
    found: Vec<FoundDocument>,
}

#[derive(Debug, Serialize)]
struct FoundDocument {
    state: &'static str,
    reason: String,
    runs: u64,
}

/// Measures a component.
///
/// # Errors
/// A file that is no probe, or a fake that cannot be started.
pub fn run(global: &Global, args: &ProbeBenchArgs) -> Result<(), CliError> {
    let plan = plan(&args.aim)?;
    let file = open(&args.file)?;
    let benched = runtime()?.block_on(async {
        let trial = Trial::start(&file, &plan).await?;
        // What is done once in a probe's life is not measured.
        let _ = trial.run_bare().await;
        Ok::<_, CliError>(bench(trial, Load::new(args.concurrency, args.lasts)).await)
    })?;
    let document = document(args.concurrency, &benched);
    Output::new(global).show(&document, |_| tell(&document))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn document(concurrency: u32, benched: &Benched) -> BenchDocument {
    let found = benched.found.iter().map(|((state, reason), runs)| FoundDocument {
        state,
        reason: reason.clone(),
        runs: *runs,
    });
    BenchDocument {
        runs: benched.times.len(),
        concurrency,
        took_us: micros(benched.took),
        runs_per_second: benched.rate(),
        p50_us: benched.percentile(50).map(micros),
        p99_us: benched.percentile(99).map(micros),
        cpu_per_run_us: micros(benched.cpu_per_run),
        memory_peak_bytes: benched.memory_peak,
        found: found.collect(),
    }
}

fn tell(bench: &BenchDocument) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text += &format!("{name:<9}{value}\n");
    let seconds = bench.took_us as f64 / 1e6;
    line("runs", format!("{} in {seconds:.1} s, {} at a time", bench.runs, bench.concurrency));
    line("rate", format!("{:.0} per second", bench.runs_per_second));
    let time = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros} us"));
    line("p50", time(bench.p50_us));
    line("p99", time(bench.p99_us));
    line("cpu", format!("{} us per run", bench.cpu_per_run_us));
    if let Some(bytes) = bench.memory_peak_bytes {
        line("memory", format!("{:.1} MiB at most, of the whole process", bytes as f64 / 1_048_576.0));
    }
    for found in &bench.found {
        line("found", format!("{} {} x{}", found.state, found.reason, found.runs));
    }
    text
}
