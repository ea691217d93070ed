//! The fleet in motion: takes one virtual event after the other and does what follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_detector::{Ask, Detector, Effect as Order, Event as Fact, Settlement, Weight};
use vouch_types::{
    BootId, Generation, Incarnation, LogIndex, Moment, Network, NodeId, Nonce, ProbeAssignment, ProbeName,
    RelayOutcome, SortedMap, Term, TickSequence, VmId, VmSpec, WatcherId,
};
use vouch_watcher::logic::{Came as EchoesCame, Effect, Event, Origin, RoundId, RunId, SessionId};
use vouch_wire::proto;
use vouch_wire::proto::to_watcher::Message as Told;

use super::draw::Draw;
use super::ear::{Ear, OWN, Said};
use super::echoes;
use super::network::{SimNetworks, slot};
use super::node::{NodeDoes, Sent, SimNode};
use super::outcome::{self, Came, carried, node_name, probe_ended, relay_ended};
use super::queue::Queue;
use super::records::{COMMIT, Records};
use super::stream::dialled;
use super::watcher::SimWatcher;
use super::{FleetConfig, Score, truth};

/// How long a new watcher VM takes to boot.
const WATCHER_BOOT: Duration = Duration::from_secs(3);
/// How often a watcher measures how well it keeps time, and the worst lateness that it finds.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
const LAG_LONGEST: Duration = Duration::from_millis(20);
/// When a failed dial is tried again.
const REDIAL: Duration = Duration::from_millis(300);

/// What happens at a moment.
#[derive(Debug)]
enum Happening {
    ManagerTicks,
    DetectorDue,
    Settled(LogIndex),
    WatcherWoken { slot: usize },
    RunEnded { slot: usize, life: WatcherId, run: RunId, came: Came },
    EchoesEnded { slot: usize, life: WatcherId, round: RoundId, came: Vec<EchoesCame> },
    HealthDue { slot: usize },
    Ticked { slot: usize, session: SessionId, tick: TickSequence },
    ToWatcher { slot: usize, session: SessionId, message: Box<proto::ToWatcher> },
    FromWatcher { slot: usize, network: Network, session: SessionId, said: Box<Said> },
    WatcherDialled { slot: usize, life: WatcherId, network: Network },
    WatcherDials { slot: usize, life: WatcherId, network: Network },
    WatcherStreamGone { watcher: WatcherId, network: Network, session: SessionId },
    WatcherBooted { slot: usize, watcher: WatcherId },
    NodeReports { node: usize },
    NodeBeats { node: usize },
    NodeReportCame { node: usize, sent: Box<Sent> },
    NodeDialled { node: usize, network: Network },
    NodeStreamGone { node: usize, network: Network, stream: u64 },
}

/// A whole fleet.
pub struct SimFleet {
    config: FleetConfig,
    now: Moment,
    queue: Queue<Happening>,
    networks: SimNetworks,
    draw: Draw,
    detector: Detector,
    due: Option<Moment>,
    ear: Ear,
    records: Records,
    nodes: Vec<SimNode>,
    node_streams: Vec<[u64; 2]>,
    watchers: Vec<SimWatcher>,
    by_id: BTreeMap<WatcherId, usize>,
    probes: Vec<ProbeAssignment>,
    lives: u64,
    score: Score,
}

impl SimFleet {
    /// Returns a fleet that has just been started.
    ///
    /// # Errors
    /// Says which number of the configuration breaks which rule.
    pub fn new(config: FleetConfig) -> Result<Self, String> {
        config.validate()?;
        let (nodes, timing) = (config.nodes, config.timing.clone());
        let probes: Vec<_> =
            [("rdp", Network::Service), ("ping", Network::Service), ("guest-agent", Network::Management)]
                .into_iter()
                .take(config.probes)
                .map(|(name, network)| ProbeAssignment {
                    probe: ProbeName::new(name).expect("small letters are a name"),
                    network,
                    settings: "{}".to_owned(),
                })
                .collect();
        let mut fleet = Self {
            now: Moment::ZERO + Duration::from_secs(1),
            queue: Queue::default(),
            networks: SimNetworks::new(nodes, &config),
            draw: Draw::new(config.seed, 2),
            detector: Detector::new(OWN, timing),
            due: None,
            ear: Ear::new(nodes),
            records: Records::new(OWN),
            nodes: Vec::with_capacity(nodes),
            node_streams: vec![[0; 2]; nodes],
            watchers: Vec::with_capacity(nodes),
            by_id: BTreeMap::new(),
            probes,
            lives: 0,
            score: Score::default(),
            config,
        };
        fleet.build();
        Ok(fleet)
    }

