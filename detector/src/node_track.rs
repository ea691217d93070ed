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
    BootId, Fault, Incarnation, ManagerId, Moment, Network, NodePath, Nonce, RelayObservation, RelayOutcome, Sequence,
    Source, Timing, VmId, WatcherId,
};

use crate::hand_backs::HandBacks;
use crate::link_track::LinkTracks;
use crate::{LinkMeasure, NodeEntry, ServiceWord, StreamChange};

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
        /// When it was judged to be cut.
        since: Moment,
        /// When watchers are asked again.
        next_ask: Moment,
    },
}

/// How one manager hears the node.
#[derive(Clone, Copy, Debug, Default)]
struct Hearing {
    begun: Option<Moment>,
    stream: Option<StreamChange>,
    links: LinkTracks,
}

/// What one watcher's questions to the relay came to.
#[derive(Clone, Debug)]
pub(crate) struct RelayTrack {
    /// The last outcome.
    pub outcome: RelayOutcome,
    /// When that question began.
    pub begun: Moment,
    /// When the last question began that the relay answered.
    pub reached: Option<Moment>,
    /// Managers that the node's agent heard then.
    pub hears: Vec<ManagerId>,
}

/// Something that has to last before it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    /// The faults that would be told.
    pub faults: Vec<Fault>,
    /// Since when they have been the judgement.
    pub since: Moment,
}

/// Per mille that the paths to a node lose over one network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PathLoss {
    /// Of the best path: what all of them share.
    pub least: u16,
    /// Of all paths and directions.
    pub mean: u16,
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
    /// The watchers on it.
    pub local_watchers: BTreeSet<WatcherId>,
    /// The watchers elsewhere that watch a VM of it.
    pub remote_watchers: BTreeSet<WatcherId>,
    /// Where its direct path stands.
    pub phase: Phase,
    /// The last report.
    pub report: Option<(ReportKey, Moment)>,
    /// When its hypervisor was read, at the latest, for a report of changes: all that it did not name was as before.
    pub others_read: Moment,
    /// Whether its hypervisor service answers its agent.
    pub hypervisor: ServiceWord,
    /// Per watcher, what its relay answered.
    pub relay: BTreeMap<WatcherId, RelayTrack>,
    /// A judgement on its paths that has not lasted yet.
    pub candidate: Option<Candidate>,
    /// Whether its uplink to the service network is judged to be dead, and since when.
    pub service_cut: Option<Moment>,
    /// When VMs of it were last looked into for what they share.
    pub sampled: Option<Moment>,
    /// When its own word last ruled again.
    pub hand_backs: HandBacks,
    /// When it was seen that its path is recorded as cut; kept when it is no longer.
    cut_recorded: Moment,
    /// Since when its own word has ruled, after a cut: managers hear it one after the other.
    direct_since: Moment,
    /// When it was last heard again right after it was given up.
    late: Option<Moment>,
    /// When its fence proof was first seen here: what was seen before it does not contradict it.
    pub fenced: Option<Moment>,
    hearing: BTreeMap<ManagerId, Hearing>,
    known_since: Moment,
}

impl NodeTrack {
    pub fn new(entry: NodeEntry, now: Moment) -> Self {
        Self {
            entry,
            vms: BTreeSet::new(),
            local_watchers: BTreeSet::new(),
            remote_watchers: BTreeSet::new(),
            phase: Phase::Direct,
            report: None,
            others_read: Moment::ZERO,
            hypervisor: ServiceWord::Answering,
            relay: BTreeMap::new(),
            candidate: None,
            service_cut: None,
            sampled: None,
            hand_backs: HandBacks::default(),
            cut_recorded: Moment::ZERO,
            direct_since: now,
            late: None,
            fenced: None,
            hearing: BTreeMap::new(),
            known_since: now,
        }
    }

    fn hearing(&mut self, by: ManagerId) -> &mut Hearing {
        self.hearing.entry(by).or_default()
    }

    /// Takes a word of it, heard by `by`.
    pub fn hear(&mut self, by: ManagerId, begun: Moment) {
        let hearing = self.hearing(by);
        hearing.begun = hearing.begun.max(Some(begun));
    }

    /// Takes what heartbeats say of its path to a manager.
    pub fn measure(&mut self, measure: &LinkMeasure) {
        self.hearing(measure.manager).links.take(measure);
    }

    /// Takes what happened to its stream to `by`.
    pub fn stream(&mut self, by: ManagerId, change: StreamChange) {
        self.hearing(by).stream = Some(change);
    }

    /// Takes the outcome of one question to its relay; older ones than the last of that watcher count for nothing.
    pub fn answer(&mut self, seen: RelayObservation) {
        let reached = (seen.outcome == RelayOutcome::Reached).then_some(seen.begun);
        match self.relay.get_mut(&seen.watcher) {
            Some(track) => {
                track.reached = track.reached.max(reached);
                if seen.begun >= track.begun {
                    track.outcome = seen.outcome;
                    track.begun = seen.begun;
                    track.hears = seen.hears;
                }
            }
            None => {
                let track = RelayTrack { outcome: seen.outcome, begun: seen.begun, reached, hears: seen.hears };
                self.relay.insert(seen.watcher, track);
            }
        }
    }

