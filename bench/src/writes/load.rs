//! The load: so many clients, each of which writes, waits for the answer, and writes again.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::{BoxFuture, try_join_all};

/// One write of a client: its number, and how many writes it made before.
pub type Write = Arc<dyn Fn(usize, u64) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What a run showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Writes per second.
    pub per_second: f64,
    /// Median time of a write.
    pub p50: Duration,
    /// Time that one write in a hundred takes longer than.
    pub p99: Duration,
}

/// Returns the value below which `share` of the sorted values lie.
///
/// # Panics
/// When there are no values.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    assert!(!sorted.is_empty(), "there are values");
    // The share is at most 1 and a run has far fewer than 2^52 writes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "see above"
    )]
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len());
    sorted[at - 1]
}

/// Runs clients for so long, after a tenth of it in which nothing is counted.
///
/// # Errors
/// The first write that failed: a benchmark of failed writes says nothing.
pub async fn run(write: Write, clients: usize, lasts: Duration) -> Result<Measured> {
    let warm = Instant::now() + lasts / 10;
    let end = warm + lasts;
    let one = |client: usize| client_task(Arc::clone(&write), client, warm, end);
    let all: Vec<Vec<Duration>> = try_join_all((0..clients).map(|client| spawn(one(client)))).await?;
    let mut times: Vec<Duration> = all.into_iter().flatten().collect();
    ensure!(!times.is_empty(), "no write ended within {lasts:?}");
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a run has far fewer than 2^52 writes")]
    let per_second = times.len() as f64 / lasts.as_secs_f64();
    Ok(Measured { per_second, p50: percentile(&times, 0.5), p99: percentile(&times, 0.99) })
}

async fn spawn<T: Send + 'static>(task: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    tokio::spawn(task).await?
}

async fn client_task(write: Write, client: usize, warm: Instant, end: Instant) -> Result<Vec<Duration>> {
    let (mut times, mut number) = (Vec::new(), 0);
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(times);
        }
        write(client, number).await?;
        number += 1;
        if begun >= warm {
            times.push(begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&times[..1], 0.99), Duration::from_millis(1));
    }
}
