//! Evidence between managers: what each hears is told to the others on every tick, and what another one does not hear
//! itself is handed on to it whole.

use std::collections::BTreeMap;

use vouch_detector::{Event, StreamChange};
use vouch_types::{Incarnation, ManagerId, Moment, Network, NodeId, Sequence, TickSequence, WatcherId};
use vouch_wire::convert::{self, ConvertError, NodeHello, NodeReport, WatcherAnswer, WatcherReport};
use vouch_wire::proto;

use super::answers::AnswerContext;
use super::book::{Book, report_events};
use super::node_words::{Freshness, detector_report};
use super::peer::{HeardByPeer, Peer, from_stream_state, stream_state};
use super::sessions::StreamState;
use super::watcher_words::{Dated, DatedReport};
use crate::counters::Count;

impl Book {
    /// Returns the frame for another manager as things are now.
    pub(crate) fn frame(&mut self, to: ManagerId, now: Moment) -> proto::EvidenceFrame {
        let own_tick = self.ticks.last();
        let own_incarnation = self.incarnation;
        // Later than this, the other manager's own hearing is not what it should rely on.
        let floor = now - (self.timing.report_interval * 2 + self.timing.tick_interval * 2);
        let watcher_floor = now - (self.timing.watcher_report_interval * 2 + self.timing.tick_interval * 2);
        let peer = self.peers.entry(to).or_default();
        let mut frame = proto::EvidenceFrame {
            tick: Some(proto::Tick { sequence: own_tick.get() }),
            incarnation: own_incarnation.get(),
            echo: Some(proto::Tick { sequence: peer.tick.get() }),
            nodes: Vec::new(),
            watchers: Vec::new(),
            node_reports: Vec::new(),
            watcher_messages: std::mem::take(&mut peer.answers),
            links: Vec::new(),
            health: None,
        };
        for (node, entry) in &self.nodes {
            let Some(state) = entry.sessions.state() else { continue };
            let begun = entry.sessions.iter().filter_map(|(_, s)| s.begun).max();
            frame.nodes.push(proto::HeardNode {
                node: node.as_str().to_owned(),
                incarnation: entry.words.incarnation().get(),
                sequence: entry.words.sequence.get(),
                age_micros: begun.map_or(u64::MAX, |b| peer.age(b)),
                state: stream_state(state),
            });
            let position = (entry.words.incarnation(), entry.words.sequence);
            if begun.is_none_or(|b| b < floor)
                || peer.hears_node(node, floor)
                || peer.relayed_nodes.get(node) == Some(&position)
            {
                continue;
            }
            if let (Some(hello), Some(report), Some(begun)) = (&entry.words.hello, entry.words.merged(), begun) {
                peer.relayed_nodes.insert(node.clone(), position);
                frame.node_reports.push(proto::RelayedNodeReport {
                    node: node.as_str().to_owned(),
                    hello: Some(hello.into()),
                    report: Some((&report).into()),
                    age_micros: peer.age(begun),
                });
            }
        }
        for (watcher, entry) in &self.watchers {
            for network in Network::ALL {
                let Some(state) = entry.sessions.state_on(network) else { continue };
                let session = entry.sessions.on(network);
                frame.watchers.push(proto::HeardWatcher {
                    watcher: watcher.get(),
                    incarnation: entry.words.incarnation.get(),
                    sequence: session.map_or(0, |s| s.sequence),
                    age_micros: session.and_then(|s| s.begun).map_or(u64::MAX, |b| peer.age(b)),
                    state: stream_state(state),
                    network: proto::Network::from(network).into(),
                });
            }
            let heard = entry.sessions.iter().filter_map(|(_, s)| s.begun).max();
            let position = (entry.words.incarnation, entry.words.revision);
            if heard.is_none_or(|b| b < watcher_floor)
                || peer.hears_watcher(*watcher, watcher_floor)
                || peer.relayed_watchers.get(watcher) == Some(&position)
            {
                continue;
            }
            peer.relayed_watchers.insert(*watcher, position);
            let (report, begun) = entry.words.merged();
            let from = proto::from_watcher::Message::Report((&report).into());
            frame.watcher_messages.push(proto::RelayedWatcherMessage {
                watcher: watcher.get(),
                incarnation: entry.words.incarnation.get(),
                message: Some(proto::FromWatcher { message: Some(from) }),
                ages_micros: begun.into_iter().map(|b| peer.age(b)).collect(),
            });
        }
        frame
    }

