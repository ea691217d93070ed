//! The one task that owns the detector.
//!
//! It hands events in, in the order in which they came, and carries effects out only while this manager leads with a
//! quorum behind it. At most one proposal is under way; what became of it is the detector's to know before it proposes
//! again. When the records change it is told what of them did, and what was said of things that were not recorded yet is
//! told again. Changes that come one after the other are told together, and always before a tick.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use vouch_detector::{Ask, Detector, Effect, Event, Proposal, Settlement, Weight};
use vouch_types::{
    Applied, AssignmentGeneration, Command, Generation, LogIndex, ManagerId, Moment, NodeId, Term, Timing, VmId,
    WatcherId, WatcherLife,
};

use super::checks::{CHECKS_MAX, Check, Checks};
use super::commands::commands_of;
use super::gathered::{Gathered, Gathering};
use super::inventory::{WideRules, inventory_of, is_relevant, records_of};
use crate::api::CheckError;
use crate::api::view::{CheckView, EvidenceView};
use crate::counters::{Count, Counters};
use crate::fleet::Fleet;
use crate::raft::{Consensus, NoticeStream};
use crate::seams::{Clock, Follower, WallClock};
use crate::store::{Changes, State};

/// How many events may wait for the detector; beyond that the streams are held up.
pub(crate) const DETECTOR_QUEUE: usize = 8_192;
/// How many lease times a proposal may take before it counts as lost.
const PROPOSAL_LEASES: u32 = 10;

/// What the task is handed.
pub(crate) enum DetectorInput {
    /// A fact.
    Event(Event),
    /// An operator wants a fresh look at a VM.
    Check {
        /// Which VM.
        vm: VmId,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<CheckView, CheckError>>,
    },
    /// Somebody wants to know what the detector holds on a VM.
    Evidence {
        /// Which VM.
        vm: VmId,
        /// Where it goes.
        reply: oneshot::Sender<Option<EvidenceView>>,
    },
}

/// The task; see the module's head.
pub(crate) struct DetectorTask {
    pub(crate) own: ManagerId,
    pub(crate) timing: Timing,
    pub(crate) clock: Clock,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    pub(crate) consensus: Consensus,
    pub(crate) fleet: Fleet,
    pub(crate) counters: Counters,
    pub(crate) leading: Follower<Option<Term>>,
    pub(crate) inputs: mpsc::Receiver<DetectorInput>,
}

/// The settlement of a proposal, by its number.
type Settled = (u64, Settlement);

struct Running {
    task: DetectorTask,
    detector: Detector,
    checks: Checks,
    leads: Option<Term>,
    deadline: Option<Moment>,
    proposal: u64,
    settled_index: LogIndex,
    settled: mpsc::Sender<Settled>,
    known_nodes: BTreeSet<NodeId>,
    known_vms: BTreeMap<VmId, Generation>,
    known_watchers: BTreeMap<WatcherId, AssignmentGeneration>,
    wide: WideRules,
    gathering: Gathering,
}

impl DetectorTask {
    /// Runs until the manager stops.
    pub(crate) async fn run(self) {
        let (settled, settlements) = mpsc::channel(16);
        let notices = self.consensus.subscribe();
        let running = Running {
            detector: Detector::new(self.own, self.timing.clone()),
            task: self,
            checks: Checks::default(),
            leads: None,
            deadline: None,
            proposal: 0,
            settled_index: LogIndex::default(),
            settled,
            known_nodes: BTreeSet::new(),
            known_vms: BTreeMap::new(),
            known_watchers: BTreeMap::new(),
            wide: WideRules::default(),
            gathering: Gathering::default(),
        };
        running.run(notices, settlements).await;
    }
}

