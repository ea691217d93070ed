//! A node's agent: reports over two streams, heartbeats over two networks, statements through its relay.
//!
//! It follows `node/src/agent`: reports are numbered over all streams and echo the last tick of the manager; a stream
//! without ticks is dropped and dialled anew, in attempts that race.

use std::collections::VecDeque;
use std::time::Duration;

use vouch_detector::{LinkMeasure, NodeReport, ServiceWord, VmWord};
use vouch_types::{
    BootId, Generation, Incarnation, ManagerId, Moment, Network, NodeId, Nonce, Progress, Sequence, StartId, Statement,
    TickSequence, VmId, WatcherId,
};

use super::network::{Machine, Path, SimNetworks, slot};
use super::outcome::RUNNING;
use super::stream::{SimStream, dialled};

/// How often a new attempt to dial begins, and how many race.
const REDIAL_EVERY: Duration = Duration::from_millis(300);
const ATTEMPTS: u32 = 4;
/// A stream without a tick for this long is dropped.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often a report is full even if nobody asks.
const FULL_EVERY: Duration = Duration::from_secs(10);
/// Heartbeats over which loss is measured.
const BEATS_MEASURED: f32 = 50.0;

/// The life of every agent.
pub(crate) const INCARNATION: Incarnation = Incarnation::new(1);

/// A stream of the agent to the manager.
#[derive(Debug)]
pub(crate) struct NodeStream {
    /// Its number among all of its node and network.
    pub(crate) number: u64,
    up: SimStream,
    down: SimStream,
    /// Ticks on their way and those that have come, the last one first to leave.
    ticks: VecDeque<(Moment, TickSequence)>,
    heard: Moment,
    full_at: Moment,
}

/// What heartbeats over one network showed.
#[derive(Debug, Default)]
struct Beats {
    heard: Option<Moment>,
    echoed: Option<Moment>,
    /// The newest heartbeat of the manager that the node has.
    has: Option<Moment>,
    loss_in: f32,
    loss_out: f32,
}

/// A node's agent.
#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) name: NodeId,
    pub(crate) boot: BootId,
    pub(crate) vms: Vec<VmId>,
    generations: Vec<Generation>,
    number: usize,
    sequence: u64,
    streams: [Option<NodeStream>; 2],
    opened: u64,
    beats: [Beats; 2],
}

/// A report on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) arrives: Moment,
    pub(crate) network: Network,
    pub(crate) stream: u64,
    pub(crate) tick: TickSequence,
    pub(crate) report: NodeReport,
}

/// What an agent does when its time comes.
#[derive(Debug)]
pub(crate) enum NodeDoes {
    /// It sends a report over a stream.
    Report(Box<Sent>),
    /// It drops a stream and dials anew; the new one stands then.
    Redial(Network, Moment),
}

impl SimNode {
    pub(crate) fn new(number: usize, name: NodeId, boot: BootId, vms: Vec<VmId>, generations: Vec<Generation>) -> Self {
        Self {
            name,
            boot,
            vms,
            generations,
            number,
            sequence: 0,
            streams: [None, None],
            opened: 0,
            beats: [Beats::default(), Beats::default()],
        }
    }

    fn up(&self, network: Network) -> Path {
        Path { from: Machine::Node(self.number), to: Machine::Manager, network }
    }

    fn down(&self, network: Network) -> Path {
        Path { from: Machine::Manager, to: Machine::Node(self.number), network }
    }

    /// Returns when a stream that is dialled now stands.
    pub(crate) fn dial(&self, networks: &mut SimNetworks, now: Moment, network: Network) -> Moment {
        let path = self.up(network);
        let attempts = (0..ATTEMPTS).filter_map(|n| dialled(networks, now, now + REDIAL_EVERY * n, path));
        attempts.min().unwrap_or(now + REDIAL_EVERY * ATTEMPTS)
    }

    /// A stream stands; returns its number.
    pub(crate) fn opened(&mut self, now: Moment, network: Network) -> u64 {
        self.opened += 1;
        self.streams[slot(network)] = Some(NodeStream {
            number: self.opened,
            up: SimStream::default(),
            down: SimStream::default(),
            ticks: VecDeque::new(),
            heard: now,
            full_at: now,
        });
        self.opened
    }

    /// The manager sends a tick over every stream.
    pub(crate) fn tick(&mut self, networks: &mut SimNetworks, now: Moment, tick: TickSequence) {
        for network in Network::ALL {
            let path = self.down(network);
            if let Some(stream) = &mut self.streams[slot(network)] {
                let arrives = stream.down.send(networks, now, path);
                stream.ticks.push_back((arrives, tick));
            }
        }
    }

