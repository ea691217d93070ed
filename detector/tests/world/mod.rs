//! A small world with a truth, around one detector: two nodes, one VM on each, a watcher on each, two managers.
//!
//! It feeds the detector what a manager would hear, answers its asks from the truth, and records what it proposes the
//! way the replicated state would. `SimWorld` moves in steps of 50 ms of virtual time and draws no random number.

mod recording;
pub mod schedule;
pub mod told;
mod truth;
mod watching;

pub use told::Told;
pub use truth::NodeTruth;

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use vouch_detector::{
    Ask, Detector, DiskWord, Effect, Event, Inventory, LinkMeasure, NodeEntry, NodeReport, StreamChange, VmEntry,
    VmWord, WatcherEntry,
};
use vouch_types::{
    AssignmentGeneration, BootId, ExitReason, FenceKind, FenceProof, Generation, HypervisorState, Identity,
    Incarnation, LogIndex, ManagerId, Moment, Network, NodeId, NodePath, Observation, Outcome, Pin, ProbeAssignment,
    ProbeName, RelayObservation, RelayOutcome, Sequence, StartId, Statement, Term, Timing, Verdict, VmId, VmState,
    WallTime, WatcherHealth, WatcherId, WatcherLife,
};

pub const STEP: Duration = Duration::from_millis(50);
pub const NODES: usize = 2;
/// How long a manager has to count heartbeats before it knows what share is lost.
const METER: Duration = Duration::from_secs(5);

pub struct SimWorld {
    pub now: Moment,
    pub truth: [NodeTruth; NODES],
    pub told: Vec<Told>,
    pub log: Vec<String>,
    /// Whether manager m2 runs.
    pub other_manager: bool,
    /// Watchers bring statements of position 1 that say "gone", as a thief of an old one would.
    pub replay_statements: bool,
    detector: Detector,
    inventory: Inventory,
    proven: BTreeMap<VmId, Vec<ProbeAssignment>>,
    pins: BTreeMap<VmId, Vec<Pin>>,
    sequence: u64,
    heard_from: [[bool; 2]; NODES],
    pending: Vec<(Moment, Event)>,
    step: u64,
    /// Since when the managers count heartbeats.
    managers_since: Moment,
}

pub fn node(i: usize) -> NodeId {
    NodeId::new(&format!("n{}", i + 1)).unwrap()
}

pub fn vm(i: usize) -> VmId {
    VmId::new(Uuid::from_u128(i as u128 + 1))
}

pub fn watcher(i: usize) -> WatcherId {
    WatcherId::new(i as u64 + 1)
}

fn manager(i: usize) -> ManagerId {
    ManagerId::new(i as u64 + 1)
}

fn agent_probe() -> ProbeAssignment {
    let probe = ProbeName::new("guest-agent").unwrap();
    ProbeAssignment { probe, network: Network::Management, settings: "{}".into() }
}

fn rdp() -> ProbeAssignment {
    ProbeAssignment { probe: ProbeName::new("rdp").unwrap(), network: Network::Service, settings: "{}".into() }
}

impl SimWorld {
    pub fn new() -> Self {
        let timing = Timing::default();
        let inventory = Inventory {
            incidents: Vec::new(),
            index: LogIndex::new(1),
            managers: vec![manager(0), manager(1)],
            nodes: (0..NODES)
                .map(|i| NodeEntry {
                    fence: None,
                    rack: None,
                    node: node(i),
                    boot: BootId::new(Uuid::from_u128(9)),
                    path: NodePath::direct(WallTime::default()),
                })
                .collect(),
            vms: (0..NODES)
                .map(|i| VmEntry {
                    datastore: None,
                    maintenance: String::new(),
                    pins: Vec::new(),
                    boot: None,
                    claimed_by: Vec::new(),
                    policy: vouch_types::Policy::default(),
                    vm: vm(i),
                    node: node(i),
                    generation: Generation::new(1),
                    addresses: vec![],
                    probes: vec![rdp(), agent_probe()],
                    probe_times: Vec::new(),
                    proven: vec![],
                    verdict: Verdict::unjudged(WallTime::default()),
                })
                .collect(),
            watchers: (0..NODES)
                .map(|i| WatcherEntry {
                    watcher: watcher(i),
                    node: node(i),
                    life: WatcherLife::Live,
                    incarnation: Some(Incarnation::new(1)),
                    vms: (0..NODES).map(vm).collect(),
                    assignment: AssignmentGeneration::new(1),
                })
                .collect(),
            manager_notes: vec![],
        };
        let mut world = Self {
            now: Moment::from_micros(1_000_000),
            truth: [NodeTruth::WELL; NODES],
            told: vec![],
            log: vec![],
            other_manager: true,
            replay_statements: false,
            detector: Detector::new(manager(0), timing),
            inventory: inventory.clone(),
            proven: BTreeMap::new(),
            pins: BTreeMap::new(),
            sequence: 0,
            heard_from: [[false; 2]; NODES],
            pending: vec![],
            step: 0,
            managers_since: Moment::from_micros(1_000_000),
        };
        world.feed(Event::InventoryChanged(inventory));
        world.feed(Event::LeadershipChanged { leads: Some(Term::new(1)) });
        world
    }