impl Running {
    async fn run(mut self, mut notices: NoticeStream, mut settlements: mpsc::Receiver<Settled>) {
        let mut interval = tokio::time::interval(self.task.timing.tick_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.load_inventory();
        loop {
            let due = at(self.deadline.map(|at| self.task.clock.instant(at)));
            let gathered = at(self.gathering.due().map(|at| self.task.clock.instant(at)));
            tokio::select! {
                biased;
                () = self.task.leading.changed() => {
                    let leads = self.task.leading.see();
                    self.lead(leads);
                }
                notice = notices.next() => {
                    let Some(notice) = notice else { return };
                    self.gathering.add(&notice);
                }
                Some((proposal, settlement)) = settlements.recv() => {
                    // What was applied is told before what came of the proposal.
                    while let Some(Some(notice)) = notices.next().now_or_never() {
                        self.gathering.add(&notice);
                    }
                    self.tell_gathered();
                    if proposal == self.proposal {
                        self.settle(settlement);
                    }
                }
                () = gathered => self.tell_gathered(),
                _ = interval.tick() => self.tick(),
                () = due => {
                    self.deadline = None;
                    self.tick();
                }
                input = self.task.inputs.recv() => match input {
                    Some(input) => self.take(input),
                    None => return,
                }
            }
            self.finish_checks();
        }
    }

    /// Ends checks; what watchers found counts as the records have it.
    fn finish_checks(&mut self) {
        let DetectorTask { fleet, consensus, clock, .. } = &self.task;
        self.checks.finish(clock.now(), |vm, watcher, nonce| {
            // Before the records are read: the book of the fleet is never taken while they are.
            let looks = fleet.take_looks(watcher, nonce);
            let pins = consensus.read_state(|state| state.vms().get(&vm).map(|vm| vm.pins.clone()).unwrap_or_default());
            looks.into_iter().map(|look| look.counted(&pins)).collect()
        });
    }

    fn tick(&mut self) {
        self.tell_gathered();
        self.feed(Event::Ticked);
    }

    fn take(&mut self, input: DetectorInput) {
        if !matches!(input, DetectorInput::Event(_)) {
            self.tell_gathered();
        }
        match input {
            DetectorInput::Event(event) => {
                let answered = match &event {
                    Event::AskAnswered { watcher, nonce } => Some((*watcher, *nonce)),
                    _ => None,
                };
                self.feed(event);
                if let Some((watcher, nonce)) = answered {
                    self.checks.answered(watcher, nonce);
                }
            }
            DetectorInput::Check { vm, reply } => self.check(vm, reply),
            DetectorInput::Evidence { vm, reply } => {
                // The one who asked may have gone.
                let _ = reply.send(self.evidence(vm));
            }
        }
    }

    fn evidence(&self, vm: VmId) -> Option<EvidenceView> {
        let now = self.task.clock.now();
        let evidence = self.detector.evidence(now, &vm)?;
        // Before the records are read: the book of the fleet is never taken while they are.
        let relays = self.task.fleet.relay_words(now);
        let messages = self.task.fleet.messages(vm);
        self.task.consensus.read_state(|state| {
            let context = super::views::EvidenceContext {
                own: self.task.own,
                leads: self.leads.is_some(),
                window: self.task.timing.window,
                state,
            };
            Some(super::views::evidence_view(&context, &evidence, &relays, &messages))
        })
    }

    fn check(&mut self, vm: VmId, reply: oneshot::Sender<Result<CheckView, CheckError>>) {
        let now = self.task.clock.now();
        let refusal = if !self.known_vms.contains_key(&vm) {
            Some(CheckError::UnknownVm(vm))
        } else if self.leads.is_none() {
            Some(CheckError::NotLeader)
        } else if !self.checks.has_room() {
            Some(CheckError::TooMany(CHECKS_MAX))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        let effects = self.detector.handle(now, Event::CheckRequested { vm });
        let asks: Vec<&Ask> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Ask(ask) if is_check_of(vm, ask) => Some(ask),
                Effect::Ask(_) | Effect::Propose(_) | Effect::Schedule(_) => None,
            })
            .collect();
        if asks.is_empty() {
            let _ = reply.send(Err(CheckError::NoWatcher(vm)));
        } else {
            let limit = asks.iter().map(|a| a.deadline).max().unwrap_or_default() + self.task.timing.tick_interval * 2;
            self.checks.add(Check {
                vm,
                begun: now,
                deadline: now + limit,
                asked: asks.iter().map(|a| (a.nonce, a.watcher)).collect(),
                answered: BTreeSet::new(),
                reply,
            });
        }
        self.execute_for(Some(vm), effects);
    }

    fn lead(&mut self, leads: Option<Term>) {
        self.leads = leads;
        // A proposal of an earlier term is nothing to wait for.
        self.proposal += 1;
        self.load_inventory();
        self.feed(Event::LeadershipChanged { leads });
    }

    fn settle(&mut self, settlement: Settlement) {
        match settlement {
            Settlement::Committed(index) => {
                self.settled_index = self.settled_index.max(index);
                self.task.counters.add(Count::ProposalsCommitted, "detector", 1);
            }
            Settlement::Failed => self.task.counters.add(Count::ProposalsFailed, "detector", 1),
        }
        self.feed(Event::ProposalSettled(settlement));
        // One that changed nothing has no notice: the records are of its index all the same.
        self.load_changes(&Changes::default());
    }