    /// Plays this much virtual time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, happening)) = self.queue.take_before(end) {
            self.now = at;
            self.happen(happening);
        }
        self.now = end;
    }

    /// Returns what was said so far.
    pub fn score(&self) -> &Score {
        &self.score
    }

    /// Returns how many nodes are recorded as cut now.
    pub fn cut_nodes(&self) -> usize {
        self.records.cut_nodes()
    }

    fn build(&mut self) {
        let (now, nodes) = (self.now, self.config.nodes);
        let mut vms: Vec<Vec<VmId>> = vec![Vec::new(); nodes];
        for number in 0..self.config.vms {
            vms[number % nodes].push(VmId::new(uuid::Uuid::from_u128(number as u128 + 1)));
        }
        for (number, own) in vms.iter().enumerate() {
            let (name, boot) = (node_name(number), BootId::new(uuid::Uuid::from_u128(number as u128 + 1)));
            self.records.record_node(name.clone(), boot);
            let specs = own.iter().map(|vm| VmSpec {
                id: *vm,
                name: vm.to_string(),
                addresses: SortedMap::new(),
                probes: self.probes.clone(),
                labels: SortedMap::new(),
                datastore: None,
            });
            self.records.record_vms(name.clone(), specs.collect());
            let generation = |vm: &VmId| self.records.vm(*vm).map_or(Generation::default(), |vm| vm.generation);
            let generations = own.iter().map(generation).collect();
            self.nodes.push(SimNode::new(number, name, boot, own.clone(), generations));
        }
        for node in 0..nodes {
            let watched = vms[node].iter().chain(&vms[(node + 1) % nodes]).copied().collect();
            let id = self.records.place_watcher(node_name(node), now).expect("every node takes a watcher");
            let watcher = self.live_watcher(id, node, watched);
            self.by_id.insert(id, node);
            self.watchers.push(watcher);
        }
        let news = self.records.news();
        self.tell(news);
        self.tell(Fact::LeadershipChanged { leads: Some(Term::new(1)) });
        self.queue.put(now, Happening::ManagerTicks);
        for node in 0..nodes {
            let spread = |draw: &mut Draw, within| now + draw.between(Duration::ZERO, within);
            let timing = self.config.timing.clone();
            self.queue.put(spread(&mut self.draw, timing.report_interval), Happening::NodeReports { node });
            self.queue.put(spread(&mut self.draw, timing.heartbeat_interval), Happening::NodeBeats { node });
            self.queue.put(spread(&mut self.draw, HEALTH_EVERY), Happening::HealthDue { slot: node });
            for network in Network::ALL {
                let stands = self.nodes[node].dial(&mut self.networks, now, network);
                self.queue.put(stands, Happening::NodeDialled { node, network });
                self.watcher_dials(node, network);
            }
        }
    }

    /// Returns a watcher of this number that has just come to life.
    fn live_watcher(&mut self, id: WatcherId, node: usize, vms: Vec<VmId>) -> SimWatcher {
        self.lives += 1;
        let incarnation = Incarnation::new(self.lives);
        let generation = self.records.enliven_watcher(id, incarnation, vms.clone(), self.now);
        SimWatcher::new(id, incarnation, generation, node, vms, &self.config.timing)
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::ManagerTicks => self.manager_ticks(),
            Happening::DetectorDue => {
                if self.due.take_if(|due| *due <= now).is_some() {
                    self.tell(Fact::Ticked);
                }
            }
            Happening::Settled(index) => {
                self.tell(Fact::ProposalSettled(Settlement::Committed(index)));
                let news = self.records.news();
                self.tell(news);
            }
            Happening::WatcherWoken { slot } => {
                if self.watchers[slot].wake.take_if(|wake| *wake <= now).is_some() {
                    self.watch(slot, Event::Woken);
                }
            }
            Happening::RunEnded { slot, life, run, came } => {
                if self.watchers[slot].id == life {
                    let ended = match came {
                        Came::Up | Came::Timeout => probe_ended(came),
                        Came::Reached { node, nonce } => self.relay_reached(node, Nonce::new(nonce)),
                        Came::Stalled => relay_ended(RelayOutcome::Stalled, Vec::new()),
                        Came::Silent => relay_ended(RelayOutcome::Silent, Vec::new()),
                    };
                    self.watch(slot, Event::RunEnded { run, ended });
                }
            }
            Happening::EchoesEnded { slot, life, round, came } => {
                if self.watchers[slot].id == life {
                    self.watch(slot, Event::EchoesEnded { round, came });
                }
            }
            Happening::HealthDue { slot } => {
                let loop_lag = self.draw.between(Duration::ZERO, LAG_LONGEST);
                self.queue.put(now + HEALTH_EVERY, Happening::HealthDue { slot });
                self.watch(slot, Event::HealthMeasured { loop_lag, steal_percent: 0 });
            }
            Happening::Ticked { slot, session, tick } => {
                let tick = Told::Tick(proto::Tick { sequence: tick.get() });
                self.watch(slot, Event::Heard { session, message: proto::ToWatcher { message: Some(tick) } });
            }
            Happening::ToWatcher { slot, session, message } => {
                self.watch(slot, Event::Heard { session, message: *message });
            }
            Happening::FromWatcher { slot, network, session, said } => {
                self.hear_watcher(slot, network, session, *said);
            }
            Happening::WatcherDialled { slot, life, network } => {
                if self.watchers[slot].id == life {
                    let (session, endpoint) = self.watchers[slot].opened(network);
                    self.watch(slot, Event::SessionOpened { session, endpoint });
                }
            }
            Happening::WatcherDials { slot, life, network } => {
                if self.watchers[slot].id == life {
                    self.watcher_dials(slot, network);
                }
            }
            Happening::WatcherStreamGone { watcher, network, session } => {
                let gone = self.ear.watcher_closed(watcher, network, session);
                gone.into_iter().for_each(|event| self.tell(event));
            }
            Happening::WatcherBooted { slot, watcher } => self.watcher_booted(slot, watcher),
            Happening::NodeReports { node } => self.node_reports(node),
            Happening::NodeBeats { node } => {
                self.queue.put(now + self.config.timing.heartbeat_interval, Happening::NodeBeats { node });
                for network in Network::ALL {
                    let measured = self.nodes[node].beat(&mut self.networks, now, network);
                    measured.into_iter().for_each(|link| self.tell(Fact::LinkMeasured(link)));
                }
            }
            Happening::NodeReportCame { node, sent } => {
                self.ear.node_report(node, *sent).into_iter().for_each(|event| self.tell(event));
            }
            Happening::NodeDialled { node, network } => {
                let stream = self.nodes[node].opened(now, network);
                self.node_streams[node][slot(network)] = stream;
                let event = self.ear.node_opened(node, &self.nodes[node].name, network, stream);
                self.tell(event);
            }
            Happening::NodeStreamGone { node, network, stream } => {
                let gone = self.ear.node_closed(node, &self.nodes[node].name, network, stream);
                gone.into_iter().for_each(|event| self.tell(event));
            }
        }
    }

    fn manager_ticks(&mut self) {
        let now = self.now;
        self.queue.put(now + self.config.timing.tick_interval, Happening::ManagerTicks);
        let tick = self.ear.tick(now);
        for node in &mut self.nodes {
            node.tick(&mut self.networks, now, tick);
        }
        for (number, watcher) in self.watchers.iter_mut().enumerate() {
            for network in Network::ALL {
                let path = watcher.down(network);
                if let Some(stream) = &mut watcher.streams[slot(network)] {
                    let arrives = stream.down.send(&mut self.networks, now, path);
                    self.queue.put(arrives, Happening::Ticked { slot: number, session: stream.id, tick });
                }
            }
        }
        self.tell(Fact::Ticked);
    }

    fn node_reports(&mut self, node: usize) {
        let now = self.now;
        self.queue.put(now + self.config.timing.report_interval, Happening::NodeReports { node });
        let watcher = self.watchers[node].id;
        for does in self.nodes[node].report(&mut self.networks, now, watcher) {
            match does {
                NodeDoes::Report(sent) => self.queue.put(sent.arrives, Happening::NodeReportCame { node, sent }),
                NodeDoes::Redial(network, stands) => {
                    self.score.redials += 1;
                    let stream = self.node_streams[node][slot(network)];
                    let latency = self.networks.latency();
                    self.queue.put(now + latency, Happening::NodeStreamGone { node, network, stream });
                    self.queue.put(stands, Happening::NodeDialled { node, network });
                }
            }
        }
    }

    fn relay_reached(&mut self, node: usize, nonce: Nonce) -> vouch_watcher::logic::Ended {
        let statements = if nonce.get() == 0 {
            Vec::new()
        } else {
            self.nodes[node].statements(nonce).iter().map(carried).collect()
        };
        relay_ended(RelayOutcome::Reached, statements)
    }

    /// Gives the detector a fact, and carries out what it orders.
    fn tell(&mut self, fact: Fact) {
        self.score.events += 1;
        self.score.observations += u64::from(matches!(fact, Fact::Observed(_)));
        for order in self.detector.handle(self.now, fact) {
            match order {
                Order::Ask(ask) => self.ask(&ask),
                Order::Propose(proposal) => {
                    for told in truth::told(&mut self.networks, &self.records, self.now, &proposal) {
                        self.score.told(told);
                    }
                    let lost = self.records.record(self.now, proposal, &mut self.score);
                    lost.into_iter().for_each(|watcher| self.replace_watcher(watcher));
                    self.queue.put(self.now + COMMIT, Happening::Settled(self.records.index()));
                }
                Order::Schedule(at) => {
                    self.due = Some(at);
                    self.queue.put(at, Happening::DetectorDue);
                }
            }
        }
    }

    fn ask(&mut self, ask: &Ask) {
        self.score.asks += 1;
        let (Some((network, session)), Some(slot)) = (self.ear.route(ask.watcher), self.by_id.get(&ask.watcher)) else {
            return;
        };
        self.ear.asked(ask.nonce, self.now);
        let message = proto::Ask {
            nonce: ask.nonce.get(),
            deadline_micros: u64::try_from(ask.deadline.as_micros()).unwrap_or(u64::MAX),
            nodes: ask.nodes.iter().map(|n: &NodeId| n.as_str().to_owned()).collect(),
            vms: ask.vms.iter().map(|vm| vouch_wire::convert::vm_bytes(*vm)).collect(),
            light: ask.weight == Weight::Light,
            findings: false,
        };
        self.send_down(*slot, network, session, Told::Ask(message));
    }

    fn send_down(&mut self, number: usize, network: Network, session: SessionId, message: Told) {
        let path = self.watchers[number].down(network);
        let stream = self.watchers[number].streams[slot(network)].as_mut().filter(|s| s.id == session);
        let Some(stream) = stream else { return };
        let arrives = stream.down.send(&mut self.networks, self.now, path);
        let message = Box::new(proto::ToWatcher { message: Some(message) });
        self.queue.put(arrives, Happening::ToWatcher { slot: number, session, message });
    }

    fn hear_watcher(&mut self, number: usize, network: Network, session: SessionId, said: Said) {
        let (watcher, incarnation, now) = (self.watchers[number].id, self.watchers[number].incarnation, self.now);
        match said {
            Said::Hello => {
                let opened = self.ear.watcher_opened(watcher, incarnation, network, session, now);
                self.tell(opened);
                let timing = serde_json::to_string(&self.config.timing).unwrap_or_default();
                let welcome = proto::ManagerWelcome { manager: OWN.get(), timing, ..Default::default() };
                let assignment = self.watchers[number].assignment(self.config.nodes, &self.probes);
                let tick = proto::Tick { sequence: self.ear.last_tick().get() };
                for message in [Told::Welcome(welcome), Told::Tick(tick), Told::Assignment(assignment)] {
                    self.send_down(number, network, session, message);
                }
            }
            Said::Report(report) => {
                self.score.watcher_reports += 1;
                let taken = self.ear.report(watcher, network, session, report, now);
                if taken.resync {
                    self.send_down(number, network, session, Told::Resync(proto::Resync {}));
                }
                taken.events.into_iter().for_each(|event| self.tell(event));
            }
            Said::Answer(answer) => {
                let events = self.ear.answer(watcher, network, session, answer, now);
                events.into_iter().for_each(|event| self.tell(event));
            }
        }
    }

    /// Gives a watcher an event, and does what follows.
    fn watch(&mut self, number: usize, event: Event) {
        let now = self.now;
        // A probe that is to be made ready is so at once: that event follows. Most have none that follows.
        let (mut next, mut events) = (Some(event), Vec::new());
        while let Some(event) = next {
            for effect in self.watchers[number].logic.handle(now, event) {
                match effect {
                    Effect::Begin(run) => {
                        let (life, node) = (self.watchers[number].id, self.watchers[number].node);
                        let (at, came) = outcome::run(&mut self.networks, self.config.nodes, now, node, &run);
                        self.score.runs += 1;
                        self.queue.put(at, Happening::RunEnded { slot: number, life, run: run.id, came });
                    }
                    Effect::Send { session, message } => {
                        let Some(network) = self.watchers[number].network_of(session) else { continue };
                        let path = self.watchers[number].up(network);
                        let Some(stream) = &mut self.watchers[number].streams[slot(network)] else { continue };
                        let at = stream.up.send(&mut self.networks, now, path);
                        let Some(said) = Said::of(message).map(Box::new) else { continue };
                        self.queue.put(at, Happening::FromWatcher { slot: number, network, session, said });
                    }
                    Effect::Close { session, .. } => {
                        let Some(network) = self.watchers[number].network_of(session) else { continue };
                        self.score.redials += 1;
                        self.watchers[number].streams[slot(network)] = None;
                        let gone = now + self.networks.latency();
                        let watcher = self.watchers[number].id;
                        self.queue.put(gone, Happening::WatcherStreamGone { watcher, network, session });
                        self.watcher_dials(number, network);
                    }
                    Effect::Echo(round) => {
                        let (life, node) = (self.watchers[number].id, self.watchers[number].node);
                        let (at, came) = echoes::round(&mut self.networks, now, node, &round);
                        let ended = Happening::EchoesEnded { slot: number, life, round: round.id, came };
                        self.queue.put(at, ended);
                    }
                    Effect::Forget { .. } => {}
                    Effect::Prepare { digest, .. } => {
                        events.push(Event::ProbeReady { digest, origin: Origin::Shipped })
                    }
                }
            }
            next = events.pop();
        }
        let watcher = &mut self.watchers[number];
        if let Some(at) = watcher.logic.next_wake() {
            let at = at.max(now);
            if watcher.wake.is_none_or(|planned| at < planned) {
                watcher.wake = Some(at);
                self.queue.put(at, Happening::WatcherWoken { slot: number });
            }
        }
    }

    fn watcher_dials(&mut self, number: usize, network: Network) {
        let (now, watcher) = (self.now, &self.watchers[number]);
        let (life, path) = (watcher.id, watcher.up(network));
        match dialled(&mut self.networks, now, now, path) {
            Some(at) => self.queue.put(at, Happening::WatcherDialled { slot: number, life, network }),
            None => {
                let again = now + super::stream::DIAL_LIMIT + REDIAL;
                self.queue.put(again, Happening::WatcherDials { slot: number, life, network });
            }
        }
    }

    /// A watcher was called lost: as the manager does, another one is put in its place.
    fn replace_watcher(&mut self, lost: WatcherId) {
        let Some(slot) = self.by_id.remove(&lost) else { return };
        let Some(watcher) = self.records.place_watcher(node_name(self.watchers[slot].node), self.now) else { return };
        self.queue.put(self.now + WATCHER_BOOT, Happening::WatcherBooted { slot, watcher });
    }

    fn watcher_booted(&mut self, slot: usize, watcher: WatcherId) {
        let (node, vms) = (self.watchers[slot].node, self.watchers[slot].vms.clone());
        let old = self.watchers[slot].id;
        self.watchers[slot] = self.live_watcher(watcher, node, vms);
        self.records.retire_watcher(old, self.now);
        self.ear.forget(old);
        self.by_id.insert(watcher, slot);
        let news = self.records.news();
        self.tell(news);
        for network in Network::ALL {
            self.watcher_dials(slot, network);
        }
    }
}
