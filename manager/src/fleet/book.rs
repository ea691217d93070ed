//! The book of the fleet: streams, words and other managers. Pure: messages in, events for the detector out.
//!
//! Time comes in as an argument; messages go out through the queues of the sessions, which never wait. The rules of
//! freshness are all here: a word without a tick of this manager says nothing about now, a lower sequence or life is
//! dropped and counted, and what another manager heard is dated by the tick of ours that it echoes.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_detector::{Event, StreamChange};
use vouch_types::{Incarnation, ManagerId, Moment, Network, NodeId, Timing, WatcherId};
use vouch_wire::convert::{NodeHello, NodeReport, WatcherReport};
use vouch_wire::pki::{CertificateDer, ShownCertificate};
use vouch_wire::proto;

use super::asks::AskBook;
use super::node_words::{Freshness, NodeWords, detector_report};
use super::peer::Peer;
use super::sessions::{SessionId, Sessions, StreamState, is_untrusted};
use super::ticks::TickRing;
use super::watcher_words::{DatedReport, WatcherWords, dated};
use crate::counters::{Count, Counters};

/// A node, its streams, and what it said.
#[derive(Debug, Default)]
pub(crate) struct NodeEntry {
    pub(crate) sessions: Sessions<proto::ToNode>,
    pub(crate) words: NodeWords,
}

/// A watcher, its streams, and what it said.
#[derive(Debug, Default)]
pub(crate) struct WatcherEntry {
    pub(crate) sessions: Sessions<proto::ToWatcher>,
    pub(crate) words: WatcherWords,
}

/// What became of a message.
pub(crate) type Taken = Result<Vec<Event>, Refusal>;

/// Why a stream has to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It is not the stream of its network any more.
    Replaced,
    /// A later life of its sender was heard.
    StaleLife,
}

impl Refusal {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced by a newer stream",
            Self::StaleLife => "a later life of the sender is known",
        }
    }
}

/// The book of the fleet.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) own: ManagerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) timing: Timing,
    pub(crate) ticks: TickRing,
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    pub(crate) watchers: BTreeMap<WatcherId, WatcherEntry>,
    pub(crate) peers: BTreeMap<ManagerId, Peer>,
    pub(crate) asks: AskBook,
    pub(crate) counters: Counters,
    last_session: u64,
}

impl Book {
    pub(crate) fn new(own: ManagerId, incarnation: Incarnation, timing: Timing, counters: Counters) -> Self {
        Self {
            own,
            incarnation,
            timing,
            ticks: TickRing::default(),
            nodes: BTreeMap::new(),
            watchers: BTreeMap::new(),
            peers: BTreeMap::new(),
            asks: AskBook::new(own),
            counters,
            last_session: 0,
        }
    }

    /// Returns an id that no stream had before.
    pub(crate) fn next_session(&mut self) -> SessionId {
        self.last_session += 1;
        SessionId(self.last_session)
    }

    /// Takes a node's new stream.
    pub(crate) fn open_node(
        &mut self,
        node: &NodeId,
        hello: NodeHello,
        now: Moment,
        outbound: mpsc::Sender<proto::ToNode>,
        shown: Option<ShownCertificate>,
    ) -> Result<(SessionId, CancellationToken, Vec<Event>), Refusal> {
        let id = self.next_session();
        let entry = self.nodes.entry(node.clone()).or_default();
        let (network, incarnation) = (hello.network, hello.incarnation);
        if entry.words.greet(hello) == Freshness::Stale {
            self.counters.add(Count::StaleDropped, "node", 1);
            return Err(Refusal::StaleLife);
        }
        let stop = entry.sessions.open(id, network, incarnation, now, outbound, shown);
        let opened = Event::NodeStreamChanged { manager: self.own, node: node.clone(), change: StreamChange::Opened };
        Ok((id, stop, vec![opened]))
    }

    /// Lets a node's stream go. Only the loss of the last one is news.
    pub(crate) fn end_node(&mut self, node: &NodeId, id: SessionId, network: Network, how: StreamState) -> Vec<Event> {
        let Some(entry) = self.nodes.get_mut(node) else { return Vec::new() };
        if !entry.sessions.end(id, network, how) || entry.sessions.any_open() {
            return Vec::new();
        }
        vec![Event::NodeStreamChanged { manager: self.own, node: node.clone(), change: stream_change(how) }]
    }