    /// Hands the records to the detector as they are now, and tells again what was said of those that are new.
    fn load_inventory(&mut self) {
        // It is among them.
        drop(self.gathering.take());
        let consensus = &self.task.consensus;
        // Read first: the state is then of this index or a later one. What is settled was applied.
        let index = (*consensus.applied_index().borrow()).max(self.settled_index);
        let managers = consensus.status().voters.into_keys().collect();
        let (inventory, wide) =
            consensus.read_state(|state| (inventory_of(state, index, managers), WideRules::of(state)));
        self.wide = wide;
        let nodes: BTreeSet<NodeId> = inventory.nodes.iter().map(|n| n.node.clone()).collect();
        let watchers: BTreeMap<_, _> = inventory.watchers.iter().map(|w| (w.watcher, w.assignment)).collect();
        let vms: BTreeMap<VmId, Generation> = inventory.vms.iter().map(|vm| (vm.vm, vm.generation)).collect();
        let new_vms = inventory.vms.iter().filter(|vm| self.known_vms.get(&vm.vm) != Some(&vm.generation));
        let mut new_nodes: BTreeSet<NodeId> = new_vms.map(|vm| vm.node.clone()).collect();
        new_nodes.extend(nodes.difference(&self.known_nodes).cloned());
        // What a watcher said of a VM before its assignment was recorded here was left out.
        let changed = watchers.iter().filter(|(id, assignment)| self.known_watchers.get(id) != Some(assignment));
        let mut new_watchers: BTreeSet<WatcherId> = changed.map(|(id, _)| *id).collect();
        if vms.keys().any(|vm| !self.known_vms.contains_key(vm)) {
            new_watchers.extend(watchers.keys().copied());
        }
        let kept: BTreeSet<WatcherId> =
            inventory.watchers.iter().filter(|w| w.life != WatcherLife::Retired).map(|w| w.watcher).collect();
        self.task.fleet.forget_watchers(|watcher| kept.contains(&watcher));
        (self.known_nodes, self.known_watchers, self.known_vms) = (nodes, watchers, vms);
        self.forget_removed_nodes();
        self.feed(Event::InventoryChanged(inventory));
        self.tell_again(new_nodes, new_watchers);
    }

    /// Has the fleet let go of nodes that were removed, and have not joined again.
    fn forget_removed_nodes(&self) {
        let shut: BTreeSet<NodeId> = self.task.consensus.read_state(|state| {
            let shut = state.removed_nodes().values().filter(|removed| removed.is_shut());
            shut.map(|removed| removed.id.clone()).collect()
        });
        self.task.fleet.forget_nodes(&shut);
    }

    /// The same for what these changes touched, at a cost that goes with them and not with the size of the cluster.
    fn load_changes(&mut self, changes: &Changes) {
        let consensus = &self.task.consensus;
        let index = (*consensus.applied_index().borrow()).max(self.settled_index);
        let managers = consensus.status().voters.into_keys().collect();
        let (records, wide) = consensus.read_state(|state| {
            let may = changes.head || !changes.probes.is_empty();
            let wide = may.then(|| WideRules::of(state)).filter(|wide| *wide != self.wide);
            (records_of(state, index, managers, changes), wide)
        });
        if wide.is_some() {
            // A policy, a maintenance window or an assignment of a probe may change how any VM is judged.
            return self.load_inventory();
        }
        let mut new_nodes: BTreeSet<NodeId> = BTreeSet::new();
        let mut new_watchers: BTreeSet<WatcherId> = BTreeSet::new();
        for node in &records.nodes {
            if self.known_nodes.insert(node.node.clone()) {
                new_nodes.insert(node.node.clone());
            }
        }
        let mut forget = !records.removed_watchers.is_empty();
        for watcher in &records.watchers {
            forget |= watcher.life == WatcherLife::Retired;
            if self.known_watchers.insert(watcher.watcher, watcher.assignment) != Some(watcher.assignment) {
                new_watchers.insert(watcher.watcher);
            }
        }
        for vm in &records.vms {
            let known = self.known_vms.insert(vm.vm, vm.generation);
            if known != Some(vm.generation) {
                // What its node said of this generation before it was recorded here was left out.
                new_nodes.insert(vm.node.clone());
            }
            if known.is_none() {
                let watching = |state: &State| {
                    let all = state.watchers().values().filter(|w| w.vms.contains(&vm.vm));
                    all.map(|w| w.id).collect::<Vec<_>>()
                };
                new_watchers.extend(consensus.read_state(watching));
            }
        }
        for node in &records.removed_nodes {
            self.known_nodes.remove(node);
        }
        if !records.removed_nodes.is_empty() {
            self.forget_removed_nodes();
        }
        for watcher in &records.removed_watchers {
            self.known_watchers.remove(watcher);
        }
        for vm in &records.removed_vms {
            self.known_vms.remove(vm);
        }
        if forget {
            let kept: BTreeSet<WatcherId> = consensus.read_state(|state| {
                let all = state.watchers().values().filter(|w| w.life != WatcherLife::Retired);
                all.map(|w| w.id).collect()
            });
            self.task.fleet.forget_watchers(|watcher| kept.contains(&watcher));
        }
        self.feed(Event::RecordsChanged(records));
        self.tell_again(new_nodes, new_watchers);
    }

