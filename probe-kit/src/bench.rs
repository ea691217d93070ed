//! How fast a probe is: runs per second, their times, and what they cost this process.
//!
//! A fake that is aimed at lives in the same process: its processor time and memory are among the figures, and so they
//! say what a probe costs at most.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

use crate::Trial;

/// The most runs of one bench; their times are kept.
pub const RUNS_MAX: usize = 1_000_000;

/// How a probe is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// How many runs at a time.
    pub concurrency: u32,
    /// How long: no run begins after that, and each that began is carried out.
    pub lasts: Duration,
    /// The most runs of each of those that go on at a time.
    pub runs_max: usize,
}

impl Load {
    /// Returns a load of so many runs at a time for so long, within [`RUNS_MAX`].
    pub fn new(concurrency: u32, lasts: Duration) -> Self {
        let concurrency = concurrency.max(1);
        Self { concurrency, lasts, runs_max: RUNS_MAX / usize::try_from(concurrency).unwrap_or(1) }
    }
}

/// What was measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Benched {
    /// How many runs came to each state and reason.
    pub found: BTreeMap<(&'static str, String), u64>,
    /// How long the whole took.
    pub took: Duration,
    /// Times of the runs, sorted.
    pub times: Vec<Duration>,
    /// Processor time of this process, per run.
    pub cpu_per_run: Duration,
    /// The most memory that this process had while it ran, in bytes; `None` where the kernel does not say.
    pub memory_peak: Option<u64>,
}

impl Benched {
    /// Returns how many runs there were per second.
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns the time that so many per cent of the runs did not exceed; `None` without a run.
    pub fn percentile(&self, per_cent: usize) -> Option<Duration> {
        let rank = (self.times.len() * per_cent).div_ceil(100).max(1);
        self.times.get(rank - 1).copied()
    }
}

/// Runs a probe again and again, as the load says.
pub async fn bench(trial: Trial, load: Load) -> Benched {
    let trial = Arc::new(trial);
    forget_peak();
    let (begun, cpu_before) = (Instant::now(), cpu());
    let mut tasks = JoinSet::new();
    for _ in 0..load.concurrency {
        let trial = Arc::clone(&trial);
        tasks.spawn(async move {
            let (mut found, mut times) = (BTreeMap::new(), Vec::new());
            while begun.elapsed() < load.lasts && times.len() < load.runs_max {
                let run_begun = Instant::now();
                let result = trial.run_bare().await;
                let took = run_begun.elapsed();
                times.push(took);
                *found.entry(crate::ran::said(&result)).or_insert(0) += 1;
            }
            (found, times)
        });
    }
    let (mut found, mut times) = (BTreeMap::new(), Vec::new());
    while let Some(joined) = tasks.join_next().await {
        // A task that panicked has nothing to add.
        let Ok((part, part_times)) = joined else { continue };
        for (said, count) in part {
            *found.entry(said).or_insert(0) += count;
        }
        times.extend(part_times);
    }
    let (took, cpu_spent) = (begun.elapsed(), cpu().saturating_sub(cpu_before));
    times.sort_unstable();
    let runs = u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
    Benched { found, took, times, cpu_per_run: cpu_spent / runs, memory_peak: memory_peak() }
}

fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let whole = Duration::from_secs(u64::try_from(spent.tv_sec).unwrap_or_default());
    whole + Duration::from_nanos(u64::try_from(spent.tv_nsec).unwrap_or_default())
}

/// Has the kernel begin anew with the peak (proc(5), clear_refs): the compiler needed more than any run.
fn forget_peak() {
    // Where it is not allowed, the peak holds the compiler too, which errs on the safe side.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

fn memory_peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> Benched {
        Benched {
            found: BTreeMap::new(),
            took: Duration::from_secs(2),
            times: times.into_iter().map(Duration::from_millis).collect(),
            cpu_per_run: Duration::ZERO,
            memory_peak: None,
        }
    }

    #[test]
    fn a_load_is_bounded_however_many_run_at_a_time() {
        for concurrency in [0, 1, 64] {
            let load = Load::new(concurrency, Duration::MAX);
            assert!(load.runs_max * usize::try_from(load.concurrency).unwrap() <= RUNS_MAX && load.runs_max > 0);
        }
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let hundred = of(1..=100);
        let at = |per_cent| hundred.percentile(per_cent).map(|time| time.as_millis());
        assert_eq!([at(50), at(99), at(100)], [Some(50), Some(99), Some(100)]);
        assert_eq!(hundred.rate(), 50.0);
        assert_eq!(of([7]).percentile(1), Some(Duration::from_millis(7)));
        assert_eq!(of([]).percentile(50), None);
    }
}
