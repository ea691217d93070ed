//! What watchers last found with one probe, for the rollout of a new version of it.

use std::collections::BTreeMap;

use vouch_types::{AssignmentGeneration, Moment, Network, Outcome, ProbeName, VmId, WatcherId};

use super::Fleet;

/// What a watcher last found with a probe, and by which assignment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ProbeWord {
    pub(crate) watcher: WatcherId,
    /// The assignment by which the watcher works.
    pub(crate) assignment: AssignmentGeneration,
    pub(crate) vm: VmId,
    pub(crate) network: Network,
    /// When the run began, at the latest.
    pub(crate) begun: Moment,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Fleet {
    /// Returns what the watchers that this manager hears itself last found with a probe.
    pub(crate) fn probe_words(&self, probe: &ProbeName) -> Vec<ProbeWord> {
        let book = self.book();
        let mut words = Vec::new();
        for (watcher, entry) in &book.watchers {
            let its = entry.words.observations.iter().filter(|((_, _, of), _)| of == probe);
            words.extend(its.map(|((vm, network, _), dated)| ProbeWord {
                watcher: *watcher,
                assignment: entry.words.assignment,
                vm: *vm,
                network: *network,
                begun: dated.begun,
                outcome: dated.seen.outcome,
                reason: dated.seen.reason.clone(),
                message: dated.seen.message.clone(),
            }));
        }
        words
    }

    /// Returns when each watcher last said anything to this manager, on its clock.
    pub(crate) fn watchers_heard(&self) -> BTreeMap<WatcherId, Moment> {
        let book = self.book();
        let last = |entry: &super::book::WatcherEntry| entry.sessions.iter().filter_map(|(_, s)| s.begun).max();
        book.watchers.iter().filter_map(|(watcher, entry)| Some((*watcher, last(entry)?))).collect()
    }
}
