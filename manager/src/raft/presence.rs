//! The stream that a leader holds open to each follower for as long as it leads, and never sends anything over.
//!
//! When the leader's process ends, its kernel resets this stream at once, and the followers need not wait for silence
//! to last (`succession.rs`). It proves nothing else: a stream that stands says nothing of its leader, and one that
//! cannot be opened costs no more than the ordinary timeout.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use openraft::AsyncRuntime;
use tokio::sync::watch;
use vouch_types::ManagerId;
use vouch_wire::links::RaftLink;

use super::config::ConsensusConfig;
use super::log_guard::LogGuard;
use super::runtime::SeededRuntime;
use super::status::{ConsensusStatus, Role};

/// Starts the task that holds the streams; it ends with consensus.
pub(super) fn hold(
    link: Arc<dyn RaftLink>,
    guard: LogGuard,
    status: watch::Receiver<ConsensusStatus>,
    config: &ConsensusConfig,
) {
    let task = Task { link, guard, again: config.heartbeat };
    let _task = SeededRuntime::spawn(task.run(status));
}

struct Task {
    link: Arc<dyn RaftLink>,
    guard: LogGuard,
    /// Pause before a stream that ended, or could not be opened, is opened again.
    again: Duration,
}

impl Task {
    async fn run(self, mut status: watch::Receiver<ConsensusStatus>) {
        loop {
            let followers = followers(&status.borrow_and_update());
            let other = status.wait_for(|status| self::followers(status) != followers);
            let held = join_all(followers.iter().map(|to| self.hold(*to)));
            tokio::select! {
                biased;
                changed = other => if changed.is_err() { return },
                _ = held, if !followers.is_empty() => return,
            }
        }
    }

    /// Holds a stream, and opens it again when it ends. Never returns.
    async fn hold(&self, to: ManagerId) {
        loop {
            // An error is told by openraft's own calls, which take the same way.
            if let Ok(mut answers) = self.link.append_stream(to, self.guard.names(to), stream::pending().boxed()).await
            {
                while let Some(Ok(_)) = answers.next().await {}
            }
            tokio::time::sleep(self.again).await;
        }
    }
}

/// Returns those who may follow this manager, if it leads.
fn followers(status: &ConsensusStatus) -> BTreeSet<ManagerId> {
    if status.role != Role::Leader {
        return BTreeSet::new();
    }
    status.voters.keys().copied().filter(|id| *id != status.manager).collect()
}
