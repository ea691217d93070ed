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

use vouch_detector::Weight;
use vouch_types::{ManagerId, Moment, Nonce, VmId, WatcherId};
use vouch_wire::convert::{AskDepth, WatcherAnswer};

use super::looks::{Look, Looks};
use crate::seams::Rng;

/// How many asks are remembered whose answers may still come.
pub(crate) const ASKS_KEPT: usize = 4_096;

const MANAGER_SHIFT: u32 = 56;
const RANDOM_MASK: u64 = (1 << MANAGER_SHIFT) - 1;

/// Returns how much an ask of the detector wants to know; all there is, where somebody has a VM looked at.
pub(crate) const fn depth_of(weight: Weight, looked_at: Option<VmId>) -> AskDepth {
    match (weight, looked_at) {
        (Weight::Light, _) => AskDepth::Light,
        (Weight::Full, Some(_)) => AskDepth::Findings,
        (Weight::Full, None) => AskDepth::Full,
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

/// The asks of this manager.
#[derive(Debug)]
pub(crate) struct AskBook {
    own: ManagerId,
    asked: BTreeMap<u64, Asked>,
    /// The same, oldest first.
    order: VecDeque<u64>,
    /// What came of those whose findings are wanted, until it is taken.
    looks: BTreeMap<(WatcherId, Nonce), Looks>,
}

impl AskBook {
    pub(crate) fn new(own: ManagerId) -> Self {
        Self { own, asked: BTreeMap::new(), looks: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Notes an ask of this manager, and returns the nonce that it travels with. What comes of it for the VM that is looked
    /// at, if one is, is kept for [`AskBook::take_looks`].
    pub(crate) fn note(
        &mut self,
        rng: &dyn Rng,
        (watcher, nonce): (WatcherId, Nonce),
        at: Moment,
        looked_at: Option<VmId>,
    ) -> Nonce {
        let travelling = loop {
            let mut bytes = [0; 8];
            rng.fill(&mut bytes);
            let drawn = self.own.get() << MANAGER_SHIFT | u64::from_le_bytes(bytes) & RANDOM_MASK;
            if !self.asked.contains_key(&drawn) {
                break drawn;
            }
        };
        self.asked.insert(travelling, Asked { watcher, nonce, at });
        if let Some(vm) = looked_at {
            self.looks.insert((watcher, nonce), Looks::of(vm));
        }
        self.order.push_back(travelling);
        while self.order.len() > ASKS_KEPT {
            let oldest = self.order.pop_front().and_then(|oldest| self.asked.remove(&oldest));
            if let Some(oldest) = oldest {
                self.looks.remove(&(oldest.watcher, oldest.nonce));
            }
        }
        Nonce::new(travelling)
    }

    /// Takes what an answer to an ask tells of its VM, if that is kept; findings leave the answer.
    pub(crate) fn note_looks(&mut self, watcher: WatcherId, nonce: Nonce, answer: &mut WatcherAnswer) {
        if let Some(looks) = self.looks.get_mut(&(watcher, nonce)) {
            looks.take(answer);
        }
    }

    /// Returns what came of an ask by now; what comes later is not kept.
    pub(crate) fn take_looks(&mut self, watcher: WatcherId, nonce: Nonce) -> Vec<Look> {
        self.looks.remove(&(watcher, nonce)).map(Looks::into_all).unwrap_or_default()
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
    use super::super::looks::tests as looks;
    use super::*;
    use crate::seams::SeededRng;
    use crate::store::tests::samples::vm_id;

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
        let travelling = asks.note(&rng, (w1, Nonce::new(5)), at, None);
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
        let first = asks.note(&dice, (watcher, Nonce::new(1)), at, None);
        assert_ne!(asks.note(&dice, (watcher, Nonce::new(2)), at, None), first);
        let rng = SeededRng::new(3);
        let kept: Vec<Nonce> =
            (0..ASKS_KEPT as u64).map(|n| asks.note(&rng, (watcher, Nonce::new(n)), at, None)).collect();
        assert_eq!(asks.asker(watcher, first), Asker::Nobody);
        assert!(kept.iter().all(|nonce| asks.asker(watcher, *nonce) != Asker::Nobody));
        let mut next = kept.windows(2).map(|pair| pair[1].get().wrapping_sub(pair[0].get()));
        let step = next.next();
        assert!(next.any(|other| Some(other) != step), "the next one does not follow from the last ones");
    }

    #[test]
    fn light_asks_stay_light_and_full_ones_on_a_vm_that_is_looked_at_want_to_know_all() {
        let vm = Some(vm_id(1));
        assert_eq!([None, vm].map(|vm| depth_of(Weight::Light, vm)), [AskDepth::Light; 2]);
        assert_eq!([None, vm].map(|vm| depth_of(Weight::Full, vm)), [AskDepth::Full, AskDepth::Findings]);
    }

    #[test]
    fn looks_are_kept_for_asks_that_look_at_a_vm_and_taken_once() {
        let (at, rng, watcher) = (Moment::from_micros(9), SeededRng::new(3), WatcherId::new(1));
        let (looking, other) = (Nonce::new(1_000_001), Nonce::new(1_000_002));
        let answer = || looks::answer(vec![looks::seen(1, "rdp")]);
        let mut asks = AskBook::new(ManagerId::new(1));
        asks.note(&rng, (watcher, looking), at, Some(vm_id(1)));
        asks.note(&rng, (watcher, other), at, None);
        asks.note_looks(watcher, looking, &mut answer());
        asks.note_looks(watcher, other, &mut answer());
        asks.note_looks(WatcherId::new(2), looking, &mut answer());
        assert_eq!(asks.take_looks(watcher, looking).len(), 1);
        asks.note_looks(watcher, looking, &mut answer());
        assert_eq!(asks.take_looks(watcher, looking), [], "what comes late is not kept");
        assert_eq!(asks.take_looks(watcher, other), []);
        asks.note(&rng, (watcher, looking), at, Some(vm_id(1)));
        for n in 0..ASKS_KEPT as u64 {
            asks.note(&rng, (watcher, Nonce::new(n)), at, None);
        }
        assert!(asks.looks.is_empty(), "with the ask its looks are forgotten");
    }
}
