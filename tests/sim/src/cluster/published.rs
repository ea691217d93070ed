//! What a cluster published, when: composed as the API composes it, and the replicated events.
//!
//! [`Recorder`] looks every ten milliseconds. What it sees is what a reader at `default` consistency would: the applied
//! state of the manager that has applied most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vouch_manager::store::State;
use vouch_types::event::ManagerNote;
use vouch_types::{
    Advice, EventRecord, Fault, IncidentScope, LogIndex, ManagerId, NodeId, NodePath, Source, VmState, WatcherLife,
};

use super::host::{NodeNo, VmNo};
use super::sim::Sim;

/// What is said of one VM.
#[derive(Clone, PartialEq, Debug)]
pub struct VmSaid {
    /// The node that it is said to be on.
    pub node: NodeId,
    /// Its state.
    pub state: VmState,
    /// Where the state comes from.
    pub source: Source,
    /// Faults of the node's path and of the VM, as the API joins them.
    pub faults: Vec<Fault>,
    /// Notes.
    pub notes: Vec<Fault>,
    /// Advice.
    pub advice: Advice,
    /// Why nothing is said against it.
    pub suppressed: String,
}

/// An incident that is open.
#[derive(Clone, PartialEq, Debug)]
pub struct IncidentSaid {
    /// Of what.
    pub scope: IncidentScope,
    /// What is broken.
    pub fault: Fault,
    /// Nodes that it touches.
    pub nodes: Vec<NodeId>,
}

/// Everything that is said at one time.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Said {
    /// Of VMs.
    pub vms: BTreeMap<VmNo, VmSaid>,
    /// Of nodes.
    pub paths: BTreeMap<NodeNo, NodePath>,
    /// Incidents that are open.
    pub incidents: Vec<IncidentSaid>,
    /// Managers that are deaf to a node.
    pub deaf: Vec<ManagerNote>,
    /// Watchers by node that are not live.
    pub watchers_lost: Vec<NodeId>,
    /// Watchers that are live.
    pub watchers_live: usize,
}

impl Said {
    /// Returns what the state says.
    pub fn of(state: &State) -> Self {
        let vms = state.vms().iter().map(|(id, vm)| {
            let path = state.nodes().get(&vm.node).map(|node| &node.path);
            let shared = path.map(|p| p.faults.clone()).unwrap_or_default();
            let verdict = &vm.verdict;
            let said = VmSaid {
                node: vm.node.clone(),
                state: verdict.state,
                source: path.map_or(Source::Direct, |p| p.source),
                faults: shared.into_iter().chain(verdict.faults.iter().cloned()).collect(),
                notes: verdict.notes.clone(),
                advice: verdict.advice.clone(),
                suppressed: verdict.suppressed.clone(),
            };
            (VmNo::of(*id), said)
        });
        let paths = state.nodes().iter().filter_map(|(id, node)| Some((NodeNo::of(id)?, node.path.clone())));
        let open = state.incidents().values().filter(|incident| incident.closed.is_none());
        let incidents = open.map(|incident| IncidentSaid {
            scope: incident.scope.clone(),
            fault: incident.word.fault.clone(),
            nodes: incident.word.nodes.clone(),
        });
        let gone = state.watchers().values().filter(|w| matches!(w.life, WatcherLife::Lost | WatcherLife::Retired));
        Self {
            vms: vms.collect(),
            paths: paths.collect(),
            incidents: incidents.collect(),
            deaf: state.manager_notes().to_vec(),
            watchers_lost: gone.map(|w| w.node.clone()).collect(),
            watchers_live: state.watchers().values().filter(|w| w.life == WatcherLife::Live).count(),
        }
    }
}

/// One change of what is said.
#[derive(Clone, Debug)]
pub struct Published {
    /// When, since the recorder began.
    pub at: Duration,
    /// What is said from then on.
    pub said: Arc<Said>,
}

/// An event, and when it could be read.
#[derive(Clone, Debug)]
pub struct Told {
    /// When, since the recorder began.
    pub at: Duration,
    /// The event.
    pub event: EventRecord,
}

