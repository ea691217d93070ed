//! What the rest of the manager reads from the book: who is heard, and what was last said.

use std::collections::{BTreeMap, BTreeSet};

use vouch_detector::{Event, StreamChange};
use vouch_types::{HypervisorState, ManagerId, Moment, Network, NodeId, VmId, WatcherId, WatcherLegs};
use vouch_wire::pki::CertificateDer;

use super::Fleet;
use super::book::report_events;
use super::node_words::{NodeWords, detector_report};
use super::sessions::StreamState;
use super::watcher_words::DatedReport;
use crate::api::view::{HeardView, HearingView};
use crate::detect::{Messages, RelayWord};

/// One row of who hears whom.
struct Heard {
    by: ManagerId,
    peer: String,
    state: StreamState,
    networks: Vec<Network>,
    begun: Option<Moment>,
}

impl Heard {
    fn view(self, now: Moment) -> HeardView {
        let age = |begun| u64::try_from(now.since(begun).as_millis()).unwrap_or(u64::MAX);
        HeardView {
            manager: self.by.to_string(),
            peer: self.peer,
            stream: self.state.as_str().to_owned(),
            networks: self.networks.iter().map(ToString::to_string).collect(),
            age_ms: self.begun.map(age),
        }
    }
}

impl Fleet {
    /// Returns what every node last said, by name.
    pub(crate) fn node_words(&self) -> Vec<(NodeId, NodeWords)> {
        self.book().nodes.iter().map(|(node, entry)| (node.clone(), entry.words.clone())).collect()
    }

    /// Returns the watcher VMs that a node last reported, and when that came; `None` before its first report.
    pub(crate) fn reported_watchers(&self, node: &NodeId) -> Option<(Moment, Vec<(WatcherId, HypervisorState)>)> {
        let book = self.book();
        let words = &book.nodes.get(node)?.words;
        Some((words.arrived?, words.watchers.iter().map(|(w, s)| (*w, *s)).collect()))
    }

    /// Returns where watchers are reached that have legs of their own, as each node last said of those on it. A node may
    /// name any watcher: who looks one up names the node that it is recorded on.
    pub(crate) fn watcher_legs(&self) -> BTreeMap<(NodeId, WatcherId), WatcherLegs> {
        let book = self.book();
        let told = book.nodes.iter().flat_map(|(node, entry)| entry.words.legs.iter().map(move |told| (node, told)));
        told.map(|(node, (watcher, legs))| ((node.clone(), *watcher), legs.clone())).collect()
    }

    /// Returns the assignment that a watcher last said it works by.
    pub(crate) fn working_assignment(&self, watcher: WatcherId) -> vouch_types::AssignmentGeneration {
        self.book().watchers.get(&watcher).map(|e| e.words.assignment).unwrap_or_default()
    }

    /// Closes the streams of watchers that are to have none, and forgets what they said.
    pub(crate) fn forget_watchers(&self, keep: impl Fn(WatcherId) -> bool) {
        self.forget_durations(&keep);
        let mut book = self.book();
        book.watchers.retain(|watcher, entry| {
            let kept = keep(*watcher);
            if !kept {
                entry.sessions.stop_all();
            }
            kept
        });
    }

