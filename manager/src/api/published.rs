//! What the API needs of consensus: the applied state, its place in the cluster, the proof that a read is current, and
//! a way to propose.
//!
//! A trait, so that tests serve a state of their own; [`Consensus`] is the implementation that counts.

use async_trait::async_trait;
use tokio::sync::watch;
use vouch_types::{Applied, Command, LogIndex};

use crate::raft::{Consensus, ConsensusStatus, Consistency, ProposeError, ReadError};
use crate::store::State;

/// Consensus as the API sees it.
#[async_trait]
pub trait Published: Send + Sync + 'static {
    /// Shows the applied state, once; nothing is applied meanwhile.
    fn look(&self, look: &mut dyn FnMut(&State));

    /// Returns this manager's place in the cluster.
    fn status(&self) -> ConsensusStatus;

    /// Returns the index up to which commands are applied, and its changes.
    fn applied(&self) -> watch::Receiver<LogIndex>;

    /// Makes sure that the applied state holds everything that was committed before the call. Only the leader can.
    ///
    /// # Errors
    /// [`ReadError`] when this manager does not lead, or no quorum says so.
    async fn ensure_current(&self, consistency: Consistency) -> Result<(), ReadError>;

    /// Has a command committed. Only the leader can.
    ///
    /// # Errors
    /// [`ProposeError`] when it was not, or may not have been.
    async fn propose(&self, command: Command) -> Result<Applied, ProposeError>;
}

#[async_trait]
impl Published for Consensus {
    fn look(&self, look: &mut dyn FnMut(&State)) {
        self.read_state(|state| look(state));
    }

    fn status(&self) -> ConsensusStatus {
        Consensus::status(self)
    }

    fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied_index()
    }

    async fn ensure_current(&self, consistency: Consistency) -> Result<(), ReadError> {
        Consensus::ensure_current(self, consistency).await
    }

    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        Consensus::propose(self, command).await
    }
}

/// Returns what `read` makes of the applied state.
pub fn read<T>(published: &dyn Published, read: impl FnOnce(&State) -> T) -> T {
    let (mut read, mut out) = (Some(read), None);
    published.look(&mut |state| {
        if let Some(read) = read.take() {
            out = Some(read(state));
        }
    });
    out.expect("look shows the state once")
}