    /// Returns when any manager of the membership last heard it: its reports, or heartbeats of an agent that reads its
    /// hypervisor.
    pub fn last_direct(&self) -> Option<Moment> {
        self.hearing.values().filter_map(|h| h.begun.max(h.links.read())).max()
    }

    /// Returns when its hypervisor was read that its newest report tells of, by any manager; for none, when it became
    /// known.
    pub fn last_word(&self) -> Moment {
        self.hearing.values().filter_map(|h| h.begun).max().unwrap_or(self.known_since).max(self.known_since)
    }

    /// Returns when `manager` last heard it.
    pub fn last_heard_by(&self, manager: ManagerId) -> Option<Moment> {
        self.hearing.get(&manager).and_then(|h| h.begun.max(h.links.read()))
    }

    /// Returns when its silence began, for one that was never heard: when it became known.
    pub fn silent_since(&self) -> Moment {
        self.last_direct().unwrap_or(self.known_since).max(self.known_since)
    }

    /// Returns whether it has been known, or heard again, for less than `age`.
    pub fn is_new(&self, now: Moment, age: Duration) -> bool {
        now.since(self.known_since.max(self.direct_since)) < age
    }

    /// Returns whether every stream that it ever had here is gone, and no heartbeat came since.
    pub fn streams_lost(&self, now: Moment, timing: &Timing) -> bool {
        let mut streams = self.hearing.values().filter_map(|h| h.stream).peekable();
        let gone = streams.peek().is_some() && streams.all(|s| s != StreamChange::Opened);
        let beats = |h: &Hearing| Network::ALL.iter().filter_map(|n| h.links.on(*n).heard).max();
        let beat = self.hearing.values().filter_map(beats).max();
        gone && beat.is_none_or(|at| now.since(at) > timing.heartbeat_interval * 2)
    }

    /// Returns the managers that hear it while it does not hear them.
    pub fn deaf_to(&self, now: Moment) -> Vec<ManagerId> {
        let deaf = |h: &Hearing| {
            let over = |n: &Network| h.links.on(*n).is_heard(now);
            let heard: Vec<_> = Network::ALL.iter().filter(|n| over(n)).collect();
            !heard.is_empty() && heard.iter().all(|n| h.links.on(**n).is_deaf(now))
        };
        self.hearing.iter().filter(|(_, h)| deaf(h)).map(|(m, _)| *m).collect()
    }

    /// Returns whether its heartbeats still come over `network`, as far as can be told: no more of them are missing than
    /// what the path loses explains.
    pub fn still_beats(&self, now: Moment, network: Network, interval: Duration) -> bool {
        self.hearing.values().any(|hearing| hearing.links.on(network).still_beats(now, interval))
    }

    /// Returns what all its measured paths over `network` lose; `None` while no heartbeat comes over it.
    pub fn loss_on(&self, network: Network, now: Moment) -> Option<PathLoss> {
        let (mut least, mut sum, mut count) = (u16::MAX, 0_u32, 0_u32);
        for link in self.hearing.values().map(|h| h.links.on(network)).filter(|link| link.is_heard(now)) {
            least = least.min(link.loss());
            sum += u32::from(link.loss_in) + u32::from(link.loss_out);
            count += 2;
        }
        let mean = u16::try_from(sum.checked_div(count)?).unwrap_or(u16::MAX);
        Some(PathLoss { least, mean })
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
        self.hand_backs.is_flapping(now)
    }

    /// Returns how much longer its silence has to last than usual: one that was heard again right after it was given up
    /// is late now and then, and not cut.
    pub fn patience(&self, now: Moment, timing: &Timing) -> Duration {
        let late = self.late.is_some_and(|at| now.since(at) < timing.flap_window);
        if late { timing.window / 2 } else { Duration::ZERO }
    }

    /// Notes that its own word rules again, after a cut that was judged at `cut`.
    pub fn note_recovery(&mut self, now: Moment, cut: Moment, timing: &Timing) {
        self.direct_since = now;
        // It was only late; and yet it was told, so it counts as any other (rule 7).
        if now.since(cut) < timing.window / 2 {
            self.late = Some(now);
        }
        self.hand_backs.note(now, timing.flap_window);
    }

    /// Notes that a cut which is recorded is about to be told as over: it counts once, also where this detector has not
    /// seen the cut, or began to lead in the middle of it.
    ///
    /// A hand-back that came while the cut was still being recorded is the one of that cut.
    pub fn note_told_recovery(&mut self, now: Moment, timing: &Timing) {
        if !self.hand_backs.any_since(self.cut_recorded - timing.window / 2, timing.flap_window) {
            self.hand_backs.note(now, timing.flap_window);
        }
    }

    /// Takes what a change of its paths recorded of its hand-backs, as of now.
    pub fn remember(&mut self, now: Moment, path: &NodePath, was: Option<Source>, timing: &Timing) {
        if path.source == Source::Watcher && was != Some(Source::Watcher) {
            self.cut_recorded = now;
        }
        self.hand_backs.take(now, &path.hand_backs, timing.flap_window, timing.window / 2);
    }
}
