//! What one watcher last said, whoever brought it: every check with the moment from which on it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::WatcherHealth;
use vouch_types::{
    AssignmentGeneration, Incarnation, Moment, Network, NodeId, ProbeName, Sequence, TickSequence, VmId,
};
use vouch_wire::convert::{WatcherReport, WireObservation, WireRelayObservation};

/// Where and with what a watcher looks.
pub(crate) type CheckKey = (VmId, Network, ProbeName);

/// An observation whose beginning has been found on this manager's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Dated<T> {
    /// What was seen.
    pub(crate) seen: T,
    /// When the check began.
    pub(crate) begun: Moment,
}

/// What one watcher last said.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatcherWords {
    /// Its life.
    pub(crate) incarnation: Incarnation,
    /// The highest assignment that it has worked by.
    pub(crate) assignment: AssignmentGeneration,
    /// Its checks.
    pub(crate) observations: BTreeMap<CheckKey, Dated<WireObservation>>,
    /// Its questions to relays.
    pub(crate) relays: BTreeMap<NodeId, Dated<WireRelayObservation>>,
    /// Its own health.
    pub(crate) health: Option<WatcherHealth>,
    /// Rises with everything that it says.
    pub(crate) revision: u64,
}

/// A report whose checks have been dated; those that could not be are counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatedReport {
    pub(crate) assignment: AssignmentGeneration,
    pub(crate) full: bool,
    pub(crate) observations: Vec<Dated<WireObservation>>,
    pub(crate) relays: Vec<Dated<WireRelayObservation>>,
    /// From when on everything that is not in it holds.
    pub(crate) others_begun: Option<Moment>,
    pub(crate) health: Option<WatcherHealth>,
}

impl WatcherWords {
    /// Takes a life: what an earlier one said is forgotten. Returns whether this one is over.
    pub(crate) fn is_stale_life(&mut self, incarnation: Incarnation) -> bool {
        if incarnation > self.incarnation {
            *self = Self { incarnation, ..Self::default() };
        }
        incarnation < self.incarnation
    }

    /// Takes a dated report; returns `false`, and takes nothing, when it works by an earlier assignment.
    pub(crate) fn take(&mut self, report: &DatedReport) -> bool {
        if report.assignment < self.assignment {
            return false;
        }
        self.revision += 1;
        if report.full || report.assignment > self.assignment {
            self.observations.clear();
            self.relays.clear();
        }
        self.assignment = report.assignment;
        if let Some(begun) = report.others_begun {
            self.observations.values_mut().for_each(|o| o.begun = o.begun.max(begun));
            self.relays.values_mut().for_each(|r| r.begun = r.begun.max(begun));
        }
        self.see(&report.observations, &report.relays);
        if report.health.is_some() {
            self.health.clone_from(&report.health);
        }
        true
    }

    /// Takes checks of an answer.
    pub(crate) fn see(&mut self, observations: &[Dated<WireObservation>], relays: &[Dated<WireRelayObservation>]) {
        for o in observations {
            self.observations.insert((o.seen.vm, o.seen.network, o.seen.probe.clone()), o.clone());
        }
        for r in relays {
            self.relays.insert(r.seen.node.clone(), r.clone());
        }
    }

    /// Returns all that it said as one full report, to be handed on to another manager; with each check's moment, in
    /// the order of the report.
    pub(crate) fn merged(&self) -> (WatcherReport, Vec<Moment>) {
        let begun = self.observations.values().map(|o| o.begun).chain(self.relays.values().map(|r| r.begun));
        let report = WatcherReport {
            sequence: Sequence::new(self.revision),
            assignment: self.assignment,
            full: true,
            observations: self.observations.values().map(|o| o.seen.clone()).collect(),
            relays: self.relays.values().map(|r| r.seen.clone()).collect(),
            others_age: None,
            health: self.health.clone(),
            tick: TickSequence::default(),
        };
        (report, begun.collect())
    }
}

/// Dates a report by the ticks that its checks echo; returns it with the number of checks whose tick is not known.
pub(crate) fn dated(report: WatcherReport, sent: impl Fn(TickSequence) -> Option<Moment>) -> (DatedReport, u64) {
    let (observations, stale_observations) = dated_all(report.observations, |o| sent(o.begun));
    let (relays, stale_relays) = dated_all(report.relays, |r| sent(r.begun));
    // A check that is dropped here is not as it was: nothing may make what is held of it look fresh.
    let others_age = report.others_age.filter(|_| !report.full && stale_observations + stale_relays == 0);
    let others_begun = others_age.and_then(|age: Duration| Some(sent(report.tick)? - age));
    let WatcherReport { assignment, full, health, .. } = report;
    (DatedReport { assignment, full, observations, relays, others_begun, health }, stale_observations + stale_relays)
}

/// Dates each check; returns those with a moment, and how many had none.
pub(crate) fn dated_all<T>(list: Vec<T>, begun: impl Fn(&T) -> Option<Moment>) -> (Vec<Dated<T>>, u64) {
    let all = list.len() as u64;
    let dated: Vec<_> = list
        .into_iter()
        .filter_map(|seen| {
            let begun = begun(&seen)?;
            Some(Dated { seen, begun })
        })
        .collect();
    let stale = all - dated.len() as u64;
    (dated, stale)
}
