//! Arbitrary events for the detector, made of arbitrary bytes: shared by the property tests here and by `fuzz/`.
//!
//! Ids come from small ranges, so that events meet, and from outside them; moments lie at the origin, near now and in the
//! far future; lists are empty, short, long, unsorted, and hold things twice. Only the contract of `handle` is kept: its
//! moments do not go back.

mod play;

use std::collections::BTreeSet;
use std::time::Duration;

use uuid::Uuid;
use vouch_detector::{
    Detector, DiskWord, Effect, Event, Inventory, LinkMeasure, NodeEntry, NodeReport, ServiceWord, Settlement,
    StreamChange, VmEntry, VmWord, WatcherEntry,
};
use vouch_types::{
    Advice, AssignmentGeneration, BootId, BootKind, BootRecord, ExitReason, FenceKind, FenceProof, Generation,
    HandBack, HypervisorState, Identity, Incarnation, LogIndex, ManagerId, Moment, Network, NodeId, NodePath, Nonce,
    Observation, Operation, Outcome, PauseReason, PeerReach, Pin, Policy, ProbeAssignment, ProbeName, ProbeTimes,
    Progress, RelayObservation, RelayOutcome, Sequence, Source, StartId, Statement, Term, Timing, Verdict,
    VerdictVersion, VmId, VmState, WallTime, WatcherHealth, WatcherId, WatcherLife,
};

pub use play::play;

/// The most events of one sequence.
const EVENTS_MAX: usize = 400;
/// The longest list that is made, and how often one is.
const LONG: usize = 3_000;

