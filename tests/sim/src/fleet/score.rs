//! What was said in a run, against the truth that everything lives.

use std::collections::BTreeMap;
use std::fmt;

use vouch_types::{Source, VmId, VmState};

use super::truth::Told;

/// The most false verdicts that are kept word for word.
const FALSE_KEPT: usize = 20;
/// The most outages that are kept word for word.
const OUTAGES_KEPT: usize = 100;

/// What was said in a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Score {
    /// Runs of probes and questions to relays.
    pub runs: u64,
    /// Observations that the detector was handed one by one.
    pub observations: u64,
    /// Events that the detector was handed, of all kinds.
    pub events: u64,
    /// Reports of watchers that a manager took.
    pub watcher_reports: u64,
    /// Streams of watchers and nodes that were dialled anew.
    pub redials: u64,
    /// Asks of the detector.
    pub asks: u64,
    /// Verdicts that became this state.
    pub verdicts: BTreeMap<VmState, u64>,
    /// Verdicts that changed and kept their state.
    pub same_state: u64,
    /// Node paths that became this source.
    pub paths: BTreeMap<Source, u64>,
    /// Watchers that were called lost; all of them lived.
    pub false_lost_watchers: u64,
    /// Proposals.
    pub proposals: u64,
    /// Verdicts `degraded` and cut paths, told while or right after an uplink carried nothing that they may rest on.
    pub true_outages: u64,
    /// Those that were told although every such uplink carried packets.
    pub false_outages: u64,
    /// The first outages that were told, for people, true or not.
    pub outages: Vec<String>,
    /// The first false verdicts, for people.
    pub false_verdicts: Vec<String>,
}

impl Score {
    /// Takes a verdict that was recorded.
    pub(crate) fn verdict(&mut self, at: &str, vm: VmId, from: VmState, to: VmState, reason: &str) {
        if from == to {
            self.same_state += 1;
            return;
        }
        *self.verdicts.entry(to).or_default() += 1;
        let is_false = !matches!(to, VmState::Up | VmState::Degraded);
        if is_false && self.false_verdicts.len() < FALSE_KEPT {
            self.false_verdicts.push(format!("{at} {vm} {from} -> {to}: {reason}"));
        }
    }

    /// Takes what was said of an outage.
    pub(crate) fn told(&mut self, told: Told) {
        let Told { count, is_true, line } = told;
        *(if is_true { &mut self.true_outages } else { &mut self.false_outages }) += count;
        if self.outages.len() < OUTAGES_KEPT {
            self.outages.push(format!("{}: {line}", if is_true { "true" } else { "false" }));
        }
    }

    /// Takes a path that was recorded.
    pub(crate) fn path(&mut self, to: Source) {
        *self.paths.entry(to).or_default() += 1;
    }

    /// Returns how often a VM was called this.
    pub fn count(&self, state: VmState) -> u64 {
        self.verdicts.get(&state).copied().unwrap_or_default()
    }

    /// Returns how many verdicts said that a VM does not run, or may not: all of them are false.
    pub fn false_down_or_lost(&self) -> u64 {
        self.count(VmState::Down) + self.count(VmState::Lost)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "runs={} observations={} events={}", self.runs, self.observations, self.events)?;
        write!(f, " watcher_reports={} redials={} asks={}", self.watcher_reports, self.redials, self.asks)?;
        write!(f, " proposals={} verdicts=[", self.proposals)?;
        for (n, (state, count)) in self.verdicts.iter().enumerate() {
            write!(f, "{}{state}:{count}", if n == 0 { "" } else { " " })?;
        }
        write!(f, "] same_state={} paths=[", self.same_state)?;
        for (n, (source, count)) in self.paths.iter().enumerate() {
            write!(f, "{}{source}:{count}", if n == 0 { "" } else { " " })?;
        }
        write!(f, "] false_lost_watchers={}", self.false_lost_watchers)?;
        write!(f, " degraded={} true_outages={}", self.count(VmState::Degraded), self.true_outages)?;
        write!(f, " false_outages={}", self.false_outages)?;
        write!(f, " false_down={} false_lost={}", self.count(VmState::Down), self.count(VmState::Lost))
    }
}
