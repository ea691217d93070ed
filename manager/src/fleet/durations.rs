//! How long checks take, as watchers tell, added up per probe, network and node for `/metrics`.
//!
//! Every manager is told by every watcher and counts for itself since its start, as counters of Prometheus do: what a watcher
//! counted before this manager first heard of it is no news. The lock is held alone.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::{Incarnation, NodeId, ProbeName, WatcherId};
use vouch_wire::convert::{DurationHistogram, DurationKey, WatcherDurations};

use super::Fleet;
use super::session_tasks::has_vms_on;
use crate::store::State;

/// What one watcher told last.
#[derive(Debug, Default)]
struct Told {
    incarnation: Incarnation,
    series: BTreeMap<DurationKey, DurationHistogram>,
}

/// What all watchers counted together.
#[derive(Debug, Default)]
pub(crate) struct DurationBook {
    totals: BTreeMap<DurationKey, DurationHistogram>,
    told: BTreeMap<WatcherId, Told>,
}

impl DurationBook {
    /// Takes what a watcher has counted in this life of it.
    fn take(&mut self, watcher: WatcherId, incarnation: Incarnation, durations: WatcherDurations) {
        let before = self.told.get(&watcher);
        if before.is_some_and(|before| incarnation < before.incarnation) {
            return;
        }
        for (key, histogram) in &durations.0 {
            let more = match before {
                None => DurationHistogram::default(),
                Some(before) if incarnation > before.incarnation => *histogram,
                Some(before) => before.series.get(key).map_or(*histogram, |last| histogram.since(last)),
            };
            self.totals.entry(key.clone()).or_default().add(&more);
        }
        self.told.insert(watcher, Told { incarnation, series: durations.0.into_iter().collect() });
    }

    fn keep_watchers(&mut self, keep: impl Fn(WatcherId) -> bool) {
        self.told.retain(|watcher, _| keep(*watcher));
    }

    /// Forgets series of nodes and probes that there are no more.
    fn keep_known(&mut self, nodes: &BTreeSet<NodeId>, probes: &BTreeSet<ProbeName>) {
        self.totals.retain(|key, _| nodes.contains(&key.node) && probes.contains(&key.probe));
    }
}

/// Returns whether a watcher was given VMs of this node, and there is such a probe: what it makes up takes no room.
fn is_permitted(state: &State, watcher: WatcherId, key: &DurationKey) -> bool {
    let watcher = state.watchers().get(&watcher);
    watcher.is_some_and(|watcher| has_vms_on(state, watcher, &key.node)) && state.probes().contains_key(&key.probe)
}

impl Fleet {
    /// Takes what a watcher has counted, as far as it was given anything to look at there.
    pub(super) fn take_durations(&self, watcher: WatcherId, incarnation: Incarnation, mut durations: WatcherDurations) {
        let consensus = &self.parts().consensus;
        consensus.read_state(|state| durations.0.retain(|(key, _)| is_permitted(state, watcher, key)));
        self.durations_book().take(watcher, incarnation, durations);
    }

    /// Returns how long checks took since this manager's start, at VMs of nodes that there are.
    pub(crate) fn durations(&self) -> Vec<(DurationKey, DurationHistogram)> {
        let (nodes, probes) = self
            .parts()
            .consensus
            .read_state(|state| (state.nodes().keys().cloned().collect(), state.probes().keys().cloned().collect()));
        let mut book = self.durations_book();
        book.keep_known(&nodes, &probes);
        book.totals.iter().map(|(key, histogram)| (key.clone(), *histogram)).collect()
    }

    /// Forgets what watchers told that are to have no stream.
    pub(super) fn forget_durations(&self, keep: impl Fn(WatcherId) -> bool) {
        self.durations_book().keep_watchers(keep);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vouch_types::Network;

    use super::*;

    fn key(node: &str) -> DurationKey {
        let (probe, node) = (ProbeName::new("rdp").expect("a valid name"), NodeId::new(node).expect("a valid name"));
        DurationKey { probe, network: Network::Service, node }
    }

    fn histogram(times: u64) -> DurationHistogram {
        let mut histogram = DurationHistogram::default();
        (0..times).for_each(|_| histogram.count(Duration::from_millis(3)));
        histogram
    }

    fn take(book: &mut DurationBook, watcher: u64, life: u64, told: &[(&str, u64)]) {
        let told = told.iter().map(|(node, times)| (key(node), histogram(*times))).collect();
        book.take(WatcherId::new(watcher), Incarnation::new(life), WatcherDurations(told));
    }

    fn total(book: &DurationBook, node: &str) -> u64 {
        book.totals.get(&key(node)).map_or(0, DurationHistogram::total)
    }

    #[test]
    fn what_watchers_tell_is_added_and_counts_once_however_often_it_is_told() {
        let mut book = DurationBook::default();
        take(&mut book, 1, 1, &[("n1", 90), ("n2", 3)]);
        take(&mut book, 2, 1, &[("n1", 70)]);
        assert!(book.totals.contains_key(&key("n1")), "it is there, so that the next ones are a rise");
        assert_eq!(
            (total(&book, "n1"), total(&book, "n2")),
            (0, 0),
            "they were counted before this manager heard of it"
        );
        take(&mut book, 1, 1, &[("n1", 100), ("n2", 4)]);
        take(&mut book, 1, 1, &[("n1", 100), ("n2", 4)]);
        take(&mut book, 2, 1, &[("n1", 75)]);
        assert_eq!((total(&book, "n1"), total(&book, "n2")), (15, 1));
    }

    #[test]
    fn the_next_life_of_a_watcher_begins_at_zero_and_an_earlier_one_is_not_heard() {
        let mut book = DurationBook::default();
        take(&mut book, 1, 1, &[]);
        take(&mut book, 1, 1, &[("n1", 10)]);
        take(&mut book, 1, 2, &[("n1", 12)]);
        assert_eq!(total(&book, "n1"), 22, "none of the twelve is one of the ten");
        take(&mut book, 1, 1, &[("n1", 90)]);
        assert_eq!(total(&book, "n1"), 22);
        // Its assignment ended, came back, and it counts anew.
        take(&mut book, 1, 2, &[]);
        take(&mut book, 1, 2, &[("n1", 1)]);
        assert_eq!(total(&book, "n1"), 23);
    }

    #[test]
    fn who_is_gone_is_forgotten_and_what_was_counted_stays_while_its_node_does() {
        let mut book = DurationBook::default();
        take(&mut book, 1, 1, &[]);
        take(&mut book, 1, 1, &[("n1", 10), ("n2", 1)]);
        book.keep_watchers(|_| false);
        assert!(book.told.is_empty());
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        let nodes = set("n1").iter().map(|n| NodeId::new(n).expect("a valid name")).collect();
        let probes = set("rdp").iter().map(|p| ProbeName::new(p).expect("a valid name")).collect();
        book.keep_known(&nodes, &probes);
        assert_eq!((total(&book, "n1"), total(&book, "n2")), (10, 0));
        book.keep_known(&nodes, &BTreeSet::new());
        assert_eq!(total(&book, "n1"), 0);
    }
}