/// Bytes that are read one after the other; zeros follow the last.
struct Bytes<'a> {
    left: &'a [u8],
}

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        *first
    }

    fn below(&mut self, count: u8) -> u8 {
        self.byte() % count
    }

    fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::MAX - u64::from(self.byte()),
            _ => u64::from(self.byte()) % 6,
        }
    }

    fn flag(&mut self) -> bool {
        self.byte().is_multiple_of(2)
    }

    fn count(&mut self) -> usize {
        match self.byte() {
            255 => LONG,
            byte => usize::from(byte) % 7,
        }
    }

    fn list<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.count()).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.flag() { Some(make(self)) } else { None }
    }

    fn moment(&mut self, now: Moment) -> Moment {
        match self.below(16) {
            0 => Moment::ZERO,
            1 => Moment::from_micros(u64::MAX),
            2 => now + Duration::from_secs(u64::from(self.byte())),
            3 | 4 => now - Duration::from_millis(100 * u64::from(self.byte())),
            _ => now - Duration::from_millis(u64::from(self.byte())),
        }
    }

    fn duration(&mut self) -> Duration {
        match self.below(8) {
            0 => Duration::ZERO,
            1 => Duration::MAX,
            _ => Duration::from_millis(u64::from(self.byte()) * 10),
        }
    }

    fn manager(&mut self) -> ManagerId {
        ManagerId::new(u64::from(self.below(4)))
    }

    fn node(&mut self) -> NodeId {
        NodeId::new(&format!("n{}", self.below(4))).expect("a letter and a digit are a name")
    }

    fn vm(&mut self) -> VmId {
        VmId::new(Uuid::from_u128(u128::from(self.below(7))))
    }

    fn watcher(&mut self) -> WatcherId {
        WatcherId::new(u64::from(self.below(7)))
    }

    fn boot(&mut self) -> BootId {
        BootId::new(Uuid::from_u128(u128::from(self.below(2))))
    }

    fn network(&mut self) -> Network {
        if self.flag() { Network::Management } else { Network::Service }
    }

    fn probe(&mut self) -> ProbeName {
        let name = ["rdp", "ping", "guest-agent", "tcp", "a", "b", "c", "d", "e", "f"][usize::from(self.below(10))];
        ProbeName::new(name).expect("small letters are a name")
    }

    fn assignment(&mut self) -> ProbeAssignment {
        ProbeAssignment { probe: self.probe(), network: self.network(), settings: "{}".to_owned() }
    }

    fn hypervisor(&mut self) -> HypervisorState {
        match self.below(16) {
            0 => HypervisorState::Gone(ExitReason::Process),
            1 => HypervisorState::Gone(ExitReason::Panic),
            2 => HypervisorState::Gone(ExitReason::Unknown),
            3 => HypervisorState::Panicked,
            4 => HypervisorState::Stopped,
            5 => HypervisorState::Rebooting,
            6 => HypervisorState::Paused(PauseReason::Migration),
            7 => HypervisorState::Paused(PauseReason::IoError),
            8 => HypervisorState::Paused(PauseReason::Operator),
            9 => HypervisorState::Unknown,
            _ => HypervisorState::Running,
        }
    }

    fn progress(&mut self) -> Progress {
        [Progress::Working, Progress::Still, Progress::Spinning, Progress::Unknown][usize::from(self.below(4))]
    }

    fn operation(&mut self) -> Option<Operation> {
        [None, Some(Operation::Migration), Some(Operation::Snapshot), Some(Operation::FsFreeze)]
            [usize::from(self.below(4))]
    }

    fn change(&mut self) -> StreamChange {
        [StreamChange::Opened, StreamChange::Closed, StreamChange::Reset][usize::from(self.below(3))]
    }

    fn outcome(&mut self) -> Outcome {
        [Outcome::Up, Outcome::Down, Outcome::Degraded, Outcome::Unknown][usize::from(self.below(4))]
    }

    fn reason(&mut self) -> String {
        ["", "timeout", "closed", "wedged", "broken"][usize::from(self.below(5))].to_owned()
    }

    fn peers(&mut self) -> Vec<PeerReach> {
        let count = self.below(4);
        (0..count).map(|_| PeerReach { peer: self.watcher(), network: self.network(), reached: self.flag() }).collect()
    }

    fn health(&mut self) -> WatcherHealth {
        WatcherHealth {
            loop_lag: self.duration(),
            steal_percent: self.byte(),
            management_reached: self.flag(),
            service_reached: self.flag(),
            management_loss_per_mille: u16::from(self.byte()) * 5,
            service_loss_per_mille: u16::from(self.byte()) * 257,
            peers: self.peers(),
        }
    }

    fn state(&mut self) -> VmState {
        match self.below(8) {
            0 => VmState::Degraded,
            1 => VmState::Lost,
            2 => VmState::Hung,
            3 => VmState::Paused,
            4 => VmState::Unknown,
            5 => VmState::Conflict,
            _ => VmState::Up,
        }
    }

    fn node_entry(&mut self) -> NodeEntry {
        NodeEntry {
            node: self.node(),
            boot: self.boot(),
            rack: self.maybe(|b| format!("r{}", b.below(2))),
            fence: if self.below(8) == 0 {
                Some(FenceProof {
                    kind: if self.flag() { FenceKind::PowerOff } else { FenceKind::Fenced },
                    boot: self.boot(),
                    note: String::new(),
                    index: LogIndex::new(self.number()),
                    at: WallTime::default(),
                })
            } else {
                None
            },
            path: NodePath {
                source: if self.flag() { Source::Direct } else { Source::Watcher },
                version: VerdictVersion::new(self.number()),
                hand_backs: self.list(|b| HandBack { left: b.duration() }),
                ..NodePath::direct(WallTime::default())
            },
        }
    }

    fn vm_entry(&mut self) -> VmEntry {
        VmEntry {
            vm: self.vm(),
            node: self.node(),
            generation: Generation::new(self.number()),
            addresses: self.list(|b| [10, 0, 0, b.below(2)].into()),
            datastore: self.maybe(|b| format!("d{}", b.below(2))),
            maintenance: if self.below(8) == 0 { "planned".to_owned() } else { String::new() },
            policy: Policy {
                probe_interval_ms: self.maybe(Self::number),
                probe_timeout_ms: self.maybe(Self::number),
                lost_after_ms: self.maybe(Self::number),
                boot_budget_ms: self.maybe(Self::number),
                silence_failures: self.maybe(|b| u32::from(b.byte())),
                required_probes: self.maybe(|b| b.list(Self::probe)),
            },
            probes: self.list(Self::assignment),
            probe_times: self.list(|b| ProbeTimes {
                probe: b.probe(),
                network: b.network(),
                interval: b.maybe(Self::duration),
                timeout: b.maybe(Self::duration),
            }),
            claimed_by: self.list(Self::node),
            boot: self.maybe(|b| BootRecord {
                kind: if b.flag() { BootKind::Start } else { BootKind::Reboot },
                start: StartId::new(b.number()),
                left: b.duration(),
            }),
            pins: self.list(|b| Pin { probe: b.probe(), network: b.network(), identity: Identity::new(b.number()) }),
            proven: self.list(Self::assignment),
            verdict: Verdict { state: self.state(), ..Verdict::unjudged(WallTime::default()) },
        }
    }

    fn watcher_entry(&mut self) -> WatcherEntry {
        WatcherEntry {
            watcher: self.watcher(),
            node: self.node(),
            life: [WatcherLife::Live, WatcherLife::Placed, WatcherLife::Lost, WatcherLife::Retired]
                [usize::from(self.below(4))],
            incarnation: self.maybe(|b| Incarnation::new(b.number())),
            vms: self.list(Self::vm),
            assignment: AssignmentGeneration::new(self.number()),
        }
    }

    fn inventory(&mut self, index: LogIndex) -> Inventory {
        Inventory {
            index,
            managers: self.list(Self::manager),
            nodes: self.list(Self::node_entry),
            vms: self.list(Self::vm_entry),
            watchers: self.list(Self::watcher_entry),
            manager_notes: Vec::new(),
            incidents: Vec::new(),
        }
    }

    fn report(&mut self, now: Moment) -> NodeReport {
        NodeReport {
            manager: self.manager(),
            node: self.node(),
            boot: self.boot(),
            incarnation: Incarnation::new(self.number()),
            sequence: Sequence::new(self.number()),
            begun: self.moment(now),
            hypervisor: if self.below(8) == 0 { ServiceWord::Silent } else { ServiceWord::Answering },
            full: self.flag(),
            vms: self.list(|b| VmWord {
                vm: b.vm(),
                generation: Generation::new(b.number()),
                start: StartId::new(b.number()),
                state: b.hypervisor(),
                progress: b.progress(),
                operation: b.operation(),
                links_down: b.list(Self::network),
            }),
            watchers: self.list(|b| (b.watcher(), b.hypervisor())),
        }
    }

    fn statement(&mut self) -> Statement {
        Statement {
            node: self.node(),
            boot: self.boot(),
            incarnation: Incarnation::new(self.number()),
            vm: self.vm(),
            generation: Generation::new(self.number()),
            start: StartId::new(self.number()),
            sequence: Sequence::new(self.number()),
            nonce: Nonce::new(u64::from(self.below(12))),
            state: self.hypervisor(),
            progress: self.progress(),
        }
    }

    fn observation(&mut self, now: Moment) -> Observation {
        Observation {
            watcher: self.watcher(),
            vm: self.vm(),
            network: self.network(),
            probe: self.probe(),
            outcome: self.outcome(),
            reason: self.reason(),
            message: self.reason(),
            identity: self.maybe(|b| Identity::new(b.number())),
            begun: self.moment(now),
            asked: self.maybe(|b| Nonce::new(u64::from(b.below(12)))),
        }
    }

    fn relay(&mut self, now: Moment) -> RelayObservation {
        let outcomes = [
            RelayOutcome::Reached,
            RelayOutcome::Refused,
            RelayOutcome::Stalled,
            RelayOutcome::Silent,
            RelayOutcome::Denied,
        ];
        RelayObservation {
            watcher: self.watcher(),
            node: self.node(),
            outcome: outcomes[usize::from(self.below(5))],
            hears: self.list(Self::manager),
            begun: self.moment(now),
            asked: self.maybe(|b| Nonce::new(u64::from(b.below(12)))),
        }
    }

    fn link(&mut self, now: Moment) -> LinkMeasure {
        LinkMeasure {
            manager: self.manager(),
            node: self.node(),
            network: self.network(),
            heard: self.maybe(|b| b.moment(now)),
            read_age: self.maybe(Self::duration),
            echoed: self.maybe(|b| b.moment(now)),
            loss_in_per_mille: u16::from(self.byte()) * 257,
            loss_out_per_mille: u16::from(self.byte()) * 4,
        }
    }

    fn event(&mut self, now: Moment, index: &mut LogIndex) -> Event {
        match self.below(24) {
            0 => {
                let told = if self.below(8) == 0 {
                    LogIndex::new(self.number())
                } else {
                    LogIndex::new(index.get().saturating_add(1))
                };
                *index = (*index).max(told);
                Event::InventoryChanged(self.inventory(told))
            }
            1 => Event::LeadershipChanged { leads: self.maybe(|b| Term::new(b.number())) },
            2 => Event::NodeStreamChanged { manager: self.manager(), node: self.node(), change: self.change() },
            3 => Event::NodeHeard { manager: self.manager(), node: self.node(), begun: self.moment(now) },
            4 if self.flag() => Event::ManagerDiskTold {
                manager: self.manager(),
                disk: if self.flag() { DiskWord::Low } else { DiskWord::Enough },
            },
            4 => Event::ManagerHeard { manager: self.manager(), begun: self.moment(now) },
            5 | 6 => Event::NodeReported(self.report(now)),
            7 => Event::StatementReceived {
                watcher: self.watcher(),
                statement: self.statement(),
                begun: self.moment(now),
            },
            8 => Event::WatcherStreamChanged {
                manager: self.manager(),
                watcher: self.watcher(),
                network: self.network(),
                change: self.change(),
            },
            9 => Event::WatcherHeard {
                manager: self.manager(),
                watcher: self.watcher(),
                network: self.network(),
                incarnation: Incarnation::new(self.number()),
                begun: self.moment(now),
                health: self.maybe(Self::health),
            },
            10..=12 => Event::Observed(self.observation(now)),
            13 => Event::RelayObserved(self.relay(now)),
            14 => Event::OthersUnchanged {
                watcher: self.watcher(),
                assignment: AssignmentGeneration::new(self.number()),
                begun: self.moment(now),
            },
            15 => Event::AskAnswered { watcher: self.watcher(), nonce: Nonce::new(self.number()) },
            16 => Event::CheckRequested { vm: self.vm() },
            17 => Event::ProposalSettled(if self.flag() {
                Settlement::Committed(LogIndex::new(self.number()))
            } else {
                Settlement::Failed
            }),
            18 => Event::LinkMeasured(self.link(now)),
            _ => Event::Ticked,
        }
    }
}

/// Returns the events that these bytes say, each with its moment.
pub fn decode(bytes: &[u8]) -> Vec<(Moment, Event)> {
    let mut bytes = Bytes { left: bytes };
    let mut now = Moment::ZERO;
    let mut index = LogIndex::default();
    let mut events = Vec::new();
    // So that something can come of the rest: leadership at once, and some records.
    events.push((now, Event::LeadershipChanged { leads: Some(Term::new(1)) }));
    while !bytes.left.is_empty() && events.len() < EVENTS_MAX {
        let step = bytes.byte();
        now = match step {
            0 => now + Duration::from_secs(3600),
            1 if bytes.byte() == 0 => Moment::from_micros(u64::MAX),
            step => now + Duration::from_millis(u64::from(step) * 4),
        };
        let event = bytes.event(now, &mut index);
        events.push((now, event));
    }
    events
}
