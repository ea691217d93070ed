//! Asks under way: who was asked what, and which nonces are this detector's own.

use std::collections::BTreeMap;

use vouch_types::{Moment, NodeId, Nonce, WatcherId};

/// Asks that are remembered; the oldest are forgotten first.
const ASKS_MAX: usize = 4_096;

/// One ask.
#[derive(Clone, Debug)]
pub(crate) struct OpenAsk {
    /// Who was asked.
    pub watcher: WatcherId,
    /// The node that it is about, when it was about a node's path.
    pub node: Option<NodeId>,
    /// When: a check that answers it began later.
    pub at: Moment,
}

/// All asks, oldest first: nonces rise.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    last: Nonce,
    open: BTreeMap<Nonce, OpenAsk>,
}

impl Asks {
    /// Remembers an ask and returns its nonce.
    pub fn open(&mut self, ask: OpenAsk) -> Nonce {
        self.last = self.last.next();
        self.open.insert(self.last, ask);
        while self.open.len() > ASKS_MAX {
            self.open.pop_first();
        }
        self.last
    }

    /// Returns the ask of this nonce if `watcher` was the one asked.
    pub fn get(&self, nonce: Nonce, watcher: WatcherId) -> Option<&OpenAsk> {
        self.open.get(&nonce).filter(|ask| ask.watcher == watcher)
    }

    /// Forgets asks from before this moment.
    pub fn forget_before(&mut self, moment: Moment) {
        while let Some(first) = self.open.first_entry() {
            if first.get().at >= moment {
                break;
            }
            first.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(at: u64) -> OpenAsk {
        OpenAsk { watcher: WatcherId::new(1), node: None, at: Moment::from_micros(at) }
    }

    #[test]
    fn an_answer_of_another_watcher_is_not_the_answer() {
        let mut asks = Asks::default();
        let nonce = asks.open(ask(1));
        assert!(asks.get(nonce, WatcherId::new(1)).is_some());
        assert!(asks.get(nonce, WatcherId::new(2)).is_none());
        assert!(asks.get(nonce.next(), WatcherId::new(1)).is_none());
    }

    #[test]
    fn the_oldest_asks_are_forgotten_beyond_the_limit() {
        let mut asks = Asks::default();
        let first = asks.open(ask(0));
        for at in 1..=ASKS_MAX as u64 {
            asks.open(ask(at));
        }
        assert!(asks.get(first, WatcherId::new(1)).is_none());
        assert_eq!(asks.open.len(), ASKS_MAX);
    }
}