    /// The time of a report has come.
    pub(crate) fn report(&mut self, networks: &mut SimNetworks, now: Moment, watcher: WatcherId) -> Vec<NodeDoes> {
        self.sequence += 1;
        let mut does = Vec::new();
        for network in Network::ALL {
            let (up, down) = (self.up(network), slot(network));
            let Some(stream) = &mut self.streams[down] else { continue };
            let mut tick = TickSequence::default();
            while let Some((_, came)) = stream.ticks.front().copied().filter(|(at, _)| *at <= now) {
                tick = came;
                stream.heard = now;
                if stream.ticks.get(1).is_none_or(|(at, _)| *at > now) {
                    break;
                }
                stream.ticks.pop_front();
            }
            if let Some((at, _)) = stream.ticks.front().filter(|(at, _)| *at <= now) {
                stream.heard = *at;
            }
            if now.since(stream.heard) >= SILENCE_MAX {
                self.streams[down] = None;
                does.push(NodeDoes::Redial(network, self.dial(networks, now, network)));
                continue;
            }
            let full = stream.full_at <= now;
            if full {
                stream.full_at = now + FULL_EVERY;
            }
            let (arrives, number) = (stream.up.send(networks, now, up), stream.number);
            let report = self.word(full, watcher);
            does.push(NodeDoes::Report(Box::new(Sent { arrives, network, stream: number, tick, report })));
        }
        does
    }

    fn word(&self, full: bool, watcher: WatcherId) -> NodeReport {
        let vms = if full {
            self.vms.iter().zip(&self.generations).map(|(vm, g)| vm_word(*vm, *g)).collect()
        } else {
            Vec::new()
        };
        NodeReport {
            manager: ManagerId::new(1),
            node: self.name.clone(),
            boot: self.boot,
            incarnation: INCARNATION,
            sequence: Sequence::new(self.sequence),
            begun: Moment::ZERO,
            hypervisor: ServiceWord::Answering,
            full,
            vms,
            watchers: vec![(watcher, RUNNING)],
        }
    }

    /// Both sides send a heartbeat over a network; returns what the manager then measures, if it heard the node's.
    pub(crate) fn beat(&mut self, networks: &mut SimNetworks, now: Moment, network: Network) -> Option<LinkMeasure> {
        let out = !networks.loses(now, now, self.down(network));
        let inward = !networks.loses(now, now, self.up(network));
        let beats = &mut self.beats[slot(network)];
        let per = 1.0 / BEATS_MEASURED;
        beats.loss_out += (f32::from(u8::from(!out)) - beats.loss_out) * per;
        beats.loss_in += (f32::from(u8::from(!inward)) - beats.loss_in) * per;
        // The manager's beat is a moment earlier than the node's: the node can echo it at once.
        if out {
            beats.has = Some(now);
        }
        if !inward {
            return None;
        }
        beats.heard = Some(now);
        beats.echoed = beats.has;
        Some(LinkMeasure {
            manager: ManagerId::new(1),
            node: self.name.clone(),
            network,
            heard: beats.heard,
            read_age: Some(Duration::ZERO),
            echoed: beats.echoed,
            loss_in_per_mille: (beats.loss_in * 1_000.0) as u16,
            loss_out_per_mille: (beats.loss_out * 1_000.0) as u16,
        })
    }

    /// The relay's statements on all VMs of the node, for a nonce.
    pub(crate) fn statements(&mut self, nonce: Nonce) -> Vec<Statement> {
        let (node, boot) = (self.name.clone(), self.boot);
        let mut statements = Vec::with_capacity(self.vms.len());
        for (vm, generation) in self.vms.iter().zip(&self.generations) {
            self.sequence += 1;
            statements.push(Statement {
                node: node.clone(),
                boot,
                incarnation: INCARNATION,
                vm: *vm,
                generation: *generation,
                start: StartId::new(1),
                sequence: Sequence::new(self.sequence),
                nonce,
                state: RUNNING,
                progress: Progress::Working,
            });
        }
        statements
    }
}

fn vm_word(vm: VmId, generation: Generation) -> VmWord {
    VmWord {
        vm,
        generation,
        start: StartId::new(1),
        state: RUNNING,
        progress: Progress::Working,
        operation: None,
        links_down: Vec::new(),
    }
}
