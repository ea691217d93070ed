//! The detector itself: takes events in, moves the phases of paths, and has the judges speak.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::event::ManagerNote;
use vouch_types::{LogIndex, ManagerId, Moment, NodeId, Nonce, Term, Timing, VmId, WatcherId};

use crate::asks::Asks;
use crate::node_track::{NodeTrack, Phase};
use crate::silence::Listening;
use crate::vm_track::VmTrack;
use crate::watcher_track::WatcherTrack;
use crate::{Effect, Event, Inventory, Settlement};

/// Where the one proposal stands that may be under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proposing {
    /// None is.
    Idle,
    /// One is.
    UnderWay,
    /// One was committed at this index; the inventory that shows it has not come yet.
    Awaiting(LogIndex),
}

/// Evidence in, verdicts and effects out; see the crate's head.
#[derive(Debug)]
pub struct Detector {
    pub(crate) own: ManagerId,
    pub(crate) timing: Timing,
    pub(crate) leads: Option<Term>,
    pub(crate) listening: Listening,
    pub(crate) asks: Asks,
    pub(crate) index: LogIndex,
    pub(crate) managers: BTreeMap<ManagerId, Option<Moment>>,
    pub(crate) nodes: BTreeMap<NodeId, NodeTrack>,
    pub(crate) vms: BTreeMap<VmId, VmTrack>,
    pub(crate) watchers: BTreeMap<WatcherId, WatcherTrack>,
    pub(crate) recorded_notes: Vec<ManagerNote>,
    pub(crate) proposing: Proposing,
    /// VMs whose evidence has changed since they were last judged.
    pub(crate) dirty: BTreeSet<VmId>,
    /// Nodes whose paths may have changed since they were last judged.
    pub(crate) touched: BTreeSet<NodeId>,
    /// Everything is to be looked at: time passed, or the records changed.
    pub(crate) whole_pass: bool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) dropped: u64,
}

impl Detector {
    /// Returns a detector that has heard nothing yet, for the manager `own`.
    pub fn new(own: ManagerId, timing: Timing) -> Self {
        Self {
            own,
            timing,
            leads: None,
            listening: Listening::default(),
            asks: Asks::default(),
            index: LogIndex::default(),
            managers: BTreeMap::new(),
            nodes: BTreeMap::new(),
            vms: BTreeMap::new(),
            watchers: BTreeMap::new(),
            recorded_notes: Vec::new(),
            proposing: Proposing::Idle,
            dirty: BTreeSet::new(),
            touched: BTreeSet::new(),
            whole_pass: false,
            effects: Vec::new(),
            dropped: 0,
        }
    }

