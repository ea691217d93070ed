//! Nonces of asks as they travel, and when each was asked.
//!
//! A detector's nonces are small numbers in a row. A relay signs a statement for whatever nonce a watcher shows it, so
//! a watcher that could guess one could fetch a statement now and show it later as fresh. A travelling nonce is
//! therefore drawn at random for each ask; its first byte names the manager, so that whoever hears the answer can tell
//! whose it is:
//!
//! ```text
//!  63      56 55                                       0
//!  | manager | random, unique among the asks kept here |
//! ```
//!
//! A manager that was started again knows none of its earlier ones.

use std::collections::{BTreeMap, VecDeque};

use vouch_detector::{Ask, Weight};
use vouch_types::{Findings, ManagerId, Moment, Nonce, WatcherId};
use vouch_wire::convert::limits::FINDINGS_PER_ANSWER_MAX;
use vouch_wire::convert::{AskDepth, WatcherAnswer, WireFindings, WireObservation};

use crate::seams::Rng;

/// How many asks are remembered whose answers may still come.
pub(crate) const ASKS_KEPT: usize = 4_096;

/// How many looks are kept of one ask: as many as one answer may tell the findings of.
pub(crate) const LOOKS_PER_ASK_MAX: usize = FINDINGS_PER_ANSWER_MAX;

const MANAGER_SHIFT: u32 = 56;
const RANDOM_MASK: u64 = (1 << MANAGER_SHIFT) - 1;

/// Returns how much an ask of the detector wants to know.
pub(crate) const fn depth_of(ask: &Ask) -> AskDepth {
    match ask.weight {
        Weight::Light => AskDepth::Light,
        Weight::Full => AskDepth::Full,
    }
}

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

/// An ask whose answer may still come.
#[derive(Clone, Copy, Debug)]
struct Asked {
    watcher: WatcherId,
    nonce: Nonce,
    at: Moment,
}

/// What came of one check of an answer, for whoever asked to look now.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Look {
    /// What the watcher saw.
    pub(crate) seen: WireObservation,
    /// What that rests on; none from a watcher that does not tell.
    pub(crate) found: Option<Findings>,
}

/// The asks of this manager.
#[derive(Debug)]
pub(crate) struct AskBook {
    own: ManagerId,
    asked: BTreeMap<u64, Asked>,
    /// What came of those whose findings are wanted, until it is taken.
    looks: BTreeMap<(WatcherId, Nonce), Vec<Look>>,
    /// The same, oldest first.
    order: VecDeque<u64>,
}

