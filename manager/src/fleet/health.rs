//! How the managers themselves are, as they tell each other: whether their disks have room, and whether their states are
//! the same.
//!
//! A manager tells the hashes of its state at its newest checkpoints. Whoever has applied the same entry compares: states
//! that differ there are no lag but damage, or an apply that is not the same everywhere, and one of the two lies to its
//! readers. It is told in `/readyz`, `/metrics` and the log until later checkpoints agree again.
//!
//! A manager tells the name of its log as well. One whose log is not the one that is recorded of it has lost that.
//!
//! Its lock is held alone.

use std::collections::{BTreeMap, BTreeSet};

use vouch_detector::{DiskWord, Event};
use vouch_types::{LogIndex, LogName, ManagerId, RecordedLog};
use vouch_wire::{convert, proto};

use super::Fleet;
use crate::raft::{Checkpoint, Room};
use crate::store::StateDigest;

/// Where the state of another manager is not the same as this one's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Divergence {
    /// The entry at which it was found.
    pub(crate) index: LogIndex,
    /// The hash here.
    pub(crate) own: StateDigest,
    /// The hash there.
    pub(crate) theirs: StateDigest,
}

/// What is known of the managers' health.
#[derive(Debug, Default)]
pub(crate) struct HealthBook {
    rooms: BTreeMap<ManagerId, Room>,
    diverged: BTreeMap<ManagerId, Divergence>,
    latest: BTreeMap<ManagerId, Compared>,
    compared: u64,
    logs: BTreeMap<ManagerId, ToldLog>,
}

/// The log that another manager says it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ToldLog {
    name: LogName,
    /// Whether it was found to be another one than is recorded.
    alarmed: bool,
}

/// The newest entry at which the state of another manager was compared with this one's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Compared {
    /// The entry.
    pub(crate) index: LogIndex,
    /// The hash there.
    pub(crate) theirs: StateDigest,
    /// Whether it is the hash here.
    pub(crate) agrees: bool,
}

/// What became of a comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Verdict {
    Began(Divergence),
    Ended,
    Same,
}

impl HealthBook {
    fn forget(&mut self, manager: ManagerId) {
        self.rooms.remove(&manager);
        self.diverged.remove(&manager);
        self.latest.remove(&manager);
        self.logs.remove(&manager);
    }

    /// Takes in which log a manager says it has. Returns the recorded one, once, where that is another.
    fn told_log(&mut self, manager: ManagerId, name: LogName, recorded: Option<RecordedLog>) -> Option<LogName> {
        let told = self.logs.entry(manager).or_insert(ToldLog { name, alarmed: false });
        if told.name != name {
            *told = ToldLog { name, alarmed: false };
        }
        let lost = recorded.map(|log| log.name).filter(|recorded| *recorded != name);
        let before = std::mem::replace(&mut told.alarmed, lost.is_some());
        lost.filter(|_| !before)
    }

    /// Compares a checkpoint of another manager with the one here at the same entry.
    fn compare(&mut self, other: ManagerId, index: LogIndex, own: &StateDigest, theirs: &StateDigest) -> Verdict {
        let Some(agrees) = own.agrees(theirs) else { return Verdict::Same };
        self.compared += 1;
        if self.latest.get(&other).is_none_or(|latest| latest.index <= index) {
            self.latest.insert(other, Compared { index, theirs: theirs.clone(), agrees });
        }
        match (agrees, self.diverged.get(&other)) {
            (false, None) => {
                let divergence = Divergence { index, own: own.clone(), theirs: theirs.clone() };
                self.diverged.insert(other, divergence.clone());
                Verdict::Began(divergence)
            }
            (true, Some(known)) if index > known.index => {
                self.diverged.remove(&other);
                Verdict::Ended
            }
            (false | true, _) => Verdict::Same,
        }
    }
}

