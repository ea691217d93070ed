//! Settings of consensus, and what our storage asks of openraft.

use std::time::Duration;

use openraft::SnapshotPolicy;
use vouch_types::Timing;

use super::proposals::GROUP_MAX;

/// How many entries are applied between two snapshots.
pub const SNAPSHOT_AFTER: u64 = 50_000;
/// How many entries stay in the log behind a snapshot, so that a manager which was away briefly needs no snapshot.
pub const LOG_KEPT: u64 = 5_000;
/// How long a whole snapshot may take to reach another manager.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long replication to a manager that cannot be reached pauses before it tries again, in heartbeats.
const BACKOFF_HEARTBEATS: u32 = 2;
/// How long an append may go unanswered before its stream is given up and opened again: at least this, so that a busy
/// disk is not taken for a dead link, and this many election timeouts.
const STALLED_AFTER_MIN: Duration = Duration::from_secs(5);
const STALLED_ELECTIONS: u32 = 4;

/// Settings of consensus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsensusConfig {
    /// Time between two heartbeats of the leader.
    pub heartbeat: Duration,
    /// Least random part of an election timeout.
    pub election_min: Duration,
    /// Greatest random part of an election timeout, and the leader's lease.
    pub election_max: Duration,
    /// How many entries are applied between two snapshots.
    pub snapshot_after: u64,
    /// How many entries stay in the log behind a snapshot.
    pub log_kept: u64,
}

impl From<&Timing> for ConsensusConfig {
    fn from(timing: &Timing) -> Self {
        Self {
            heartbeat: timing.raft_heartbeat,
            election_min: timing.raft_election_min,
            election_max: timing.raft_election_max,
            snapshot_after: SNAPSHOT_AFTER,
            log_kept: LOG_KEPT,
        }
    }
}

impl ConsensusConfig {
    pub(super) fn stalled_after(&self) -> Duration {
        STALLED_AFTER_MIN.max(self.election_max * STALLED_ELECTIONS)
    }

    pub(super) fn to_openraft(&self) -> Result<openraft::Config, openraft::ConfigError> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "vouch".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(SNAPSHOT_TIMEOUT),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_after),
            max_in_snapshot_log_to_keep: self.log_kept,
            // A group of proposals is one append, unless its commands are large.
            max_payload_entries: GROUP_MAX as u64,
            backoff: format!("{}ms", millis(self.heartbeat * BACKOFF_HEARTBEATS)),
            // A manager that comes back must not raise the term of a cluster that works.
            enable_pre_vote: Some(true),
            // Our log may lose what was not flushed: a leader that restarts has to be elected again.
            enable_leader_restore: Some(false),
            // The least that is allowed: the lease and one election.
            quorum_loss_probe_interval: Some(millis(self.election_max * 2)),
            ..openraft::Config::default()
        }
        .validate()
    }
}
