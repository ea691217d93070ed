//! How many files a watcher may have open.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::driver::host_limits;
use crate::logic::RunLimit;

/// Files that are open beside those of runs: streams to managers and relays, the console.
const FILES_BESIDE: u64 = 1_024;

/// Lets this process open the files of so many runs; returns whether it may. Where it may not, it may as many as its host
/// allows.
pub fn allow_files_of(runs: RunLimit) -> bool {
    // The limit is the process's, and is only ever raised.
    static RAISED: Mutex<()> = Mutex::new(());
    let _one_at_a_time = RAISED.lock().unwrap_or_else(PoisonError::into_inner);
    let (wanted, given) = (host_limits(runs).files() + FILES_BESIDE, getrlimit(Resource::Nofile));
    if given.current.is_none_or(|given| given >= wanted) {
        return true;
    }
    // Root may raise what its host allows, too.
    let maximum = given.maximum.map(|most| most.max(wanted));
    let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) else { return true };
    let most = given.maximum;
    warn!(%error, wanted, most, "probes may find no file for their sockets: allow this process more (RLIMIT_NOFILE)");
    // As many as there are; where that is refused too, they stay as they were.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most });
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_open_what_its_runs_need() {
        let files = || getrlimit(Resource::Nofile).current;
        assert!(allow_files_of(RunLimit::LEAST));
        assert!(files().is_none_or(|given| given >= 3 * 256 + FILES_BESIDE));
        let before = files();
        assert!(allow_files_of(RunLimit::LEAST), "it has them");
        assert!(files() >= before, "what others had raised stays");
    }
}
