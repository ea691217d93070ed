//! Nonces of asks as they travel, and when each was asked.
//!
//! A detector's nonces are unique within its process. A watcher and a relay hear several managers over time, and a
//! statement repeats the nonce under its signature, so a travelling nonce also names the manager and its life:
//!
//! ```text
//!  63      56 55                  32 31                 0
//!  | manager | life (ms, lowest 24) | nonce, lowest 32  |
//! ```
//!
//! So whoever hears an answer can tell whose it is, and an old statement cannot pass for the answer to a new ask.

use std::collections::BTreeMap;

use vouch_types::{Incarnation, ManagerId, Moment, Nonce, WatcherId};

/// How many asks are remembered whose answers may still come.
pub(crate) const ASKS_KEPT: usize = 4_096;

const MANAGER_SHIFT: u32 = 56;
const LIFE_SHIFT: u32 = 32;
const LIFE_MASK: u64 = 0x00ff_ffff;
const NONCE_MASK: u64 = 0xffff_ffff;

/// Whose ask an answer answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// This manager's, with the detector's nonce and the moment from which on its checks began.
    Own {
        /// As the detector knows it.
        nonce: Nonce,
        /// When it was handed over.
        asked: Moment,
    },
    /// Another manager's.
    Other(ManagerId),
    /// Nobody's that is known: too old, of an earlier life, or made up.
    Nobody,
}

/// The asks of this manager.
#[derive(Debug)]
pub(crate) struct AskBook {
    own: ManagerId,
    head: u64,
    asked: BTreeMap<u64, (WatcherId, Moment)>,
}

impl AskBook {
    pub(crate) fn new(own: ManagerId, incarnation: Incarnation) -> Self {
        let head = own.get() << MANAGER_SHIFT | (incarnation.get() & LIFE_MASK) << LIFE_SHIFT;
        Self { own, head, asked: BTreeMap::new() }
    }

    /// Notes an ask of this manager, and returns the nonce that it travels with.
    pub(crate) fn note(&mut self, watcher: WatcherId, nonce: Nonce, now: Moment) -> Nonce {
        let travelling = self.head | (nonce.get() & NONCE_MASK);
        self.asked.insert(travelling, (watcher, now));
        while self.asked.len() > ASKS_KEPT {
            self.asked.pop_first();
        }
        Nonce::new(travelling)
    }

    /// Returns whose ask this watcher's answer answers.
    pub(crate) fn asker(&self, watcher: WatcherId, travelling: Nonce) -> Asker {
        let manager = ManagerId::new(travelling.get() >> MANAGER_SHIFT);
        if manager.get() == 0 {
            return Asker::Nobody;
        }
        if manager != self.own {
            return Asker::Other(manager);
        }
        match self.asked.get(&travelling.get()) {
            Some((asked_watcher, asked)) if *asked_watcher == watcher => {
                Asker::Own { nonce: Nonce::new(travelling.get() & NONCE_MASK), asked: *asked }
            }
            Some(_) | None => Asker::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_manager_life_and_watcher_that_were_asked() {
        let at = Moment::from_micros(9);
        let (w1, w2) = (WatcherId::new(1), WatcherId::new(2));
        let mut asks = AskBook::new(ManagerId::new(1), Incarnation::new(7));
        let travelling = asks.note(w1, Nonce::new(5), at);
        assert_eq!(asks.asker(w1, travelling), Asker::Own { nonce: Nonce::new(5), asked: at });
        assert_eq!(asks.asker(w2, travelling), Asker::Nobody, "another watcher was asked");
        let restarted = AskBook::new(ManagerId::new(1), Incarnation::new(8));
        assert_eq!(restarted.asker(w1, travelling), Asker::Nobody, "an earlier life asked");
        let other = AskBook::new(ManagerId::new(2), Incarnation::new(7));
        assert_eq!(other.asker(w1, travelling), Asker::Other(ManagerId::new(1)));
        assert_eq!(asks.asker(w1, Nonce::new(0)), Asker::Nobody);
    }
}
