//! A fleet of any size around one leading detector, quiet and well: everything that happens next is what is measured.

use std::time::Duration;

use uuid::Uuid;
use vouch_detector::{
    Detector, Effect, Event, Inventory, NodeEntry, NodeReport, Records, ServiceWord, VmEntry, VmWord, WatcherEntry,
};
use vouch_types::{
    AssignmentGeneration, BootId, Generation, HypervisorState, Incarnation, LogIndex, ManagerId, Moment, Network,
    NodeId, NodePath, Observation, Outcome, Policy, ProbeAssignment, ProbeName, Progress, Sequence, StartId, Term,
    Timing, Verdict, VmId, VmState, WallTime, WatcherHealth, WatcherId, WatcherLife,
};

/// VMs per node; its watcher looks at them and at those of the next node.
pub const VMS_PER_NODE: usize = 50;
/// How long the fleet is fed before anything is measured.
const FED: Duration = Duration::from_secs(3);
/// How much time passes between two rounds of the feed.
const ROUND: Duration = Duration::from_millis(500);
const OWN: ManagerId = ManagerId::new(1);

/// A leading detector that has heard everything of a fleet.
pub struct Fleet {
    /// The detector.
    pub detector: Detector,
    /// The moment up to which it was fed.
    pub now: Moment,
    inventory: Inventory,
    probes: Vec<ProbeAssignment>,
    sequence: u64,
    term: Term,
}

/// Returns the VM of this number, from 0.
pub fn vm(number: usize) -> VmId {
    VmId::new(Uuid::from_u128(number as u128 + 1))
}

fn node(number: usize) -> NodeId {
    NodeId::new(&format!("n{number:06}")).expect("a letter and digits are a name")
}

fn watcher(number: usize) -> WatcherId {
    WatcherId::new(number as u64 + 1)
}

fn probes() -> Vec<ProbeAssignment> {
    let named = |name| ProbeAssignment {
        probe: ProbeName::new(name).expect("small letters are a name"),
        network: Network::Service,
        settings: "{}".to_owned(),
    };
    vec![named("ping"), named("rdp")]
}

fn vm_entry(number: usize, probes: &[ProbeAssignment]) -> VmEntry {
    VmEntry {
        vm: vm(number),
        node: node(number / VMS_PER_NODE),
        generation: Generation::new(1),
        addresses: vec![[10, 0, 0, 1].into()],
        datastore: None,
        maintenance: String::new(),
        policy: Policy::default(),
        probes: probes.to_vec(),
        probe_times: Vec::new(),
        pins: Vec::new(),
        boot: None,
        claimed_by: Vec::new(),
        proven: probes.to_vec(),
        verdict: Verdict { state: VmState::Up, ..Verdict::unjudged(WallTime::default()) },
    }
}

fn inventory_of(vms: usize, probes: &[ProbeAssignment]) -> Inventory {
    let nodes = vms.div_ceil(VMS_PER_NODE).max(2);
    let of_node = |node: usize| (node * VMS_PER_NODE..((node + 1) * VMS_PER_NODE).min(vms)).map(vm);
    let watched = |node: usize| {
        let mut watched: Vec<_> = of_node(node).chain(of_node((node + 1) % nodes)).collect();
        watched.sort();
        watched
    };
    Inventory {
        index: LogIndex::new(1),
        managers: vec![OWN],
        nodes: (0..nodes)
            .map(|n| NodeEntry {
                node: node(n),
                boot: BootId::new(Uuid::from_u128(9)),
                rack: None,
                fence: None,
                path: NodePath::direct(WallTime::default()),
            })
            .collect(),
        vms: (0..vms).map(|n| vm_entry(n, probes)).collect(),
        watchers: (0..nodes)
            .map(|n| WatcherEntry {
                watcher: watcher(n),
                node: node(n),
                life: WatcherLife::Live,
                incarnation: Some(Incarnation::new(1)),
                vms: watched(n),
                assignment: AssignmentGeneration::new(1),
            })
            .collect(),
        manager_notes: Vec::new(),
        incidents: Vec::new(),
    }
}

impl Fleet {
    /// Returns a fleet of this many VMs whose detector has heard all of it for longer than a window.
    pub fn new(vms: usize) -> Self {
        let probes = probes();
        let mut fleet = Self {
            detector: Detector::new(OWN, Timing::default()),
            now: Moment::ZERO + Duration::from_secs(1),
            inventory: inventory_of(vms, &probes),
            probes,
            sequence: 0,
            term: Term::new(1),
        };
        let inventory = fleet.inventory.clone();
        fleet.handle(Event::InventoryChanged(inventory));
        fleet.handle(Event::LeadershipChanged { leads: Some(fleet.term) });
        let end = fleet.now + FED;
        let mut full = true;
        while fleet.now < end {
            fleet.round(full);
            full = false;
        }
        fleet
    }