    /// Tells the detector what has changed of the records.
    fn tell_gathered(&mut self) {
        let begun = self.task.clock.now();
        match self.gathering.take() {
            Gathered::Whole => self.load_inventory(),
            Gathered::Changes(changes) if is_relevant(&changes) => self.load_changes(&changes),
            Gathered::Changes(_) | Gathered::Nothing => return,
        }
        let now = self.task.clock.now();
        self.gathering.told(now, now.since(begun));
    }

    fn tell_again(&mut self, nodes: BTreeSet<NodeId>, watchers: BTreeSet<WatcherId>) {
        if nodes.is_empty() && watchers.is_empty() {
            return;
        }
        let nodes: Vec<_> = nodes.into_iter().collect();
        let watchers: Vec<_> = watchers.into_iter().collect();
        for event in self.task.fleet.retold(&nodes, &watchers) {
            self.feed(event);
        }
    }

    fn feed(&mut self, event: Event) {
        let effects = self.detector.handle(self.task.clock.now(), event);
        self.execute(effects);
    }

    fn execute(&mut self, effects: Vec<Effect>) {
        self.execute_for(None, effects);
    }

    /// Carries effects out; asks on the VM that a check is for want to know what the outcomes rest on.
    fn execute_for(&mut self, checked: Option<VmId>, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Schedule(at) => self.deadline = Some(at),
                Effect::Ask(ask) if self.leads.is_some() => {
                    self.task.fleet.ask(&ask, checked.filter(|vm| is_check_of(*vm, &ask)));
                }
                Effect::Propose(proposal) if self.leads.is_some() => self.propose(proposal),
                Effect::Ask(_) => self.task.counters.add(Count::EffectsDropped, "ask", 1),
                Effect::Propose(_) => {
                    self.task.counters.add(Count::EffectsDropped, "proposal", 1);
                    self.proposal += 1;
                    let (settled, number) = (self.settled.clone(), self.proposal);
                    let wait = self.task.timing.tick_interval;
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        let _ = settled.send((number, Settlement::Failed)).await;
                    });
                }
            }
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        self.proposal += 1;
        let number = self.proposal;
        let commands = commands_of(proposal, self.task.wall_clock.now());
        let (consensus, settled) = (self.task.consensus.clone(), self.settled.clone());
        let within = self.task.timing.raft_election_max * PROPOSAL_LEASES;
        tokio::spawn(async move {
            let settlement = match tokio::time::timeout(within, propose_all(&consensus, commands)).await {
                Ok(Some(index)) => Settlement::Committed(index),
                Ok(None) | Err(_) => Settlement::Failed,
            };
            let _ = settled.send((number, settlement)).await;
        });
    }
}

/// Returns whether an ask is part of a check of this VM. A light one is not: it follows a suspicion, and may name the VM among
/// many others.
fn is_check_of(vm: VmId, ask: &Ask) -> bool {
    ask.weight == Weight::Full && ask.vms.contains(&vm)
}

/// Ends at this moment, or never.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Proposes commands one after the other; returns the index of the last one, or `None` when one was not applied.
async fn propose_all(consensus: &Consensus, commands: Vec<Command>) -> Option<LogIndex> {
    let mut last = LogIndex::default();
    for command in commands {
        let name = command.name();
        match consensus.propose(command).await {
            Ok(Applied::Done { index } | Applied::Recorded { index, .. }) => last = last.max(index),
            Ok(Applied::Denied(reason)) => {
                // What is gone meanwhile is nothing to propose again; the inventory shows it.
                tracing::info!(command = name, %reason, "proposal refused");
            }
            Ok(
                Applied::Nothing
                | Applied::WatcherPlaced { .. }
                | Applied::NodeRemoved { .. }
                | Applied::WatchersAssigned { .. }
                | Applied::MaintenanceBegun { .. }
                | Applied::JoinTokenCreated { .. }
                | Applied::Repeated { .. },
            ) => {}
            Err(error) => {
                tracing::warn!(command = name, %error, "proposal failed");
                return None;
            }
        }
    }
    Some(last)
}

/// How often the lease is confirmed in one tick interval at the most.
pub(crate) fn lease_check_interval(timing: &Timing) -> Duration {
    timing.tick_interval.min(timing.raft_election_max / 2)
}