    /// Takes another manager's frame.
    ///
    /// # Errors
    /// [`ConvertError`] when a value in it breaks a rule; what came before that value was taken.
    pub(crate) fn take_frame(
        &mut self,
        from: ManagerId,
        frame: proto::EvidenceFrame,
        now: Moment,
        statement_key: &dyn Fn(&NodeId) -> Option<Vec<u8>>,
    ) -> Result<Vec<Event>, ConvertError> {
        let tick = TickSequence::new(frame.tick.map_or(0, |t| t.sequence));
        let echo = TickSequence::new(frame.echo.map_or(0, |t| t.sequence));
        let incarnation = Incarnation::new(frame.incarnation);
        let peer = self.peers.entry(from).or_default();
        if (incarnation, tick) < (peer.incarnation, peer.tick) {
            self.counters.add(Count::StaleDropped, "manager", 1);
            return Ok(Vec::new());
        }
        if incarnation > peer.incarnation {
            peer.incarnation = incarnation;
            peer.echoed = None;
            peer.relayed_nodes.clear();
            peer.relayed_watchers.clear();
        }
        if tick > peer.tick || peer.arrived.is_none() {
            peer.arrived = Some(now);
        }
        peer.tick = tick;
        // A tick of this manager's earlier life is one that this life may not have sent yet: then it dates nothing.
        peer.echoed = self.ticks.sent(echo);
        let mut events: Vec<Event> =
            peer.echoed.map(|begun| Event::ManagerHeard { manager: from, begun }).into_iter().collect();
        heard_nodes(from, peer, frame.nodes, &mut events)?;
        heard_watchers(from, peer, frame.watchers, &mut events)?;
        for relayed in frame.node_reports {
            self.relayed_node_report(from, relayed, now, &mut events)?;
        }
        for relayed in frame.watcher_messages {
            self.relayed_watcher_message(from, relayed, statement_key, &mut events)?;
        }
        if let Some(peer) = self.peers.get(&from) {
            events.extend(super::links::heard(from, peer, frame.links)?);
        }
        Ok(events)
    }

    fn relayed_node_report(
        &mut self,
        from: ManagerId,
        relayed: proto::RelayedNodeReport,
        now: Moment,
        events: &mut Vec<Event>,
    ) -> Result<(), ConvertError> {
        let node = convert::node_id("evidence.node_reports.node", &relayed.node)?;
        let begun = self.peers.get(&from).and_then(|peer| peer.begun(relayed.age_micros));
        let (Some(hello), Some(report)) = (relayed.hello, relayed.report) else { return Ok(()) };
        let hello = NodeHello::try_from(hello)?;
        let report = NodeReport::try_from(report)?;
        let words = &mut self.nodes.entry(node.clone()).or_default().words;
        if words.greet(hello.clone()) == Freshness::Stale || words.take(&report, begun, now) != Freshness::New {
            return Ok(());
        }
        if let Some(begun) = begun {
            events.push(Event::NodeReported(detector_report(from, &node, &hello, &report, begun)));
        }
        Ok(())
    }

    fn relayed_watcher_message(
        &mut self,
        from: ManagerId,
        relayed: proto::RelayedWatcherMessage,
        statement_key: &dyn Fn(&NodeId) -> Option<Vec<u8>>,
        events: &mut Vec<Event>,
    ) -> Result<(), ConvertError> {
        let watcher = convert::watcher_id("evidence.watcher_messages.watcher", relayed.watcher)?;
        let Some(peer) = self.peers.get(&from) else { return Ok(()) };
        let begun: Vec<Option<Moment>> = relayed.ages_micros.iter().map(|age| peer.begun(*age)).collect();
        match relayed.message.and_then(|m| m.message) {
            Some(proto::from_watcher::Message::Answer(answer)) => {
                let context = AnswerContext { watcher, heard_by: from, statement_key };
                let life = Incarnation::new(relayed.incarnation);
                events.extend(self.relayed_answer(&context, life, WatcherAnswer::try_from(answer)?, &begun));
            }
            Some(proto::from_watcher::Message::Report(report)) => {
                let report = WatcherReport::try_from(report)?;
                let words = &mut self.watchers.entry(watcher).or_default().words;
                if words.is_stale_life(Incarnation::new(relayed.incarnation)) {
                    self.counters.add(Count::StaleDropped, "watcher", 1);
                    return Ok(());
                }
                let report = dated_by(report, &begun);
                if words.take(&report) {
                    events.extend(report_events(watcher, &report));
                }
            }
            // Every manager is told how long checks take by the watchers themselves.
            Some(proto::from_watcher::Message::Hello(_) | proto::from_watcher::Message::Durations(_)) | None => {}
        }
        Ok(())
    }
}