    /// Takes a node's report.
    pub(crate) fn node_report(
        &mut self,
        node: &NodeId,
        id: SessionId,
        network: Network,
        report: &NodeReport,
        now: Moment,
    ) -> Taken {
        let entry = self.nodes.get_mut(node).ok_or(Refusal::Replaced)?;
        let session = entry.sessions.session_mut(id, network).ok_or(Refusal::Replaced)?;
        if session.incarnation < entry.words.incarnation() {
            self.counters.add(Count::StaleDropped, "node", 1);
            return Err(Refusal::StaleLife);
        }
        let begun = self.ticks.sent(report.tick);
        session.arrived = now;
        session.sequence = report.sequence.get();
        session.begun = session.begun.max(begun);
        let resync = !report.full && !entry.words.is_complete() && !session.resyncing;
        session.resyncing = resync || (session.resyncing && !report.full);
        let freshness = entry.words.take(report, begun, now);
        let hello = entry.words.hello.clone();
        if resync {
            let message = proto::to_node::Message::Resync(proto::Resync {});
            entry.sessions.send_on(id, network, proto::ToNode { message: Some(message) });
        }
        let (Some(begun), Some(hello)) = (begun, hello) else {
            self.counters.add(Count::StaleDropped, "node", 1);
            return Ok(Vec::new());
        };
        let heard = Event::NodeHeard { manager: self.own, node: node.clone(), begun };
        Ok(match freshness {
            Freshness::New => {
                let report = detector_report(self.own, node, &hello, report, begun);
                vec![heard, Event::NodeReported(report)]
            }
            Freshness::Again => vec![heard],
            Freshness::Stale => {
                self.counters.add(Count::StaleDropped, "node", 1);
                Vec::new()
            }
        })
    }

