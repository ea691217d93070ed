//! Whether log, snapshot and projection of one manager can be of one life.
//!
//! A manager that lost part of what it stored looks like one that never had it: it would vote again in a term in which it
//! voted, or help to elect somebody who lacks what it acknowledged. Pure: who reads the stores asks before anything
//! starts.

use thiserror::Error;

use crate::raft::{LogId, Vote, log_id_term};

/// How far each store of one manager has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stored {
    /// The vote, kept in the log.
    pub vote: Option<Vote>,
    /// The last entry of the log, or the last one that was purged from it.
    pub last: Option<LogId>,
    /// The last entry that was purged from the log.
    pub purged: Option<LogId>,
    /// The last entry that the snapshot covers.
    pub snapshot: Option<LogId>,
    /// The last entry that the projection has applied.
    pub applied: Option<LogId>,
}

/// What is missing. Whatever it is, the way out is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Missing {
    /// The end of the log.
    #[error(
        "the log ends at {}, and {} was applied from it: what it acknowledged is lost{WAY_OUT}",
        said(.last),
        said(.applied)
    )]
    Entries {
        /// Where the log, or the snapshot, ends.
        last: Option<LogId>,
        /// What was applied.
        applied: Option<LogId>,
    },
    /// The vote.
    #[error("the last vote is of term {vote}, and there is an entry of term {stored}: a later vote is lost{WAY_OUT}")]
    Vote {
        /// Term of the vote.
        vote: u64,
        /// Highest term of what is stored.
        stored: u64,
    },
    /// The snapshot.
    #[error(
        "the log begins after {}, and the snapshot covers {}: what is between them is lost{WAY_OUT}",
        said(.purged),
        said(.snapshot)
    )]
    Snapshot {
        /// Up to where the log was purged.
        purged: Option<LogId>,
        /// What the snapshot covers.
        snapshot: Option<LogId>,
    },
}

const WAY_OUT: &str = "; remove this manager's data folder and start it again: it rejoins the cluster by itself";

fn said(id: &Option<LogId>) -> String {
    id.map_or_else(|| "nothing".to_owned(), |id| format!("entry {id}"))
}

impl Stored {
    /// Checks that nothing is missing.
    ///
    /// A snapshot beyond the end of the log is none: it was received, and a crash came before the log was purged.
    ///
    /// # Errors
    /// [`Missing`] says what is.
    pub fn check(&self) -> Result<(), Missing> {
        let end = self.last.max(self.snapshot);
        if self.applied > end {
            return Err(Missing::Entries { last: end, applied: self.applied });
        }
        if self.purged > self.snapshot {
            return Err(Missing::Snapshot { purged: self.purged, snapshot: self.snapshot });
        }
        let vote = self.vote.map_or(0, |vote| vote.leader_id.term);
        let stored = end.map_or(0, |id| log_id_term(&id).get());
        if vote < stored {
            return Err(Missing::Vote { vote, stored });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::leader_id_std::CommittedLeaderId;

    use super::*;

    fn id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(CommittedLeaderId::new(term), index))
    }

    fn stored() -> Stored {
        let vote = Some(Vote::new_committed(3, 1));
        Stored { vote, last: id(3, 100), purged: id(2, 40), snapshot: id(2, 50), applied: id(3, 99) }
    }

    fn refused(stored: Stored) -> String {
        let text = stored.check().expect_err("refused").to_string();
        assert!(text.contains("rejoins the cluster by itself"), "{text}");
        text
    }

    #[test]
    fn stores_of_one_life_agree() {
        assert_eq!(Stored::default().check(), Ok(()));
        assert_eq!(stored().check(), Ok(()));
        assert_eq!(Stored { applied: None, ..stored() }.check(), Ok(()), "the projection was wiped");
        let received = Stored { snapshot: id(3, 500), ..stored() };
        assert_eq!(received.check(), Ok(()), "a crash between a received snapshot and the purge");
        assert_eq!(Stored { applied: id(3, 500), ..received }.check(), Ok(()));
    }

    #[test]
    fn a_log_that_lost_what_was_applied_is_refused() {
        let text = refused(Stored { last: id(3, 98), ..stored() });
        assert!(text.contains("98") && text.contains("99"), "{text}");
    }

    #[test]
    fn a_log_that_lost_its_vote_is_refused() {
        refused(Stored { vote: None, ..stored() });
        let text = refused(Stored { vote: Some(Vote::new(2, 1)), ..stored() });
        assert!(text.contains("term 2") && text.contains("term 3"), "{text}");
        refused(Stored { vote: None, last: None, purged: None, applied: None, ..stored() });
    }

    #[test]
    fn a_purged_log_without_the_snapshot_that_covers_it_is_refused() {
        refused(Stored { snapshot: None, ..stored() });
        refused(Stored { snapshot: id(2, 39), ..stored() });
    }
}