    /// Takes one event at the moment `now` and returns what is to be done. `now` must not go back.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Effect> {
        // Half a window without a call: this manager stalled, and its own silence proves nothing.
        self.listening.note(now, self.timing.window / 2);
        let records =
            matches!(event, Event::InventoryChanged(_) | Event::LeadershipChanged { .. } | Event::ProposalSettled(_));
        self.whole_pass |= records || event == Event::Ticked;
        match event {
            Event::Ticked => self.advance_all(now),
            other => self.take(now, other),
        }
        self.judge_dirty(now);
        self.propose(now);
        std::mem::take(&mut self.effects)
    }

    /// Returns how many messages were about things that are not recorded, or beyond a limit.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.vms.values().map(|vm| vm.refused).sum::<u64>()
    }

    fn take(&mut self, now: Moment, event: Event) {
        match event {
            Event::Ticked => {}
            Event::InventoryChanged(inventory) => self.take_inventory(now, inventory),
            Event::LeadershipChanged { leads } => self.take_leadership(now, leads),
            Event::ManagerHeard { manager, begun } => {
                if let Some(heard) = self.managers.get_mut(&manager) {
                    *heard = (*heard).max(Some(begun));
                }
            }
            Event::NodeStreamChanged { manager, node, change } => {
                self.with_node(now, &node, |track| track.stream(manager, change));
            }
            Event::NodeHeard { manager, node, begun } => self.with_node(now, &node, |track| track.hear(manager, begun)),
            Event::NodeReported(report) => self.take_report(now, report),
            Event::StatementReceived { watcher, statement, begun } => {
                self.take_statement(watcher, statement, begun);
            }
            Event::WatcherStreamChanged { .. } => {
                // A stream that went says nothing that silence does not say: its watcher dials again at once.
            }
            Event::WatcherHeard { manager, watcher, network, incarnation, begun, health } => {
                match self.watchers.get_mut(&watcher) {
                    Some(track) => track.hear(manager, network, incarnation, begun, health),
                    None => self.dropped += 1,
                }
            }
            Event::LinkMeasured(_) => {}
            Event::Observed(seen) => self.take_observation(seen),
            Event::RelayObserved(mut seen) => {
                seen.begun = self.begun_of(seen.begun, seen.asked, seen.watcher);
                let node = seen.node.clone();
                self.with_node(now, &node, |track| track.answer(&seen));
            }
            Event::OthersUnchanged { watcher, assignment, begun } => {
                if let Some(track) = self.watchers.get_mut(&watcher) {
                    track.confirm_others(assignment, begun);
                }
            }
            Event::AskAnswered { watcher, nonce } => self.close_ask(now, watcher, nonce),
            Event::CheckRequested { vm } => self.ask_about_vm(now, vm),
            Event::ProposalSettled(settlement) => {
                self.proposing = match settlement {
                    Settlement::Committed(index) if index > self.index => Proposing::Awaiting(index),
                    Settlement::Committed(_) | Settlement::Failed => Proposing::Idle,
                };
                if settlement == Settlement::Failed {
                    self.dirty.extend(self.vms.keys().copied());
                }
            }
        }
    }

    /// Returns when a check began: an answer to an ask of this detector's own began after it, whatever the tick says.
    pub(crate) fn begun_of(&self, begun: Moment, asked: Option<Nonce>, watcher: WatcherId) -> Moment {
        let ask = asked.and_then(|nonce| self.asks.get(nonce, watcher));
        ask.map_or(begun, |ask| begun.max(ask.at))
    }

    fn with_node(&mut self, now: Moment, node: &NodeId, change: impl FnOnce(&mut NodeTrack)) {
        match self.nodes.get_mut(node) {
            Some(track) => {
                change(track);
                self.advance_node(now, node);
            }
            None => self.dropped += 1,
        }
    }

    fn take_leadership(&mut self, now: Moment, leads: Option<Term>) {
        if self.leads == leads {
            return;
        }
        self.leads = leads;
        self.proposing = Proposing::Idle;
        if leads.is_none() {
            return;
        }
        // The asks were its predecessor's: what is cut is asked about anew before anything is said of it.
        for track in self.nodes.values_mut() {
            if let Phase::Cut { .. } = track.phase {
                track.phase = Phase::Suspect { since: now, open: BTreeSet::new(), deadline: None };
            }
        }
        self.dirty.extend(self.vms.keys().copied());
        self.advance_all(now);
    }

    fn take_inventory(&mut self, now: Moment, inventory: Inventory) {
        if inventory.index < self.index {
            return;
        }
        self.index = inventory.index;
        if matches!(self.proposing, Proposing::Awaiting(index) if index <= self.index) {
            self.proposing = Proposing::Idle;
            self.dirty.extend(self.vms.keys().copied());
        }
        self.recorded_notes = inventory.manager_notes;
        self.managers = inventory.managers.iter().map(|m| (*m, self.managers.get(m).copied().flatten())).collect();
        let managers = &self.managers;

        let mut nodes = std::mem::take(&mut self.nodes);
        for entry in inventory.nodes {
            let mut track = nodes.remove(&entry.node).unwrap_or_else(|| NodeTrack::new(entry.clone(), now));
            track.entry = entry;
            track.vms.clear();
            track.keep_managers(|m| managers.contains_key(&m));
            self.nodes.insert(track.entry.node.clone(), track);
        }

        let mut watchers = std::mem::take(&mut self.watchers);
        for entry in inventory.watchers {
            let mut track = watchers.remove(&entry.watcher).unwrap_or_else(|| WatcherTrack::new(entry.clone(), now));
            if track.entry.life != entry.life {
                track.live_since = now;
            }
            track.entry = entry;
            self.watchers.insert(track.entry.watcher, track);
        }

        let mut vms = std::mem::take(&mut self.vms);
        for entry in inventory.vms {
            if let Some(node) = self.nodes.get_mut(&entry.node) {
                node.vms.insert(entry.vm);
            }
            let known = vms.remove(&entry.vm);
            let changed = known.as_ref().is_none_or(|track| track.entry != entry);
            let mut track = known.unwrap_or_else(|| VmTrack::new(entry.clone()));
            if changed {
                self.dirty.insert(entry.vm);
                if track.entry.generation != entry.generation || track.entry.node != entry.node {
                    // Another owner, another generation: what was said of the old one proves nothing of the new.
                    track.word = None;
                    track.statement = None;
                }
                track.entry = entry;
            }
            let watchers = &self.watchers;
            track.checks.retain(|key, _| watchers.contains_key(&key.0));
            self.vms.insert(track.entry.vm, track);
        }
        let (vms, watchers) = (&self.vms, &self.watchers);
        self.dirty.retain(|vm| vms.contains_key(vm));
        for node in self.nodes.values_mut() {
            node.relay.retain(|watcher, _| watchers.contains_key(watcher));
        }
    }
}