    pub fn state(&self, i: usize) -> VmState {
        self.inventory.vms[i].verdict.state
    }

    /// Returns whether the watcher on a node is recorded as live. This world replaces none: one that was called lost and
    /// runs again is no observer any more.
    pub fn is_live(&self, i: usize) -> bool {
        self.inventory.watchers[i].life == WatcherLife::Live
    }

    pub fn path(&self, i: usize) -> &NodePath {
        &self.inventory.nodes[i].path
    }

    pub fn top_causes(&self, i: usize) -> Vec<String> {
        let own = self.inventory.vms[i].verdict.faults.iter();
        self.path(i).faults.iter().chain(own).map(|f| f.top().to_string()).collect()
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.advance();
        }
    }

    /// Loses the leadership and gains it again with a detector of its own, fed from now on.
    pub fn change_leader(&mut self) {
        self.feed(Event::LeadershipChanged { leads: None });
        self.run(Duration::from_millis(400));
        self.feed(Event::LeadershipChanged { leads: Some(Term::new(self.step)) });
    }

    /// The other manager says whether its disk has room.
    pub fn tell_disk(&mut self, disk: DiskWord) {
        self.feed(Event::ManagerDiskTold { manager: manager(1), disk });
    }

    /// Has every manager end and start again: another detector, which knows what is recorded and nothing else. What was
    /// proposed is recorded or lost by then, and all streams are new.
    pub fn restart_managers(&mut self) {
        self.pending.clear();
        self.heard_from = [[false; 2]; NODES];
        self.managers_since = self.now;
        self.detector = Detector::new(manager(0), Timing::default());
        let inventory = self.inventory.clone();
        self.feed(Event::InventoryChanged(inventory));
        self.feed(Event::LeadershipChanged { leads: Some(Term::new(self.step)) });
    }

    /// An operator wants a fresh look at a VM; returns how long each watcher that is asked is waited for.
    pub fn check(&mut self, i: usize) -> Vec<Duration> {
        let effects = self.detector.handle(self.now, Event::CheckRequested { vm: vm(i) });
        let asked = effects.into_iter().filter_map(|effect| match effect {
            Effect::Ask(ask) => Some(ask.deadline),
            Effect::Propose(_) | Effect::Schedule(_) => None,
        });
        asked.collect()
    }

    /// Forgets whom the VM's probes found, as an operator's command does.
    pub fn forget_pins(&mut self, i: usize) {
        self.pins.remove(&vm(i));
        self.change_records(|inventory| inventory.vms[i].pins.clear());
    }

    /// Gives the VM's service probe other settings, with which the records forget whom it found.
    pub fn change_settings(&mut self, i: usize, settings: &str) {
        self.pins.remove(&vm(i));
        self.change_records(|inventory| {
            let entry = &mut inventory.vms[i];
            entry.pins.clear();
            let its = entry.probes.iter_mut().filter(|probe| probe.probe == rdp().probe);
            its.for_each(|probe| probe.settings = settings.to_owned());
        });
    }

    /// Changes the records as an operator's command would.
    pub fn change_records(&mut self, change: impl FnOnce(&mut Inventory)) {
        change(&mut self.inventory);
        self.inventory.index = self.inventory.index.next();
        let inventory = self.inventory.clone();
        self.feed(Event::InventoryChanged(inventory));
    }

    /// Records the proof that a node does not run.
    pub fn fence(&mut self, i: usize) {
        let proof = FenceProof {
            kind: FenceKind::PowerOff,
            boot: BootId::new(Uuid::from_u128(9)),
            note: String::new(),
            index: LogIndex::new(7),
            at: WallTime::default(),
        };
        self.change_records(|records| records.nodes[i].fence = Some(proof));
    }

    /// Returns the records as they are now.
    pub fn records(&self) -> &Inventory {
        &self.inventory
    }

    /// Returns the verdict on a VM.
    pub fn verdict(&self, i: usize) -> &Verdict {
        &self.inventory.vms[i].verdict
    }

    /// Returns the open incidents.
    pub fn incidents(&self) -> Vec<String> {
        self.inventory.incidents.iter().map(|i| format!("{}: {}", i.scope, i.word.fault)).collect()
    }

    fn hypervisor(&self, i: usize) -> HypervisorState {
        let gone = HypervisorState::Gone(ExitReason::Process);
        let follows = if self.truth[i].vm { HypervisorState::Running } else { gone };
        self.truth[i].word.unwrap_or(follows)
    }

    fn words(&self, i: usize) -> Vec<VmWord> {
        let t = &self.truth[i];
        let word = |of: usize, state| VmWord {
            vm: vm(of),
            // It was told the generations of those that it owns.
            generation: if *self.owner(of) == node(i) { self.inventory.vms[of].generation } else { Generation::new(0) },
            start: StartId::new(1),
            state,
            progress: t.progress,
            operation: t.operation,
            links_down: vec![],
        };
        let claimed = t.claims.map(|state| word(1 - i, state));
        std::iter::once(word(i, self.hypervisor(i))).chain(claimed).collect()
    }

    /// Returns the node that owns a VM now, as recorded.
    pub fn owner(&self, i: usize) -> &NodeId {
        &self.inventory.vms[i].node
    }

    fn watcher_process(&self, i: usize) -> HypervisorState {
        if self.truth[i].watcher { HypervisorState::Running } else { HypervisorState::Gone(ExitReason::Process) }
    }

    fn advance(&mut self) {
        self.now = self.now + STEP;
        self.step += 1;
        let mut due: Vec<_> = vec![];
        self.pending.retain(|(at, event)| {
            let is_due = *at <= self.now;
            if is_due {
                due.push(event.clone());
            }
            !is_due
        });
        for event in due {
            self.feed(event);
        }
        for i in 0..NODES {
            self.node_step(i);
            self.watcher_step(i);
        }
        if self.other_manager {
            self.feed(Event::ManagerHeard { manager: manager(1), begun: self.now });
        }
        if self.step.is_multiple_of(2) {
            self.feed(Event::Ticked);
        }
    }

    fn node_step(&mut self, i: usize) {
        let t = self.truth[i];
        for m in 0..2 {
            let speaks = t.power && t.agent && t.uplink && t.paths[m] && (m == 0 || self.other_manager);
            // A killed agent's kernel resets its streams; a cut path says nothing.
            if self.heard_from[i][m] && t.power && t.uplink && t.paths[m] && !t.agent {
                self.heard_from[i][m] = false;
                self.feed(Event::NodeStreamChanged { manager: manager(m), node: node(i), change: StreamChange::Reset });
            }
            if speaks && !self.heard_from[i][m] {
                self.heard_from[i][m] = true;
                self.feed(Event::NodeStreamChanged {
                    manager: manager(m),
                    node: node(i),
                    change: StreamChange::Opened,
                });
            }
            if speaks && let Some(lost) = t.beats_lost {
                let counted = if self.now.since(self.managers_since) < METER { 0 } else { lost };
                self.feed(Event::LinkMeasured(LinkMeasure {
                    manager: manager(m),
                    node: node(i),
                    network: Network::Management,
                    heard: Some(self.now),
                    read_age: Some(Duration::ZERO),
                    echoed: Some(self.now),
                    loss_in_per_mille: counted,
                    loss_out_per_mille: counted,
                }));
            }
            if speaks && self.step.is_multiple_of(10) {
                self.sequence += 1;
                let report = NodeReport {
                    hypervisor: t.hypervisor,
                    manager: manager(m),
                    node: node(i),
                    boot: BootId::new(Uuid::from_u128(9)),
                    incarnation: Incarnation::new(1),
                    sequence: Sequence::new(self.sequence),
                    begun: self.now,
                    full: true,
                    vms: self.words(i),
                    watchers: vec![(watcher(i), self.watcher_process(i))],
                };
                self.feed(Event::NodeReported(report));
            }
        }
    }

    fn feed(&mut self, event: Event) {
        let effects = self.detector.handle(self.now, event);
        for effect in effects {
            self.log.push(format!("{:?} {effect:?}", self.now));
            match effect {
                Effect::Ask(ask) => self.answer(&ask),
                Effect::Propose(proposal) => self.record(proposal),
                Effect::Schedule(_) => {}
            }
        }
    }

    /// Notes as recorded, for tests of what managers cannot hear.
    pub fn notes(&self) -> Vec<String> {
        self.inventory.manager_notes.iter().map(|n| format!("{} {}", n.manager, n.node)).collect()
    }
}