    /// Returns how many VMs it has.
    pub fn vms(&self) -> usize {
        self.inventory.vms.len()
    }

    /// Lets go of what only the harness needs: what is counted afterwards is the detector's alone.
    pub fn into_detector(self) -> Detector {
        self.detector
    }

    /// Everything is heard once more, half a second later.
    pub fn round(&mut self, full: bool) {
        self.now = self.now + ROUND;
        self.sequence += 1;
        for number in 0..self.inventory.nodes.len() {
            self.handle(Event::NodeHeard { manager: OWN, node: node(number), begun: self.now });
            let report = self.report(number, full);
            self.handle(Event::NodeReported(report));
            let health = WatcherHealth::well();
            self.handle(Event::WatcherHeard {
                manager: OWN,
                watcher: watcher(number),
                network: Network::Management,
                incarnation: Incarnation::new(1),
                begun: self.now,
                health: Some(health),
            });
            if full {
                for id in self.inventory.watchers[number].vms.clone() {
                    for probe in 0..self.probes.len() {
                        let seen = self.observation(number, id, probe, Outcome::Up);
                        self.handle(Event::Observed(seen));
                    }
                }
            }
            let (watcher, assignment) = (watcher(number), AssignmentGeneration::new(1));
            self.handle(Event::OthersUnchanged { watcher, assignment, begun: self.now });
        }
        self.handle(Event::Ticked);
    }

    /// Returns a node's report: of all its VMs, or that nothing has changed.
    pub fn report(&self, number: usize, full: bool) -> NodeReport {
        let own = number * VMS_PER_NODE..((number + 1) * VMS_PER_NODE).min(if full { self.vms() } else { 0 });
        NodeReport {
            manager: OWN,
            node: node(number),
            boot: BootId::new(Uuid::from_u128(9)),
            incarnation: Incarnation::new(1),
            sequence: Sequence::new(self.sequence),
            begun: self.now,
            hypervisor: ServiceWord::Answering,
            full,
            vms: own
                .map(|number| VmWord {
                    vm: vm(number),
                    generation: Generation::new(1),
                    start: StartId::new(1),
                    state: HypervisorState::Running,
                    progress: Progress::Working,
                    operation: None,
                    links_down: Vec::new(),
                })
                .collect(),
            watchers: vec![(watcher(number), HypervisorState::Running)],
        }
    }

    fn observation(&self, from: usize, id: VmId, probe: usize, outcome: Outcome) -> Observation {
        Observation {
            watcher: watcher(from),
            vm: id,
            network: Network::Service,
            probe: self.probes[probe].probe.clone(),
            outcome,
            reason: String::new(),
            message: String::new(),
            identity: None,
            begun: self.now,
            asked: None,
        }
    }

    /// Returns what the watcher on a VM's own node saw with a probe (0 is ping, 1 is rdp).
    pub fn seen(&self, number: usize, probe: usize, outcome: Outcome) -> Observation {
        self.observation(number / VMS_PER_NODE, vm(number), probe, outcome)
    }

    /// Has every VM judged at once, and all that they share: the first pass of a leader's new term.
    pub fn judge_all(&mut self) -> usize {
        self.term = self.term.next();
        self.handle(Event::LeadershipChanged { leads: Some(self.term) })
    }

    /// Returns the change of one VM's record, as the manager tells of a commit: that record, and no other.
    pub fn touch_record(&mut self, number: usize) -> Records {
        let entry = &mut self.inventory.vms[number];
        entry.verdict.version = entry.verdict.version.next();
        self.inventory.index = self.inventory.index.next();
        Records { index: self.inventory.index, vms: vec![entry.clone()], ..Records::default() }
    }

    /// Hands the detector an event; returns how many effects came of it. A quiet fleet proposes nothing.
    pub fn handle(&mut self, event: Event) -> usize {
        let effects = self.detector.handle(self.now, event);
        debug_assert!(!effects.iter().any(|e| matches!(e, Effect::Propose(_))), "{effects:?}");
        effects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_fleet_proposes_nothing_and_asks_nothing() {
        let mut fleet = Fleet::new(2 * VMS_PER_NODE + 1);
        assert_eq!(fleet.judge_all(), 0);
        let seen = fleet.seen(100, 1, Outcome::Up);
        assert_eq!(fleet.handle(Event::Observed(seen)), 0);
        assert_eq!(fleet.detector.dropped(), 0);
        let evidence = fleet.detector.evidence(fleet.now, &vm(100)).expect("it is known");
        assert_eq!((evidence.state, evidence.checks.len()), (VmState::Up, 4));
    }
}
