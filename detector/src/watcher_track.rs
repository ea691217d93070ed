//! What the detector knows of one watcher: how lately it was heard, over which network, and how it is.

use std::collections::BTreeMap;

use vouch_types::{AssignmentGeneration, Incarnation, ManagerId, Moment, Network, WatcherHealth};

use crate::WatcherEntry;

/// What a node says of the process of a watcher on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatcherProcess {
    /// It runs, or may run.
    There,
    /// It has ended.
    Gone,
}

/// One watcher as evidence shows it.
#[derive(Clone, Debug)]
pub(crate) struct WatcherTrack {
    /// As recorded.
    pub entry: WatcherEntry,
    /// Its last word per manager and network.
    heard: BTreeMap<(ManagerId, Network), Moment>,
    /// Its last word of its own health.
    pub health: Option<WatcherHealth>,
    /// Everything that it said before and did not change still held at this moment.
    others: Option<(AssignmentGeneration, Moment)>,
    /// How often it confirmed that.
    pub confirmations: u32,
    /// What its node last said of its process; `None` when it said nothing.
    pub process: Option<WatcherProcess>,
    /// When it was first recorded as live here: silence counts from then on.
    pub live_since: Moment,
}

impl WatcherTrack {
    pub fn new(entry: WatcherEntry, now: Moment) -> Self {
        Self {
            entry,
            heard: BTreeMap::new(),
            health: None,
            others: None,
            confirmations: 0,
            process: None,
            live_since: now,
        }
    }

    /// Takes a word of it; words of an earlier life count for nothing.
    pub fn hear(
        &mut self,
        by: ManagerId,
        network: Network,
        incarnation: Incarnation,
        begun: Moment,
        health: Option<WatcherHealth>,
    ) {
        if self.entry.incarnation.is_some_and(|known| incarnation < known) {
            return;
        }
        let last = self.heard.entry((by, network)).or_default();
        *last = (*last).max(begun);
        if health.is_some() {
            self.health = health;
        }
    }

    /// Takes its word that nothing else has changed.
    pub fn confirm_others(&mut self, assignment: AssignmentGeneration, begun: Moment) {
        self.confirmations = self.confirmations.wrapping_add(1);
        match &mut self.others {
            Some((known, at)) if *known == assignment => *at = (*at).max(begun),
            Some((known, _)) if *known > assignment => {}
            _ => self.others = Some((assignment, begun)),
        }
    }

    /// Returns since when at the latest everything that it has not changed holds.
    pub fn others_begun(&self) -> Option<Moment> {
        self.others.filter(|(assignment, _)| *assignment == self.entry.assignment).map(|(_, begun)| begun)
    }

    /// Returns when it was last heard, by anyone over anything.
    pub fn last_heard(&self) -> Option<Moment> {
        self.heard.values().copied().max()
    }

    /// Returns when it was last heard over `network`.
    pub fn last_heard_over(&self, network: Network) -> Option<Moment> {
        self.heard.iter().filter(|((_, n), _)| *n == network).map(|(_, m)| *m).max()
    }

    /// Returns whether its word on silence over `network` counts.
    pub fn is_healthy_on(&self, network: Network) -> bool {
        self.health.as_ref().is_some_and(|h| h.is_healthy_on(network))
    }
}
