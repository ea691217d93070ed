//! What the manager hears, dated and turned into the detector's events, by the rules of the manager's own fleet.
//!
//! That fleet lives inside the manager's tasks and cannot be driven without them, so its rules are said again here: a
//! word is as old as the tick that it echoes, reports of a stream are numbered and a gap asks for everything, and what
//! cannot be dated does not count. The conversion of the messages is the real one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use vouch_detector::{Event, StreamChange};
use vouch_types::{
    AssignmentGeneration, Incarnation, ManagerId, Moment, Network, NodeId, Nonce, TickSequence, WatcherId,
};
use vouch_watcher::logic::SessionId;
use vouch_wire::convert::{WatcherAnswer, WatcherReport};
use vouch_wire::proto::from_watcher::Message;
use vouch_wire::{proto, sign};

use super::network::slot;
use super::node::Sent;

/// How many ticks are remembered.
const TICKS_KEPT: usize = 4_096;

/// The manager whose ear this is.
pub(crate) const OWN: ManagerId = ManagerId::new(1);

/// A watcher's stream as the manager holds it.
#[derive(Debug)]
struct Heard {
    session: SessionId,
    sequence: u64,
    resyncing: bool,
    arrived: Moment,
}

/// A watcher as the manager hears it.
#[derive(Debug, Default)]
struct WatcherEar {
    incarnation: Incarnation,
    assignment: AssignmentGeneration,
    streams: [Option<Heard>; 2],
}

/// A node as the manager hears it.
#[derive(Debug, Default)]
struct NodeEar {
    sequence: u64,
    complete: bool,
    streams: [Option<u64>; 2],
}

/// What a watcher says, converted: the manager does so when it comes, the model when it leaves, because a message on its
/// way is in nobody's cache.
#[derive(Debug)]
pub(crate) enum Said {
    /// Its stream stands.
    Hello,
    /// What changed.
    Report(WatcherReport),
    /// Of an ask.
    Answer(WatcherAnswer),
}

impl Said {
    /// Returns what a message says; `None` when it says nothing.
    pub(crate) fn of(message: proto::FromWatcher) -> Option<Self> {
        Some(match message.message? {
            Message::Hello(_) => Self::Hello,
            Message::Report(report) => Self::Report(report.try_into().expect("a watcher makes no malformed report")),
            // What is counted for metrics says nothing of any state.
            Message::Durations(_) => return None,
            Message::Answer(answer) => Self::Answer(answer.try_into().expect("a watcher makes no malformed answer")),
        })
    }
}

/// What a message was worth.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) events: Vec<Event>,
    /// The watcher is to be told to send everything.
    pub(crate) resync: bool,
}

/// What the manager hears.
#[derive(Debug, Default)]
pub(crate) struct Ear {
    sent: VecDeque<Moment>,
    last: u64,
    watchers: BTreeMap<WatcherId, WatcherEar>,
    nodes: Vec<NodeEar>,
    /// When each ask was handed over.
    asked: BTreeMap<Nonce, Moment>,
}

