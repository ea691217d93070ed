//! How many files a watcher may have open.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::driver::host_limits;
use crate::logic::RunLimit;

/// Files that are open beside those of runs: streams to managers and relays, the console.
const FILES_BESIDE: u64 = 1_024;

/// Returns how many files a watcher with so many runs may have open at most.
pub(super) fn files_of(runs: RunLimit) -> u64 {
    host_limits(runs).files() + FILES_BESIDE
}

/// Lets this process open the files of so many runs, as far as its host allows it.
pub fn allow_files_of(runs: RunLimit) {
    // The limit is the process's, and is only ever raised.
    static RAISED: Mutex<()> = Mutex::new(());
    let _one_at_a_time = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    let (wanted, given) = (files_of(runs), getrlimit(Resource::Nofile));
    if given.current.is_none_or(|given| given >= wanted) {
        return;
    }
    let current = given.maximum.map_or(wanted, |most| most.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..given });
    if raised.is_err() || current < wanted {
        let allowed = getrlimit(Resource::Nofile).current;
        warn!(wanted, allowed, "probes may find no file for their sockets: allow this process more (RLIMIT_NOFILE)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_open_what_its_runs_need() {
        allow_files_of(RunLimit::LEAST);
        assert!(getrlimit(Resource::Nofile).current.is_none_or(|given| given >= 3 * 256 + FILES_BESIDE));
    }
}