/// Who led when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Led {
    /// From when on, since the recorder began.
    pub at: Duration,
    /// Who; `None` while nobody does.
    pub leader: Option<ManagerId>,
    /// How many managers think that they lead with a quorum.
    pub leaders: usize,
}

/// All that a cluster published.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What was said, in order.
    pub published: Vec<Published>,
    /// The replicated events, in order.
    pub events: Vec<Told>,
    /// Who led.
    pub led: Vec<Led>,
    /// Sentences on anything that a replicated log must never do; empty when it did not.
    pub log_broken: Vec<String>,
}

impl Record {
    /// Returns what was said at a time.
    pub fn at(&self, at: Duration) -> Option<&Said> {
        let after = self.published.partition_point(|p| p.at <= at);
        self.published.get(after.checked_sub(1)?).map(|p| &*p.said)
    }
}

/// Records what a cluster publishes.
pub struct Recorder {
    begun: tokio::time::Instant,
    applied: LogIndex,
    logs: BTreeMap<ManagerId, usize>,
    /// What it has seen.
    pub record: Record,
}

impl Recorder {
    /// Returns a recorder that begins now.
    pub fn begin(sim: &Sim) -> Self {
        let mut recorder = Self {
            begun: tokio::time::Instant::now(),
            applied: LogIndex::default(),
            logs: BTreeMap::new(),
            record: Record::default(),
        };
        recorder.look(sim);
        recorder
    }

    /// Returns the time since it began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Looks at the cluster.
    pub fn look(&mut self, sim: &Sim) {
        let at = self.now();
        let leaders: Vec<ManagerId> =
            sim.managers.iter().filter(|(_, m)| m.leads().is_some()).map(|(id, _)| *id).collect();
        let led = Led { at, leader: leaders.first().copied(), leaders: leaders.len() };
        let same = |last: &Led| (last.leader, last.leaders) == (led.leader, led.leaders);
        if !self.record.led.last().is_some_and(same) {
            self.record.led.push(led);
        }
        let applied = sim.managers.values().map(|m| m.consensus().status().applied).max().unwrap_or_default();
        if applied <= self.applied && !self.record.published.is_empty() {
            return;
        }
        self.applied = applied;
        let known = self.record.events.len();
        let (said, events) = sim.read(|state| {
            let events: Vec<EventRecord> = state.events().skip(known).map(|e| (**e).clone()).collect();
            (Said::of(state), events)
        });
        self.record.events.extend(events.into_iter().map(|event| Told { at, event }));
        if self.record.published.last().is_none_or(|last| *last.said != said) {
            self.record.published.push(Published { at, said: Arc::new(said) });
        }
        for (id, manager) in &sim.managers {
            let seen = self.logs.get(id).copied();
            let log = manager.consensus().read_state(|state| {
                let changed = Some(state.events().len()) != seen;
                changed.then(|| state.events().map(Arc::clone).collect::<Vec<_>>())
            });
            if let Some(log) = log {
                self.check_log(*id, &log);
            }
        }
    }

    /// Every manager's log is the beginning of one and the same log.
    fn check_log(&mut self, manager: ManagerId, log: &[Arc<EventRecord>]) {
        let seen = self.logs.insert(manager, log.len()).unwrap_or(0);
        if log.len() < seen {
            let told = format!("{manager} lost {} of {seen} events", seen - log.len());
            self.record.log_broken.push(told);
        }
        let common = self.record.events.len().min(log.len());
        for (known, event) in self.record.events[..common].iter().zip(log).skip(seen) {
            if known.event != **event {
                let told = format!("{manager} has {event:?} where another has {:?}", known.event);
                self.record.log_broken.push(told);
                return;
            }
        }
        let positions = log.iter().skip(seen.saturating_sub(1)).map(|e| (e.index, e.ordinal));
        if !positions.is_sorted_by(|a, b| a < b) {
            self.record.log_broken.push(format!("{manager} has events out of order or doubled"));
        }
    }
}
