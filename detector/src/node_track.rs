//! What the detector knows of one node: who hears it, what its relay answers, and where its direct path stands.
//!
//! ```text
//!            2 of 3 reports missed, or all streams reset
//!   Direct --------------------------------------------> Suspect --(answers in, or none in time)--> Cut
//!     ^  ^--------------- a fresh word ------------------/                                           |
//!     \---------------------------------- a fresh report -------------------------------------------/
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vouch_types::{
    BootId, Fault, Incarnation, ManagerId, Moment, Nonce, RelayObservation, RelayOutcome, Sequence, Timing, VmId,
    WatcherId,
};

use crate::{NodeEntry, StreamChange};

/// Hand-backs that are told as recoveries within [`FLAP_WINDOW`]; more are flapping.
pub(crate) const RECOVERIES_MAX: usize = 2;
/// The window of [`RECOVERIES_MAX`], and how long a flapping path must be stable to be clear again.
pub(crate) const FLAP_WINDOW: Duration = Duration::from_secs(60);

/// Where the direct path to a node stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It is heard, or has not been missed for long enough.
    Direct,
    /// It is missed; watchers are being asked.
    Suspect {
        /// Since when.
        since: Moment,
        /// Asks that have not been answered to the end.
        open: BTreeSet<Nonce>,
        /// When waiting for them ends; `None` while nobody was asked.
        deadline: Option<Moment>,
    },
    /// Nobody hears it.
    Cut {
        /// Checks that began before this say nothing about the cut.
        floor: Moment,
        /// When watchers are asked again.
        next_ask: Moment,
    },
}

/// How one manager hears the node.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    begun: Option<Moment>,
    stream: Option<StreamChange>,
}

/// What one watcher's questions to the relay came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayTrack {
    /// The last outcome.
    pub outcome: RelayOutcome,
    /// When that question began.
    pub begun: Moment,
    /// When the last question began that the relay answered.
    pub reached: Option<Moment>,
}

/// A change of path faults that has to last before it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    /// The faults that would be told.
    pub faults: Vec<Fault>,
    /// Since when they have been the judgement.
    pub since: Moment,
}

/// Position of a report: node boot, agent incarnation, sequence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReportKey {
    pub boot: BootId,
    pub incarnation: Incarnation,
    pub sequence: Sequence,
}

/// One node as evidence shows it.
#[derive(Clone, Debug)]
pub(crate) struct NodeTrack {
    /// As recorded.
    pub entry: NodeEntry,
    /// The VMs that it owns.
    pub vms: BTreeSet<VmId>,
    /// Where its direct path stands.
    pub phase: Phase,
    /// The last report.
    pub report: Option<(ReportKey, Moment)>,
    /// Per watcher, what its relay answered.
    pub relay: BTreeMap<WatcherId, RelayTrack>,
    /// A judgement that has not lasted yet.
    pub candidate: Option<Candidate>,
    /// When its own word last ruled again, the latest last; at most [`RECOVERIES_MAX`] + 1.
    pub recoveries: Vec<Moment>,
    hearing: BTreeMap<ManagerId, Hearing>,
    known_since: Moment,
}

impl NodeTrack {
    pub fn new(entry: NodeEntry, now: Moment) -> Self {
        Self {
            entry,
            vms: BTreeSet::new(),
            phase: Phase::Direct,
            report: None,
            relay: BTreeMap::new(),
            candidate: None,
            recoveries: Vec::new(),
            hearing: BTreeMap::new(),
            known_since: now,
        }
    }

    fn hearing(&mut self, by: ManagerId) -> &mut Hearing {
        self.hearing.entry(by).or_insert(Hearing { begun: None, stream: None })
    }

    /// Takes a word of it, heard by `by`.
    pub fn hear(&mut self, by: ManagerId, begun: Moment) {
        let hearing = self.hearing(by);
        hearing.begun = hearing.begun.max(Some(begun));
    }

    /// Takes what happened to its stream to `by`.
    pub fn stream(&mut self, by: ManagerId, change: StreamChange) {
        self.hearing(by).stream = Some(change);
    }

    /// Takes the outcome of one question to its relay; older ones than the last of that watcher count for nothing.
    pub fn answer(&mut self, seen: &RelayObservation) {
        let reached = (seen.outcome == RelayOutcome::Reached).then_some(seen.begun);
        match self.relay.get_mut(&seen.watcher) {
            Some(track) => {
                track.reached = track.reached.max(reached);
                if seen.begun >= track.begun {
                    track.outcome = seen.outcome;
                    track.begun = seen.begun;
                }
            }
            None => {
                self.relay.insert(seen.watcher, RelayTrack { outcome: seen.outcome, begun: seen.begun, reached });
            }
        }
    }

    /// Returns when any manager of the membership last heard it.
    pub fn last_direct(&self) -> Option<Moment> {
        self.hearing.values().filter_map(|h| h.begun).max()
    }

    /// Returns when `manager` last heard it.
    pub fn last_heard_by(&self, manager: ManagerId) -> Option<Moment> {
        self.hearing.get(&manager).and_then(|h| h.begun)
    }

    /// Returns when its silence began, for one that was never heard: when it became known.
    pub fn silent_since(&self) -> Moment {
        self.last_direct().unwrap_or(self.known_since).max(self.known_since)
    }

    /// Returns whether it has been known for less than `age`.
    pub fn is_new(&self, now: Moment, age: Duration) -> bool {
        now.since(self.known_since) < age
    }

    /// Returns whether every stream that it ever had here is gone.
    pub fn streams_lost(&self) -> bool {
        let mut streams = self.hearing.values().filter_map(|h| h.stream).peekable();
        streams.peek().is_some() && streams.all(|s| s != StreamChange::Opened)
    }

    /// Forgets managers that left.
    pub fn keep_managers(&mut self, keep: impl Fn(ManagerId) -> bool) {
        self.hearing.retain(|m, _| keep(*m));
    }

    /// Returns whether its own word rules: it was heard, and not too long ago.
    pub fn is_direct(&self, now: Moment, timing: &Timing) -> bool {
        self.phase == Phase::Direct && self.last_direct().is_some_and(|at| now.since(at) < timing.suspect_after())
    }

    /// Returns whether hand-backs have been too many to tell each.
    pub fn is_flapping(&self, now: Moment) -> bool {
        self.recoveries.len() > RECOVERIES_MAX
            && self.recoveries.last().is_some_and(|last| now.since(*last) < FLAP_WINDOW)
    }

    /// Notes that its own word rules again.
    pub fn note_recovery(&mut self, now: Moment) {
        let flapping = self.is_flapping(now);
        if !flapping {
            self.recoveries.retain(|at| now.since(*at) < FLAP_WINDOW);
        }
        self.recoveries.push(now);
        if self.recoveries.len() > RECOVERIES_MAX + 1 {
            self.recoveries.remove(0);
        }
    }
}
