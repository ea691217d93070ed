//! What follows when the leader's stream ends: an election as soon as its lease is over.
//!
//! An election timeout is the lease and a random part, which keeps followers from asking for votes at the same moment.
//! When the stream that the leader appends over is reset, its followers know more than its silence tells: they can do
//! without the random part, and go one after the other by their ids. openraft ends its streams whenever it has sent all
//! that there was, so the leader holds one more open to each follower (`presence.rs`), which ends with it alone. The
//! lease is always waited out, or reads under it would lie; and votes are asked for by Pre-Vote alone, so that a leader
//! which others hear is never disturbed. What comes to nothing here is left to the ordinary timeout.

use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::sync::{mpsc, watch};
use vouch_types::ManagerId;

use super::config::ConsensusConfig;
use super::consensus::Raft;
use super::runtime::SeededRuntime;
use super::status::{ConsensusStatus, Role};

/// How many ends of streams wait to be looked at; more are left to the ordinary timeout.
const ENDED_MAX: usize = 16;
/// How often each follower asks.
const ROUNDS: u32 = 2;

/// Tells the task that elects when a stream ends. Cheap to clone.
#[derive(Clone)]
pub(super) struct Succession(mpsc::Sender<ManagerId>);

/// Held by a stream while it lasts.
pub(super) struct StreamHeld {
    from: ManagerId,
    /// Told when it ends otherwise than in order.
    cut_off: Option<mpsc::Sender<ManagerId>>,
}

impl StreamHeld {
    /// The other manager ended it, as it does whenever it has sent what there was: that tells nothing.
    pub(super) fn ended_in_order(mut self) {
        self.cut_off = None;
    }
}

impl Drop for StreamHeld {
    fn drop(&mut self) {
        let Some(cut_off) = &self.cut_off else { return };
        // Full: those before it lead to the same election. Closed: this manager stops.
        let _ = cut_off.try_send(self.from);
    }
}

impl Succession {
    /// Starts the task; it ends with the last clone of what this returns.
    pub(super) fn start(raft: Raft, status: watch::Receiver<ConsensusStatus>, config: &ConsensusConfig) -> Self {
        let (ended, ends) = mpsc::channel(ENDED_MAX);
        let task = Task { raft, status, lease: config.election_max, step: config.heartbeat };
        let _task = SeededRuntime::spawn(task.run(ends));
        Self(ended)
    }

    /// Notes that a manager has opened a stream to append over.
    pub(super) fn opened(&self, from: ManagerId) -> StreamHeld {
        StreamHeld { from, cut_off: Some(self.0.clone()) }
    }
}

struct Task {
    raft: Raft,
    status: watch::Receiver<ConsensusStatus>,
    lease: Duration,
    /// Time between one follower and the next.
    step: Duration,
}

impl Task {
    async fn run(self, mut ends: mpsc::Receiver<ManagerId>) {
        while let Some(from) = ends.recv().await {
            self.succeed(from).await;
        }
    }

    async fn succeed(&self, leader: ManagerId) {
        let reset = tokio::time::Instant::now();
        let Some(Place { behind, of }) = place(&self.status.borrow(), leader) else { return };
        for round in 0..ROUNDS {
            tokio::time::sleep_until(reset + self.lease + self.step * (behind + of * round)).await;
            if place(&self.status.borrow(), leader).is_none() {
                return;
            }
            tracing::info!(leader = %leader, round, "the stream of the leader was reset: asking for votes");
            // Refused, and nothing sent, if the leader was heard again meanwhile. Fails if consensus has stopped.
            if self.raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }
}

/// Where a follower stands among those that may follow the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    /// How many go first.
    behind: u32,
    /// How many there are.
    of: u32,
}

/// Returns the place of a manager that follows `leader` and has a vote.
fn place(status: &ConsensusStatus, leader: ManagerId) -> Option<Place> {
    if status.role != Role::Follower || status.leader != Some(leader) {
        return None;
    }
    let heirs = || status.voters.keys().filter(|id| **id != leader);
    let behind = heirs().position(|id| *id == status.manager)?;
    Some(Place { behind: u32::try_from(behind).ok()?, of: u32::try_from(heirs().count()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_is_ended_in_order_tells_nothing_and_one_that_is_cut_off_does() {
        let (sender, mut cut_off) = mpsc::channel(ENDED_MAX);
        let succession = Succession(sender);
        succession.opened(ManagerId::new(1)).ended_in_order();
        assert!(cut_off.try_recv().is_err());
        drop(succession.opened(ManagerId::new(2)));
        assert_eq!(cut_off.try_recv(), Ok(ManagerId::new(2)));
        // More than can be looked at are left to the ordinary timeout.
        (0..=ENDED_MAX).for_each(|_| drop(succession.opened(ManagerId::new(3))));
        assert_eq!(std::iter::from_fn(|| cut_off.try_recv().ok()).count(), ENDED_MAX);
    }
}
