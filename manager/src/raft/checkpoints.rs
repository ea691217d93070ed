//! Hashes of the applied state at fixed entries of the log, to compare with other managers.

use std::collections::BTreeMap;

use vouch_types::LogIndex;

use crate::store::StateDigest;

/// Each entry whose index is a multiple of this is a checkpoint, on every manager.
pub const CHECKPOINT_EVERY: u64 = 64;
/// How many are kept: a manager that is this far behind is compared once it has caught up.
pub const CHECKPOINTS_MAX: usize = 64;
/// How many of the newest are told to the others.
pub const CHECKPOINTS_TOLD: usize = 4;

/// The hash of the state at an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The entry.
    pub index: LogIndex,
    /// The hash of the state once it was applied.
    pub digest: StateDigest,
}

/// The newest checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(BTreeMap<LogIndex, StateDigest>);

impl Checkpoints {
    pub(super) fn put(&mut self, index: LogIndex, digest: StateDigest) {
        self.0.insert(index, digest);
        while self.0.len() > CHECKPOINTS_MAX {
            self.0.pop_first();
        }
    }

    pub(super) fn get(&self, index: LogIndex) -> Option<StateDigest> {
        self.0.get(&index).cloned()
    }

    pub(super) fn newest(&self) -> Vec<Checkpoint> {
        let newest = self.0.iter().rev().take(CHECKPOINTS_TOLD);
        newest.map(|(index, digest)| Checkpoint { index: *index, digest: digest.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateHash;

    #[test]
    fn the_newest_checkpoints_are_kept_and_fewer_are_told() {
        let mut kept = Checkpoints::default();
        for index in 1..=2 * CHECKPOINTS_MAX as u64 {
            kept.put(LogIndex::new(index * CHECKPOINT_EVERY), StateHash::default().digest());
        }
        assert_eq!(kept.0.len(), CHECKPOINTS_MAX);
        assert_eq!(kept.get(LogIndex::new(CHECKPOINT_EVERY)), None);
        let told: Vec<u64> = kept.newest().iter().map(|c| c.index.get() / CHECKPOINT_EVERY).collect();
        assert_eq!(told, [128, 127, 126, 125]);
    }
}
