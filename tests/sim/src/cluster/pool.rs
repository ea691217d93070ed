//! Spreads independent simulations over the cores: each on a thread and a runtime of its own, so that none disturbs
//! another's seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Stack of a thread: whole managers are polled on it.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// Does the work for each item on as many threads as there are cores; the results are in the order of the items. One
/// that panicked has none.
pub fn each<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> T + Sync) -> Vec<Option<T>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let body = || {
                while let Some((index, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
                {
                    let done = catch_unwind(AssertUnwindSafe(|| work(item))).ok();
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, done));
                }
            };
            let started = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, body);
            started.expect("the system gives a thread per core");
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, done)| done).collect()
}