impl Ear {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { nodes: (0..nodes).map(|_| NodeEar::default()).collect(), ..Self::default() }
    }

    /// A tick is sent now; returns its number.
    pub(crate) fn tick(&mut self, now: Moment) -> TickSequence {
        if self.sent.len() == TICKS_KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        self.last += 1;
        TickSequence::new(self.last)
    }

    pub(crate) fn last_tick(&self) -> TickSequence {
        TickSequence::new(self.last)
    }

    fn sent(&self, tick: TickSequence) -> Option<Moment> {
        let behind = usize::try_from(self.last.checked_sub(tick.get())?).ok()?;
        let position = self.sent.len().checked_sub(1)?.checked_sub(behind)?;
        if tick.get() == 0 { None } else { self.sent.get(position).copied() }
    }

    /// A node's stream stands.
    pub(crate) fn node_opened(&mut self, node: usize, name: &NodeId, network: Network, stream: u64) -> Event {
        self.nodes[node].streams[slot(network)] = Some(stream);
        Event::NodeStreamChanged { manager: OWN, node: name.clone(), change: StreamChange::Opened }
    }

    /// A node's stream is gone. Only the loss of the last one is news.
    pub(crate) fn node_closed(&mut self, node: usize, name: &NodeId, network: Network, stream: u64) -> Option<Event> {
        let streams = &mut self.nodes[node].streams;
        if streams[slot(network)] != Some(stream) {
            return None;
        }
        streams[slot(network)] = None;
        let none = streams.iter().all(Option::is_none);
        none.then(|| Event::NodeStreamChanged { manager: OWN, node: name.clone(), change: StreamChange::Closed })
    }

    /// A node's report has come.
    pub(crate) fn node_report(&mut self, node: usize, sent: Sent) -> Vec<Event> {
        let begun = self.sent(sent.tick);
        let ear = &mut self.nodes[node];
        let Sent { network, stream, mut report, .. } = sent;
        if ear.streams[slot(network)] != Some(stream) {
            return Vec::new();
        }
        let sequence = report.sequence.get();
        if sequence < ear.sequence {
            return Vec::new();
        }
        let again = sequence == ear.sequence && ear.complete;
        ear.sequence = sequence;
        ear.complete |= report.full;
        let Some(begun) = begun else { return Vec::new() };
        let heard = Event::NodeHeard { manager: OWN, node: report.node.clone(), begun };
        if again {
            return vec![heard];
        }
        report.begun = begun;
        vec![heard, Event::NodeReported(report)]
    }

    /// A watcher's hello has come.
    pub(crate) fn watcher_opened(
        &mut self,
        watcher: WatcherId,
        incarnation: Incarnation,
        network: Network,
        session: SessionId,
        now: Moment,
    ) -> Event {
        let ear = self.watchers.entry(watcher).or_default();
        ear.incarnation = incarnation;
        ear.streams[slot(network)] = Some(Heard { session, sequence: 0, resyncing: false, arrived: now });
        Event::WatcherStreamChanged { manager: OWN, watcher, network, change: StreamChange::Opened }
    }

    /// A watcher's stream is gone.
    pub(crate) fn watcher_closed(&mut self, watcher: WatcherId, network: Network, session: SessionId) -> Option<Event> {
        let streams = &mut self.watchers.get_mut(&watcher)?.streams;
        let heard = &mut streams[slot(network)];
        if heard.as_ref().is_none_or(|h| h.session != session) {
            return None;
        }
        *heard = None;
        Some(Event::WatcherStreamChanged { manager: OWN, watcher, network, change: StreamChange::Closed })
    }

    /// A watcher is destroyed.
    pub(crate) fn forget(&mut self, watcher: WatcherId) {
        self.watchers.remove(&watcher);
    }

    /// Returns over which of a watcher's streams it is asked: the one that answered last.
    pub(crate) fn route(&self, watcher: WatcherId) -> Option<(Network, SessionId)> {
        let ear = self.watchers.get(&watcher)?;
        let open = Network::ALL.into_iter().filter_map(|n| Some((n, ear.streams[slot(n)].as_ref()?)));
        let best = open.min_by_key(|(network, heard)| (Reverse(heard.arrived), *network));
        best.map(|(network, heard)| (network, heard.session))
    }

    /// An ask is handed over.
    pub(crate) fn asked(&mut self, nonce: Nonce, now: Moment) {
        self.asked.insert(nonce, now);
        while self.asked.len() > TICKS_KEPT {
            self.asked.pop_first();
        }
    }

    fn stream(&mut self, watcher: WatcherId, network: Network, session: SessionId) -> Option<&mut WatcherEar> {
        let ear = self.watchers.get_mut(&watcher)?;
        ear.streams[slot(network)].as_ref().is_some_and(|h| h.session == session).then_some(ear)
    }

    /// A watcher's report has come.
    pub(crate) fn report(
        &mut self,
        watcher: WatcherId,
        network: Network,
        session: SessionId,
        report: WatcherReport,
        now: Moment,
    ) -> Taken {
        let tick = self.sent(report.tick);
        let nothing = Taken::default();
        let Some(ear) = self.stream(watcher, network, session) else { return nothing };
        let incarnation = ear.incarnation;
        let Some(heard) = &mut ear.streams[slot(network)] else { return nothing };
        let sequence = report.sequence.get();
        heard.arrived = now;
        if sequence <= heard.sequence {
            return nothing;
        }
        let gap = sequence != heard.sequence + 1 && !report.full;
        let resync = gap && !heard.resyncing;
        heard.resyncing = (heard.resyncing || gap) && !report.full;
        heard.sequence = sequence;
        let stale = report.assignment < ear.assignment;
        ear.assignment = ear.assignment.max(report.assignment);
        let mut events = Vec::with_capacity(report.observations.len() + report.relays.len() + 2);
        if let Some(begun) = tick {
            let health = report.health.clone();
            events.push(Event::WatcherHeard { manager: OWN, watcher, network, incarnation, begun, health });
        }
        if stale {
            return Taken { events, resync };
        }
        let (before, all) = (events.len(), report.observations.len() + report.relays.len());
        for o in report.observations {
            if let Some(begun) = self.sent(o.begun) {
                events.push(Event::Observed(o.at(watcher, begun, None)));
            }
        }
        for r in report.relays {
            if let Some(begun) = self.sent(r.begun) {
                events.push(Event::RelayObserved(r.at(watcher, begun, None)));
            }
        }
        let all_dated = events.len() - before == all;
        if let (Some(age), Some(sent), true) = (report.others_age, tick, all_dated && !report.full) {
            events.push(Event::OthersUnchanged { watcher, assignment: report.assignment, begun: sent - age });
        }
        Taken { events, resync }
    }

    /// A watcher's answer to an ask has come.
    pub(crate) fn answer(
        &mut self,
        watcher: WatcherId,
        network: Network,
        session: SessionId,
        answer: WatcherAnswer,
        now: Moment,
    ) -> Vec<Event> {
        let Some(ear) = self.stream(watcher, network, session) else { return Vec::new() };
        let incarnation = ear.incarnation;
        if let Some(heard) = &mut ear.streams[slot(network)] {
            heard.arrived = now;
        }
        if answer.assignment < ear.assignment {
            return Vec::new();
        }
        let nonce = answer.nonce;
        let Some(asked) = self.asked.get(&nonce).copied() else { return Vec::new() };
        let mut events = Vec::new();
        if let Some(health) = answer.health {
            let health = Some(health);
            events.push(Event::WatcherHeard { manager: OWN, watcher, network, incarnation, begun: asked, health });
        }
        for signed in &answer.statements {
            let statement = sign::peek_statement(signed).expect("a relay gives no malformed statement");
            if statement.nonce == nonce {
                events.push(Event::StatementReceived { watcher, statement, begun: asked });
            }
        }
        for o in answer.observations {
            let begun = self.sent(o.begun).unwrap_or(asked).max(asked);
            events.push(Event::Observed(o.at(watcher, begun, Some(nonce))));
        }
        for r in answer.relays {
            let begun = self.sent(r.begun).unwrap_or(asked).max(asked);
            events.push(Event::RelayObserved(r.at(watcher, begun, Some(nonce))));
        }
        if answer.complete {
            events.push(Event::AskAnswered { watcher, nonce });
        }
        events
    }
}