    /// Closes streams in order that were opened with a certificate of none of these CAs. Their other sides dial anew,
    /// and are let in with what they have by now, or not at all.
    pub(crate) fn close_untrusted(&self, roots: &[CertificateDer<'static>]) {
        let closed = self.book().close_untrusted(roots);
        if closed > 0 {
            tracing::info!(closed, "streams closed: the CA of their certificates is trusted no more");
        }
    }

    /// Closes the streams of nodes that were removed, and forgets what they said and how they are reached.
    pub(crate) fn forget_nodes(&self, nodes: &BTreeSet<NodeId>) {
        if nodes.is_empty() {
            return;
        }
        self.book().forget_nodes(nodes);
        self.heartbeats().forget(nodes);
        self.note_change();
    }

    /// Returns how many other managers have been heard since `floor`.
    pub(crate) fn managers_heard(&self, floor: Moment) -> BTreeSet<ManagerId> {
        let book = self.book();
        let heard = book.peers.iter().filter(|(_, peer)| peer.arrived.is_some_and(|at| at >= floor));
        heard.map(|(id, _)| *id).collect()
    }

    /// Returns, as events, all that these nodes and watchers said: for a detector that did not know them when they
    /// said it.
    pub(crate) fn retold(&self, nodes: &[NodeId], watchers: &[WatcherId]) -> Vec<Event> {
        let mut events: Vec<Event> = nodes.iter().flat_map(|node| self.heartbeats().measured(node)).collect();
        let book = self.book();
        let own = self.parts().own;
        for node in nodes {
            for (manager, peer) in &book.peers {
                if let Some(heard) = peer.nodes.get(node) {
                    if heard.state == StreamState::Open {
                        let (manager, change) = (*manager, StreamChange::Opened);
                        events.push(Event::NodeStreamChanged { manager, node: node.clone(), change });
                    }
                    if let Some(begun) = heard.begun {
                        events.push(Event::NodeHeard { manager: *manager, node: node.clone(), begun });
                    }
                }
            }
            let Some(entry) = book.nodes.get(node) else { continue };
            if entry.sessions.any_open() {
                let change = StreamChange::Opened;
                events.push(Event::NodeStreamChanged { manager: own, node: node.clone(), change });
            }
            if let Some(begun) = entry.sessions.iter().filter_map(|(_, s)| s.begun).max() {
                events.push(Event::NodeHeard { manager: own, node: node.clone(), begun });
            }
            if let (Some(hello), Some(report), Some(begun)) =
                (&entry.words.hello, entry.words.merged(), entry.words.begun)
            {
                events.push(Event::NodeReported(detector_report(own, node, hello, &report, begun)));
            }
        }
        for watcher in watchers {
            let Some(entry) = book.watchers.get(watcher) else { continue };
            let words = &entry.words;
            for (network, session) in entry.sessions.iter() {
                if let Some(begun) = session.begun {
                    let (watcher, incarnation, health) = (*watcher, session.incarnation, words.health.clone());
                    events.push(Event::WatcherHeard { manager: own, watcher, network, incarnation, begun, health });
                }
            }
            let report = DatedReport {
                assignment: words.assignment,
                full: true,
                observations: words.observations.values().cloned().collect(),
                relays: words.relays.values().cloned().collect(),
                others_begun: None,
                health: None,
            };
            events.extend(report_events(*watcher, &report));
        }
        drop(book);
        self.permitted(events)
    }

    /// Returns who is heard by whom, for people.
    pub(crate) fn hearing(&self) -> HearingView {
        let now = self.parts().clock.now();
        let own = self.parts().own;
        let book = self.book();
        let mut nodes = Vec::new();
        let mut watchers = Vec::new();
        for (node, entry) in &book.nodes {
            let Some(state) = entry.sessions.state() else { continue };
            let networks = entry.sessions.iter().map(|(n, _)| n).collect();
            let begun = entry.sessions.iter().filter_map(|(_, s)| s.begun).max();
            nodes.push(Heard { by: own, peer: node.to_string(), state, networks, begun }.view(now));
        }
        for (watcher, entry) in &book.watchers {
            let Some(state) = entry.sessions.state() else { continue };
            let networks = entry.sessions.iter().map(|(n, _)| n).collect();
            let begun = entry.sessions.iter().filter_map(|(_, s)| s.begun).max();
            watchers.push(Heard { by: own, peer: watcher.to_string(), state, networks, begun }.view(now));
        }
        for (manager, peer) in &book.peers {
            for (node, heard) in &peer.nodes {
                let (state, begun) = (heard.state, heard.begun);
                nodes
                    .push(Heard { by: *manager, peer: node.to_string(), state, networks: Vec::new(), begun }.view(now));
            }
            let mut by_watcher: Vec<Heard> = Vec::new();
            for ((watcher, network), heard) in &peer.watchers {
                let name = watcher.to_string();
                if by_watcher.last().is_none_or(|row| row.peer != name) {
                    let (state, begun) = (heard.state, None);
                    by_watcher.push(Heard { by: *manager, peer: name, state, networks: Vec::new(), begun });
                }
                if let Some(row) = by_watcher.last_mut() {
                    if heard.state == StreamState::Open {
                        row.state = StreamState::Open;
                        row.networks.push(*network);
                    }
                    row.begun = row.begun.max(heard.begun);
                }
            }
            watchers.extend(by_watcher.into_iter().map(|row| row.view(now)));
        }
        HearingView { manager: own.to_string(), nodes, watchers }
    }
}

impl Fleet {
    /// Returns what probes last said of a VM, for people.
    pub(crate) fn messages(&self, vm: VmId) -> Messages {
        let book = self.book();
        let of = |(id, entry): (&WatcherId, &super::book::WatcherEntry)| {
            let own = entry.words.observations.iter().filter(|((about, ..), _)| *about == vm);
            own.map(|((_, network, probe), said)| ((*id, *network, probe.clone()), said.seen.message.clone()))
                .collect::<Vec<_>>()
        };
        book.watchers.iter().flat_map(of).collect()
    }

    /// Returns what watchers last said of relays.
    pub(crate) fn relay_words(&self, now: Moment) -> Vec<RelayWord> {
        let book = self.book();
        let mut words = Vec::new();
        for (watcher, entry) in &book.watchers {
            words.extend(entry.words.relays.values().map(|r| RelayWord {
                watcher: *watcher,
                node: r.seen.node.clone(),
                outcome: r.seen.outcome,
                begun: r.begun,
                now,
                health: entry.words.health.clone(),
            }));
        }
        words
    }
}
