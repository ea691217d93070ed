//! The detector itself: takes events in, moves the phases of paths, and has the judges speak.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::event::ManagerNote;
use vouch_types::{
    IncidentScope, IncidentWord, LogIndex, ManagerId, Moment, NodeId, Nonce, Term, Timing, VmId, WatcherId,
};

use crate::asks::Asks;
use crate::incidents::PendingIncident;
use crate::judge::group::Groups;
use crate::node_track::{NodeTrack, Phase};
use crate::silence::Listening;
use crate::suspicion::Suspects;
use crate::vm_table::VmTable;
use crate::watcher_track::WatcherTrack;
use crate::{DiskWord, Effect, Event, Settlement};

/// Where the one proposal stands that may be under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proposing {
    /// None is.
    Idle,
    /// One is.
    UnderWay,
    /// One was committed at this index; the records that show it have not come yet.
    Awaiting(LogIndex),
}

/// How many proposals there were lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Proposed {
    /// Since when they are counted.
    pub since: Moment,
    /// How many.
    pub count: u32,
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
    /// Other managers whose disks are full, as they said last.
    pub(crate) full_disks: BTreeSet<ManagerId>,
    pub(crate) nodes: BTreeMap<NodeId, NodeTrack>,
    pub(crate) vms: VmTable,
    pub(crate) watchers: BTreeMap<WatcherId, WatcherTrack>,
    pub(crate) recorded_notes: Vec<ManagerNote>,
    pub(crate) recorded_incidents: BTreeMap<IncidentScope, IncidentWord>,
    pub(crate) pending_incidents: BTreeMap<IncidentScope, PendingIncident>,
    /// What nodes share that is broken, as of the last whole pass.
    pub(crate) groups: Groups,
    pub(crate) proposing: Proposing,
    pub(crate) proposed: Proposed,
    /// VMs whose evidence has changed since they were last judged, each once.
    pub(crate) dirty: Vec<VmId>,
    /// VMs whose judgement time alone can change.
    pub(crate) restless: BTreeSet<VmId>,
    /// Those of them that are suspicious.
    pub(crate) suspects: Suspects,
    /// VMs that their nodes say are paused by an I/O error.
    pub(crate) io_paused: BTreeSet<VmId>,
    /// VMs that a node claims which does not own them.
    pub(crate) claimed: BTreeSet<VmId>,
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
            full_disks: BTreeSet::new(),
            nodes: BTreeMap::new(),
            vms: VmTable::default(),
            watchers: BTreeMap::new(),
            recorded_notes: Vec::new(),
            recorded_incidents: BTreeMap::new(),
            pending_incidents: BTreeMap::new(),
            groups: Groups::default(),
            proposing: Proposing::Idle,
            proposed: Proposed::default(),
            dirty: Vec::new(),
            restless: BTreeSet::new(),
            suspects: Suspects::default(),
            io_paused: BTreeSet::new(),
            claimed: BTreeSet::new(),
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
        let ticked = event == Event::Ticked;
        self.take(now, event);
        if ticked {
            self.whole_pass = true;
            self.advance_all(now);
        }
        if ticked && self.leads.is_none() {
            self.regroup(now);
            self.incident_changes(now);
        }
        self.look_into(now);
        self.propose(now);
        std::mem::take(&mut self.effects)
    }

    /// Returns how many messages were about things that are not recorded, or beyond a limit.
    pub fn dropped(&self) -> u64 {
        self.dropped + self.vms.iter().map(|vm| u64::from(vm.refused)).sum::<u64>()
    }

    /// Returns how many VMs are recorded.
    pub fn vms(&self) -> usize {
        self.vms.len()
    }

    fn take(&mut self, now: Moment, event: Event) {
        match event {
            Event::Ticked => {}
            Event::InventoryChanged(inventory) => self.take_inventory(now, inventory),
            Event::RecordsChanged(records) => self.take_records(now, records),
            Event::LeadershipChanged { leads } => self.take_leadership(now, leads),
            Event::ManagerHeard { manager, begun } => {
                if let Some(heard) = self.managers.get_mut(&manager) {
                    *heard = (*heard).max(Some(begun));
                }
            }
            Event::ManagerDiskTold { manager, disk } => match disk {
                DiskWord::Low if self.managers.contains_key(&manager) => {
                    self.full_disks.insert(manager);
                }
                DiskWord::Low => self.dropped += 1,
                DiskWord::Enough => {
                    self.full_disks.remove(&manager);
                }
            },
            Event::LinkMeasured(measure) => {
                let node = measure.node.clone();
                // A manager that is not of the membership hears nothing for this one.
                if self.managers.contains_key(&measure.manager) {
                    self.with_node(now, &node, |track| track.measure(&measure));
                } else {
                    self.dropped += 1;
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
            Event::Observed(seen) => self.take_observation(seen),
            Event::RelayObserved(mut seen) => {
                seen.begun = self.begun_of(seen.begun, seen.asked, seen.watcher);
                let node = seen.node.clone();
                self.with_node(now, &node, |track| track.answer(seen));
            }
            Event::OthersUnchanged { watcher, assignment, begun } => {
                if let Some(track) = self.watchers.get_mut(&watcher) {
                    track.confirm_others(assignment, begun);
                }
            }
            Event::AskAnswered { watcher, nonce } => self.close_ask(now, watcher, nonce),
            Event::CheckRequested { vm } => self.ask_about_vm(now, vm),
            Event::ProposalSettled(settlement) => self.take_settlement(settlement),
        }
    }

    fn take_settlement(&mut self, settlement: Settlement) {
        self.whole_pass = true;
        self.proposing = match settlement {
            Settlement::Committed(index) if index > self.index => Proposing::Awaiting(index),
            Settlement::Committed(_) | Settlement::Failed => Proposing::Idle,
        };
        if settlement == Settlement::Failed {
            self.all_dirty();
            // A manager that has just lost its lead is refused at once, and would be again: not before the next tick.
            self.proposed.count = crate::verdicts::PROPOSALS_PER_TICK_MAX;
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

    /// Has a VM judged at the end of this call, or when no proposal is under way.
    pub(crate) fn mark(&mut self, id: VmId) {
        if let Some(vm) = self.vms.get_mut(&id)
            && !vm.is_dirty
        {
            vm.is_dirty = true;
            self.dirty.push(id);
        }
    }

    pub(crate) fn all_dirty(&mut self) {
        for vm in self.vms.iter_mut().filter(|vm| !vm.is_dirty) {
            vm.is_dirty = true;
            self.dirty.push(vm.entry.vm);
        }
    }

    fn take_leadership(&mut self, now: Moment, leads: Option<Term>) {
        if self.leads == leads {
            return;
        }
        self.leads = leads;
        self.proposing = Proposing::Idle;
        self.whole_pass = true;
        if leads.is_none() {
            return;
        }
        // The asks were its predecessor's: what is cut is asked about anew before anything is said of it.
        for track in self.nodes.values_mut() {
            if let Phase::Cut { .. } = track.phase {
                track.phase = Phase::Suspect { since: now, open: BTreeSet::new(), deadline: None };
            }
        }
        self.all_dirty();
        self.advance_all(now);
    }
}