/// Dates a report that was handed on by the ages that travelled with it.
fn dated_by(report: WatcherReport, begun: &[Option<Moment>]) -> DatedReport {
    let mut begun = begun.iter().copied().chain(std::iter::repeat(None));
    let mut observations = Vec::with_capacity(report.observations.len());
    for seen in report.observations {
        if let Some(begun) = begun.next().flatten() {
            observations.push(Dated { seen, begun });
        }
    }
    let mut relays = Vec::with_capacity(report.relays.len());
    for seen in report.relays {
        if let Some(begun) = begun.next().flatten() {
            relays.push(Dated { seen, begun });
        }
    }
    let WatcherReport { assignment, full, health, .. } = report;
    DatedReport { assignment, full, observations, relays, others_begun: None, health }
}

/// Returns the change between two states of one stream, if it is news.
fn change(before: Option<StreamState>, after: StreamState) -> Option<StreamChange> {
    match (before, after) {
        (Some(before), after) if before == after => None,
        (_, StreamState::Open) => Some(StreamChange::Opened),
        (None, StreamState::Closed | StreamState::Reset) => None,
        (Some(_), StreamState::Closed) => Some(StreamChange::Closed),
        (Some(_), StreamState::Reset) => Some(StreamChange::Reset),
    }
}

/// Returns whether a word is newer than the last one of the same stream.
fn is_newer(last: Option<&HeardByPeer>, incarnation: Incarnation, sequence: Sequence) -> bool {
    last.is_none_or(|h| h.begun.is_none() || (incarnation, sequence) > (h.incarnation, h.sequence))
}

fn heard_nodes(
    from: ManagerId,
    peer: &mut Peer,
    list: Vec<proto::HeardNode>,
    events: &mut Vec<Event>,
) -> Result<(), ConvertError> {
    let mut now_heard = BTreeMap::new();
    for heard in list {
        let node = convert::node_id("evidence.nodes.node", &heard.node)?;
        let (incarnation, sequence) = (Incarnation::new(heard.incarnation), Sequence::new(heard.sequence));
        let state = from_stream_state(heard.state);
        let last = peer.nodes.get(&node);
        if let Some(change) = change(last.map(|h| h.state), state) {
            events.push(Event::NodeStreamChanged { manager: from, node: node.clone(), change });
        }
        let mut begun = peer.begun(heard.age_micros);
        if is_newer(last, incarnation, sequence) {
            if let Some(begun) = begun {
                events.push(Event::NodeHeard { manager: from, node: node.clone(), begun });
            }
        } else {
            begun = begun.max(last.and_then(|h| h.begun));
        }
        now_heard.insert(node, HeardByPeer { incarnation, sequence, begun, state });
    }
    for (node, last) in &peer.nodes {
        if last.state == StreamState::Open && !now_heard.contains_key(node) {
            let change = StreamChange::Closed;
            events.push(Event::NodeStreamChanged { manager: from, node: node.clone(), change });
        }
    }
    peer.nodes = now_heard;
    Ok(())
}

fn heard_watchers(
    from: ManagerId,
    peer: &mut Peer,
    list: Vec<proto::HeardWatcher>,
    events: &mut Vec<Event>,
) -> Result<(), ConvertError> {
    let mut now_heard = BTreeMap::new();
    for heard in list {
        let watcher = convert::watcher_id("evidence.watchers.watcher", heard.watcher)?;
        let (incarnation, sequence) = (Incarnation::new(heard.incarnation), Sequence::new(heard.sequence));
        let state = from_stream_state(heard.state);
        let network = convert::network("evidence.watchers.network", heard.network)?;
        let key: (WatcherId, Network) = (watcher, network);
        let last = peer.watchers.get(&key);
        if let Some(change) = change(last.map(|h| h.state), state) {
            events.push(Event::WatcherStreamChanged { manager: from, watcher, network, change });
        }
        let mut begun = peer.begun(heard.age_micros);
        if is_newer(last, incarnation, sequence) {
            if let Some(begun) = begun {
                let (manager, health) = (from, None);
                events.push(Event::WatcherHeard { manager, watcher, network, incarnation, begun, health });
            }
        } else {
            begun = begun.max(last.and_then(|h| h.begun));
        }
        now_heard.insert(key, HeardByPeer { incarnation, sequence, begun, state });
    }
    for ((watcher, network), last) in &peer.watchers {
        if last.state == StreamState::Open && !now_heard.contains_key(&(*watcher, *network)) {
            let (watcher, network, change) = (*watcher, *network, StreamChange::Closed);
            events.push(Event::WatcherStreamChanged { manager: from, watcher, network, change });
        }
    }
    peer.watchers = now_heard;
    Ok(())
}