    /// Closes streams that were opened with a certificate of none of these CAs; returns how many.
    pub(crate) fn close_untrusted(&self, roots: &[CertificateDer<'static>]) -> u64 {
        let nodes: u64 = self.nodes.values().map(|entry| entry.sessions.stop_untrusted(roots)).sum();
        let watchers: u64 = self.watchers.values().map(|entry| entry.sessions.stop_untrusted(roots)).sum();
        let accepted = self.peers.values().filter_map(|peer| peer.accepted.as_ref());
        let untrusted = accepted.filter(|stream| is_untrusted(stream.shown.as_ref(), roots));
        let managers = untrusted.map(|stream| stream.stop.cancel()).count() as u64;
        nodes + watchers + managers
    }

    /// Closes the streams of nodes, and forgets what they said and what other managers heard of them.
    pub(crate) fn forget_nodes(&mut self, nodes: &BTreeSet<NodeId>) {
        for node in nodes {
            if let Some(entry) = self.nodes.remove(node) {
                entry.sessions.stop_all();
            }
            for peer in self.peers.values_mut() {
                peer.nodes.remove(node);
                peer.relayed_nodes.remove(node);
            }
        }
    }

    /// Takes a watcher's new stream.
    pub(crate) fn open_watcher(
        &mut self,
        watcher: WatcherId,
        (incarnation, network): (Incarnation, Network),
        now: Moment,
        outbound: mpsc::Sender<proto::ToWatcher>,
        shown: Option<ShownCertificate>,
    ) -> Result<(SessionId, CancellationToken, Vec<Event>), Refusal> {
        let id = self.next_session();
        let entry = self.watchers.entry(watcher).or_default();
        if entry.words.is_stale_life(incarnation) {
            self.counters.add(Count::StaleDropped, "watcher", 1);
            return Err(Refusal::StaleLife);
        }
        let stop = entry.sessions.open(id, network, incarnation, now, outbound, shown);
        let change = StreamChange::Opened;
        Ok((id, stop, vec![Event::WatcherStreamChanged { manager: self.own, watcher, network, change }]))
    }

    /// Lets a watcher's stream go.
    pub(crate) fn end_watcher(
        &mut self,
        watcher: WatcherId,
        id: SessionId,
        network: Network,
        how: StreamState,
    ) -> Vec<Event> {
        let Some(entry) = self.watchers.get_mut(&watcher) else { return Vec::new() };
        if !entry.sessions.end(id, network, how) {
            return Vec::new();
        }
        vec![Event::WatcherStreamChanged { manager: self.own, watcher, network, change: stream_change(how) }]
    }

    /// Takes a watcher's report.
    pub(crate) fn watcher_report(
        &mut self,
        watcher: WatcherId,
        id: SessionId,
        network: Network,
        report: WatcherReport,
        now: Moment,
    ) -> Taken {
        let entry = self.watchers.get_mut(&watcher).ok_or(Refusal::Replaced)?;
        let session = entry.sessions.session_mut(id, network).ok_or(Refusal::Replaced)?;
        let incarnation = session.incarnation;
        if incarnation < entry.words.incarnation {
            self.counters.add(Count::StaleDropped, "watcher", 1);
            return Err(Refusal::StaleLife);
        }
        let sequence = report.sequence.get();
        session.arrived = now;
        if sequence <= session.sequence {
            self.counters.add(Count::StaleDropped, "watcher", 1);
            return Ok(Vec::new());
        }
        // A gap: something that changed was not heard.
        let gap = sequence != session.sequence + 1 && !report.full;
        let resync = gap && !session.resyncing;
        session.resyncing = (session.resyncing || gap) && !report.full;
        session.sequence = sequence;
        let tick = self.ticks.sent(report.tick);
        session.begun = session.begun.max(tick);
        if resync {
            let message = proto::to_watcher::Message::Resync(proto::Resync {});
            entry.sessions.send_on(id, network, proto::ToWatcher { message: Some(message) });
        }
        let (report, stale) = dated(report, |tick| self.ticks.sent(tick));
        self.counters.add(Count::StaleDropped, "watcher", stale);
        let mut events = Vec::new();
        if let Some(begun) = tick {
            let (manager, health) = (self.own, report.health.clone());
            events.push(Event::WatcherHeard { manager, watcher, network, incarnation, begun, health });
        }
        if entry.words.take(&report) {
            events.extend(report_events(watcher, &report));
        } else {
            self.counters.add(Count::StaleDropped, "watcher", 1);
        }
        Ok(events)
    }

    /// Returns the life of the watcher whose stream this is.
    ///
    /// # Errors
    /// [`Refusal::Replaced`] when it has ended.
    pub(crate) fn watcher_life(
        &mut self,
        watcher: WatcherId,
        id: SessionId,
        network: Network,
    ) -> Result<Incarnation, Refusal> {
        let entry = self.watchers.get_mut(&watcher).ok_or(Refusal::Replaced)?;
        entry.sessions.session_mut(id, network).map(|session| session.incarnation).ok_or(Refusal::Replaced)
    }

    /// Sends a tick over every stream, and stops those over which nothing has come for too long.
    pub(crate) fn tick(&mut self, now: Moment, silent_floor: Moment) {
        let tick = proto::Tick { sequence: self.ticks.advance(now).get() };
        let to_node = proto::ToNode { message: Some(proto::to_node::Message::Tick(tick)) };
        let to_watcher = proto::ToWatcher { message: Some(proto::to_watcher::Message::Tick(tick)) };
        for entry in self.nodes.values() {
            self.counters.add(Count::QueuesOverflowed, "node", entry.sessions.send_all(&to_node));
            self.counters.add(Count::SilentStreams, "node", entry.sessions.stop_silent(silent_floor));
        }
        for entry in self.watchers.values() {
            self.counters.add(Count::QueuesOverflowed, "watcher", entry.sessions.send_all(&to_watcher));
            self.counters.add(Count::SilentStreams, "watcher", entry.sessions.stop_silent(silent_floor));
        }
    }
}

/// Returns what a dated report tells the detector.
pub(crate) fn report_events(watcher: WatcherId, report: &DatedReport) -> Vec<Event> {
    let mut events = Vec::with_capacity(report.observations.len() + report.relays.len() + 1);
    events.extend(report.observations.iter().map(|o| Event::Observed(o.seen.clone().at(watcher, o.begun, None))));
    events.extend(report.relays.iter().map(|r| Event::RelayObserved(r.seen.clone().at(watcher, r.begun, None))));
    if let Some(begun) = report.others_begun {
        events.push(Event::OthersUnchanged { watcher, assignment: report.assignment, begun });
    }
    events
}

fn stream_change(how: StreamState) -> StreamChange {
    match how {
        StreamState::Open => StreamChange::Opened,
        StreamState::Closed => StreamChange::Closed,
        StreamState::Reset => StreamChange::Reset,
    }
}