fn told(checkpoint: Checkpoint) -> proto::StateCheckpoint {
    proto::StateCheckpoint {
        log_index: checkpoint.index.get(),
        encoding: checkpoint.digest.encoding().to_owned(),
        sum: checkpoint.digest.to_string(),
    }
}

impl Fleet {
    /// Returns how this manager is, as it tells the others.
    pub(super) fn own_health(&self) -> proto::ManagerHealth {
        let disk_low = self.parts().consensus.room() == Room::Low;
        let checkpoints = self.parts().consensus.newest_checkpoints().into_iter().map(told).collect();
        let log = convert::log_bytes(self.parts().consensus.log_name());
        proto::ManagerHealth { disk_low, checkpoints, log }
    }

    /// Takes in how another manager says it is. Returns what the detector is to know of it.
    pub(super) fn take_health(&self, from: ManagerId, health: proto::ManagerHealth) -> Event {
        let room = if health.disk_low { Room::Low } else { Room::Enough };
        self.health().rooms.insert(from, room);
        let disk = if health.disk_low { DiskWord::Low } else { DiskWord::Enough };
        let event = Event::ManagerDiskTold { manager: from, disk };
        // Older managers tell none.
        if let Ok(name) = convert::log_name("evidence.health.log", &health.log) {
            self.take_log(from, name);
        }
        for checkpoint in health.checkpoints {
            let index = LogIndex::new(checkpoint.log_index);
            let theirs = StateDigest::told(checkpoint.encoding, checkpoint.sum);
            let Some(own) = self.parts().consensus.checkpoint(index) else { continue };
            let verdict = self.health().compare(from, index, &own, &theirs);
            match verdict {
                Verdict::Began(found) => tracing::error!(
                    manager_id = %self.parts().own,
                    other = %from,
                    log_index = %found.index,
                    own = %found.own,
                    theirs = %found.theirs,
                    "managers hold different states"
                ),
                Verdict::Ended => {
                    tracing::info!(manager_id = %self.parts().own, other = %from, "managers hold the same state again");
                }
                Verdict::Same => {}
            }
        }
        event
    }

    fn take_log(&self, from: ManagerId, name: LogName) {
        let recorded = self.parts().consensus.read_state(|state| state.recorded_log(from));
        if let Some(recorded) = self.health().told_log(from, name, recorded) {
            tracing::error!(
                manager_id = %self.parts().own,
                other = %from,
                %recorded,
                told = %name,
                "a manager has lost its log: the leader removes it and adds it again"
            );
        }
    }

    /// Returns the logs that the managers say they have, this one included.
    pub(crate) fn told_logs(&self) -> BTreeMap<ManagerId, LogName> {
        let own = (self.parts().own, self.parts().consensus.log_name());
        self.health().logs.iter().map(|(id, told)| (*id, told.name)).chain([own]).collect()
    }

    /// Returns the other managers that have lost their logs, and are not yet what they were before.
    pub(crate) fn lost_logs(&self) -> BTreeSet<ManagerId> {
        let (own, told) = (self.parts().own, self.told_logs());
        self.parts().consensus.read_state(|state| {
            let records = state.manager_records().iter().filter(|record| record.id != own);
            let other = |id, name: LogName| told.get(id).is_some_and(|told| *told != name);
            let lost = records.filter(|record| {
                record.returning.is_some() || record.log.is_some_and(|log| other(&record.id, log.name))
            });
            lost.map(|record| record.id).collect()
        })
    }

    /// Returns the other managers that are heard and whose disks have room.
    pub(crate) fn managers_with_room(&self) -> BTreeSet<ManagerId> {
        let mut heard = self.managers_heard(self.parts().clock.now() - self.parts().timing.window);
        let health = self.health();
        heard.retain(|id| health.rooms.get(id) == Some(&Room::Enough));
        heard
    }

    /// Forgets how a manager is that is no member any more.
    pub(super) fn forget_health(&self, manager: ManagerId) {
        self.health().forget(manager);
    }