impl AskBook {
    pub(crate) fn new(own: ManagerId) -> Self {
        Self { own, asked: BTreeMap::new(), looks: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Notes an ask of this manager, and returns the nonce that it travels with.
    pub(crate) fn note(&mut self, rng: &dyn Rng, watcher: WatcherId, nonce: Nonce, at: Moment) -> Nonce {
        let travelling = loop {
            let mut bytes = [0; 8];
            rng.fill(&mut bytes);
            let drawn = self.own.get() << MANAGER_SHIFT | u64::from_le_bytes(bytes) & RANDOM_MASK;
            if !self.asked.contains_key(&drawn) {
                break drawn;
            }
        };
        self.asked.insert(travelling, Asked { watcher, nonce, at });
        self.order.push_back(travelling);
        while self.order.len() > ASKS_KEPT {
            let oldest = self.order.pop_front().and_then(|oldest| self.asked.remove(&oldest));
            if let Some(oldest) = oldest {
                self.looks.remove(&(oldest.watcher, oldest.nonce));
            }
        }
        Nonce::new(travelling)
    }

    /// Keeps what comes of an ask, whose nonce is the detector's, for [`AskBook::take_looks`].
    pub(crate) fn keep_looks(&mut self, watcher: WatcherId, nonce: Nonce) {
        self.looks.insert((watcher, nonce), Vec::new());
    }

    /// Notes what came of an ask, if that is kept.
    pub(crate) fn note_looks(&mut self, watcher: WatcherId, nonce: Nonce, answer: &WatcherAnswer) {
        let Some(looks) = self.looks.get_mut(&(watcher, nonce)) else { return };
        let room = LOOKS_PER_ASK_MAX.saturating_sub(looks.len());
        looks.extend(answer.observations.iter().take(room).map(|seen| {
            let same = |f: &&WireFindings| f.vm == seen.vm && f.network == seen.network && f.probe == seen.probe;
            let found = answer.findings.iter().find(same).map(|f| f.found.clone());
            Look { seen: seen.clone(), found }
        }));
    }

    /// Returns what came of an ask by now; what comes later is not kept.
    pub(crate) fn take_looks(&mut self, watcher: WatcherId, nonce: Nonce) -> Vec<Look> {
        self.looks.remove(&(watcher, nonce)).unwrap_or_default()
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
            Some(ask) if ask.watcher == watcher => Asker::Own { nonce: ask.nonce, asked: ask.at },
            Some(_) | None => Asker::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::SeededRng;

    /// Repeats its bytes.
    struct Dice(std::sync::Mutex<u8>);

    impl Rng for Dice {
        fn fill(&self, buffer: &mut [u8]) {
            // Each number comes twice.
            let mut drawn = self.0.lock().unwrap();
            buffer.fill(*drawn / 2);
            *drawn += 1;
        }
    }

    #[test]
    fn an_answer_counts_for_the_manager_life_and_watcher_that_were_asked() {
        let at = Moment::from_micros(9);
        let rng = SeededRng::new(3);
        let (w1, w2) = (WatcherId::new(1), WatcherId::new(2));
        let mut asks = AskBook::new(ManagerId::new(1));
        let travelling = asks.note(&rng, w1, Nonce::new(5), at);
        assert_eq!(asks.asker(w1, travelling), Asker::Own { nonce: Nonce::new(5), asked: at });
        assert_eq!(asks.asker(w2, travelling), Asker::Nobody, "another watcher was asked");
        let restarted = AskBook::new(ManagerId::new(1));
        assert_eq!(restarted.asker(w1, travelling), Asker::Nobody, "an earlier life asked");
        let other = AskBook::new(ManagerId::new(2));
        assert_eq!(other.asker(w1, travelling), Asker::Other(ManagerId::new(1)));
        assert_eq!(asks.asker(w1, Nonce::new(0)), Asker::Nobody);
    }

    #[test]
    fn a_nonce_that_is_open_is_not_drawn_again_and_the_oldest_are_forgotten() {
        let at = Moment::from_micros(9);
        let watcher = WatcherId::new(1);
        let mut asks = AskBook::new(ManagerId::new(1));
        let dice = Dice(std::sync::Mutex::new(0));
        let first = asks.note(&dice, watcher, Nonce::new(1), at);
        assert_ne!(asks.note(&dice, watcher, Nonce::new(2), at), first);
        let rng = SeededRng::new(3);
        let kept: Vec<Nonce> = (0..ASKS_KEPT as u64).map(|n| asks.note(&rng, watcher, Nonce::new(n), at)).collect();
        assert_eq!(asks.asker(watcher, first), Asker::Nobody);
        assert!(kept.iter().all(|nonce| asks.asker(watcher, *nonce) != Asker::Nobody));
        let mut next = kept.windows(2).map(|pair| pair[1].get().wrapping_sub(pair[0].get()));
        let step = next.next();
        assert!(next.any(|other| Some(other) != step), "the next one does not follow from the last ones");
    }

    #[test]
    fn looks_are_kept_for_asks_that_want_them_and_taken_once() {
        let watcher = WatcherId::new(1);
        let (wanted, other) = (Nonce::new(1), Nonce::new(2));
        let mut asks = AskBook::new(ManagerId::new(1));
        let answer = answered("rdp", 2);
        asks.keep_looks(watcher, wanted);
        asks.note_looks(watcher, wanted, &answer);
        asks.note_looks(watcher, other, &answer);
        asks.note_looks(WatcherId::new(2), wanted, &answer);
        let looks = asks.take_looks(watcher, wanted);
        assert_eq!(looks.len(), 2);
        assert_eq!(looks[0].found.as_ref().map(|found| found.facts.len()), Some(1));
        assert_eq!(looks[1].found, None, "its findings are of another VM");
        asks.note_looks(watcher, wanted, &answer);
        assert_eq!(asks.take_looks(watcher, wanted), [], "what comes late is not kept");
        assert_eq!(asks.take_looks(watcher, other), []);
    }

    #[test]
    fn one_ask_keeps_so_many_looks_and_none_when_it_is_forgotten() {
        let (at, rng, watcher) = (Moment::from_micros(9), SeededRng::new(3), WatcherId::new(1));
        let mut asks = AskBook::new(ManagerId::new(1));
        let nonce = Nonce::new(1_000_000);
        asks.keep_looks(watcher, nonce);
        asks.note(&rng, watcher, nonce, at);
        for _ in 0..2 {
            asks.note_looks(watcher, nonce, &answered("rdp", LOOKS_PER_ASK_MAX));
        }
        assert_eq!(asks.looks[&(watcher, nonce)].len(), LOOKS_PER_ASK_MAX);
        (0..ASKS_KEPT as u64).for_each(|n| {
            asks.note(&rng, watcher, Nonce::new(n), at);
        });
        assert!(asks.looks.is_empty());
    }

    /// An answer that tells of so many VMs, and the findings of the first one.
    fn answered(probe: &str, vms: usize) -> WatcherAnswer {
        let probe = vouch_types::ProbeName::new(probe).unwrap();
        let network = vouch_types::Network::Service;
        let vm = |n: usize| crate::store::tests::samples::vm_id(n as u128);
        let seen = |n| WireObservation {
            vm: vm(n),
            network,
            probe: probe.clone(),
            outcome: vouch_types::Outcome::Up,
            reason: "negotiated".to_owned(),
            message: String::new(),
            identity: None,
            begun: vouch_types::TickSequence::default(),
            begun_after: std::time::Duration::ZERO,
            took: std::time::Duration::ZERO,
        };
        let facts = vec![("protocol".to_owned(), "tls".to_owned())];
        let found = Findings { facts, ..Findings::default() };
        WatcherAnswer {
            nonce: Nonce::new(0),
            assignment: vouch_types::AssignmentGeneration::new(1),
            observations: (0..vms).map(seen).collect(),
            relays: Vec::new(),
            statements: Vec::new(),
            complete: true,
            health: None,
            findings: vec![WireFindings { vm: vm(0), network, probe: probe.clone(), found }],
        }
    }
}