    /// Returns the other managers that say that their disks are low.
    pub(crate) fn managers_without_room(&self) -> Vec<ManagerId> {
        self.health().rooms.iter().filter(|(_, room)| **room == Room::Low).map(|(id, _)| *id).collect()
    }

    /// Returns where the states of other managers differ from this one's.
    pub(crate) fn divergences(&self) -> BTreeMap<ManagerId, Divergence> {
        self.health().diverged.clone()
    }

    /// Returns how the states of the other managers compared last.
    pub(crate) fn compared_with(&self) -> BTreeMap<ManagerId, Compared> {
        self.health().latest.clone()
    }

    /// Returns how many checkpoints were compared.
    pub(crate) fn checkpoints_compared(&self) -> u64 {
        self.health().compared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(sum: &str) -> StateDigest {
        StateDigest::told("1".to_owned(), sum.to_owned())
    }

    #[test]
    fn a_divergence_begins_once_and_ends_only_at_a_later_entry_that_agrees() {
        let mut book = HealthBook::default();
        let (other, at) = (ManagerId::new(2), LogIndex::new);
        assert_eq!(book.compare(other, at(64), &digest("a"), &digest("a")), Verdict::Same);
        let found = Divergence { index: at(128), own: digest("a"), theirs: digest("b") };
        assert_eq!(book.compare(other, at(128), &digest("a"), &digest("b")), Verdict::Began(found.clone()));
        assert_eq!(book.compare(other, at(192), &digest("c"), &digest("d")), Verdict::Same, "told once");
        assert_eq!(book.compare(other, at(64), &digest("a"), &digest("a")), Verdict::Same, "an earlier one is no news");
        assert_eq!(book.diverged.get(&other), Some(&found));
        let latest = Compared { index: at(192), theirs: digest("d"), agrees: false };
        assert_eq!(book.latest.get(&other), Some(&latest), "the newest one is shown");
        assert_eq!(book.compare(other, at(256), &digest("e"), &digest("e")), Verdict::Ended);
        assert!(book.diverged.is_empty());
    }

    #[test]
    fn one_that_is_no_member_any_more_alarms_nobody() {
        let (mut book, gone) = (HealthBook::default(), ManagerId::new(2));
        book.rooms.insert(gone, Room::Low);
        book.compare(gone, LogIndex::new(64), &digest("a"), &digest("b"));
        book.forget(gone);
        assert!(book.rooms.is_empty() && book.diverged.is_empty() && book.latest.is_empty());
    }

    #[test]
    fn a_lost_log_is_told_once_and_again_only_when_another_one_is_lost() {
        let log = |number| LogName::new(uuid::Uuid::from_u128(number));
        let recorded = |number| Some(RecordedLog { name: log(number), index: LogIndex::new(1) });
        let (mut book, m2) = (HealthBook::default(), ManagerId::new(2));
        assert_eq!(book.told_log(m2, log(7), None), None);
        assert_eq!(book.told_log(m2, log(7), recorded(7)), None);
        assert_eq!(book.told_log(m2, log(8), recorded(7)), Some(log(7)));
        assert_eq!(book.told_log(m2, log(8), recorded(7)), None, "told once");
        assert_eq!(book.told_log(m2, log(8), None), None, "it was removed");
        assert_eq!(book.told_log(m2, log(8), recorded(8)), None);
        assert_eq!(book.told_log(m2, log(9), recorded(8)), Some(log(8)));
    }

    #[test]
    fn hashes_of_another_encoding_are_passed_over() {
        let mut book = HealthBook::default();
        let other = StateDigest::told("2".to_owned(), "b".to_owned());
        assert_eq!(book.compare(ManagerId::new(2), LogIndex::new(64), &digest("a"), &other), Verdict::Same);
        assert!(book.diverged.is_empty() && book.compared == 0);
    }
}
