//! One task per stream of a node or watcher: greets, converts, and hands what comes to the book and the detector.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_detector::Event;
use vouch_types::{Incarnation, Network, NodeId, WatcherId, WatcherLife, WatcherRecord};
use vouch_wire::convert::{self, ConvertError, NodeHello, NodeReport, WatcherAnswer, WatcherDurations, WatcherReport};
use vouch_wire::links::{Caller, LinkError, Session};
use vouch_wire::proto;

use super::answers::AnswerContext;
use super::asks::Asker;
use super::book::Taken;
use super::sessions::{SessionId, StreamState};
use super::{Fleet, HELLO_WITHIN};
use crate::admission::key_of;
use crate::counters::Count;
use crate::store::State;

/// One open stream while its task runs.
struct Open {
    id: SessionId,
    network: Network,
    stop: CancellationToken,
}

/// What a message over a stream was worth.
enum Verdict {
    /// It was taken; these are the events.
    Taken(Taken),
    /// It broke a rule.
    Malformed(ConvertError),
}

impl From<ConvertError> for Verdict {
    fn from(e: ConvertError) -> Self {
        Self::Malformed(e)
    }
}

/// Why no more messages come over a stream.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It ended.
    Stream(StreamState),
    /// The other side sent what cannot be read, a message over the size limit for one: that is no sign of a bad network.
    Malformed(String),
}

/// Returns the next message, or how the stream ended.
async fn next<In>(inbound: &mut mpsc::Receiver<Result<In, LinkError>>, stop: &CancellationToken) -> Result<In, Ended> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Ended::Stream(StreamState::Closed)),
        message = inbound.recv() => match message {
            Some(Ok(message)) => Ok(message),
            Some(Err(LinkError::Malformed(why))) => Err(Ended::Malformed(why)),
            Some(Err(_)) => Err(Ended::Stream(StreamState::Reset)),
            None => Err(Ended::Stream(StreamState::Closed)),
        }
    }
}

async fn first<In>(inbound: &mut mpsc::Receiver<Result<In, LinkError>>) -> Option<In> {
    tokio::time::timeout(HELLO_WITHIN, inbound.recv()).await.ok()??.ok()
}

/// Returns whether a watcher has any business to say this: of the VMs that it was given, and of the relays of its own
/// node and of those that own its VMs.
fn is_permitted(state: &State, event: &Event) -> bool {
    match event {
        Event::Observed(seen) => {
            state.watchers().get(&seen.watcher).is_some_and(|w| w.vms.binary_search(&seen.vm).is_ok())
        }
        Event::RelayObserved(seen) => {
            state.watchers().get(&seen.watcher).is_some_and(|w| w.node == seen.node || has_vms_on(state, w, &seen.node))
        }
        _ => true,
    }
}

/// Returns whether a watcher was given VMs of this node.
pub(super) fn has_vms_on(state: &State, watcher: &WatcherRecord, node: &NodeId) -> bool {
    watcher.vms.iter().any(|vm| state.vms().get(vm).is_some_and(|vm| vm.node == *node))
}

impl Fleet {
    /// Runs the stream of a node until it ends.
    pub(crate) fn accept_node(&self, node: Caller<NodeId>, session: Session<proto::FromNode, proto::ToNode>) {
        self.spawn(Self::run_node(self.clone(), node, session));
    }

    async fn run_node(self, caller: Caller<NodeId>, session: Session<proto::FromNode, proto::ToNode>) {
        let key = key_of(&caller);
        let Caller { id: node, shown } = caller;
        let Session { outbound, mut inbound } = session;
        let Some(proto::FromNode { message: Some(proto::from_node::Message::Hello(hello)) }) =
            first(&mut inbound).await
        else {
            tracing::warn!(node_id = %node, "node stream closed: it did not begin with hello");
            return;
        };
        let hello = match NodeHello::try_from(hello) {
            Ok(hello) => hello,
            Err(error) => {
                self.parts().counters.add(Count::Malformed, "node", 1);
                tracing::warn!(node_id = %node, %error, "node stream closed: malformed hello");
                return;
            }
        };
        let Ok(mut welcome) = tokio::time::timeout(HELLO_WITHIN, self.welcome()).await else { return };
        let (session, heartbeats) = self.agree(&node, hello.network, hello.incarnation).unzip();
        welcome.heartbeats = heartbeats;
        let message = |m| proto::ToNode { message: Some(m) };
        if outbound.send(message(proto::to_node::Message::Welcome(welcome))).await.is_err() {
            return;
        }
        let network = hello.network;
        let now = self.parts().clock.now();
        let opened = {
            let mut book = self.book();
            let tick = proto::Tick { sequence: book.ticks.last().get() };
            // A tick at once: the first report then says how fresh it is.
            let _ = outbound.try_send(message(proto::to_node::Message::Tick(tick)));
            book.open_node(&node, hello, now, outbound, shown)
        };
        // It was let in, and may have been removed since; what is removed later closes this stream.
        let removed = self.parts().consensus.read_state(|state| state.refusal_of(&node, key.as_ref()).is_some());
        if removed {
            tracing::warn!(node_id = %node, %network, "node stream closed: the node was removed meanwhile");
            self.forget_nodes(&[node].into());
            return;
        }
        let open = match opened {
            Ok((id, stop, events)) => {
                self.tell(events).await;
                Open { id, network, stop }
            }
            Err(refusal) => {
                tracing::warn!(node_id = %node, reason = refusal.as_str(), "node stream refused");
                return;
            }
        };
        tracing::info!(node_id = %node, %network, from = "closed", to = "open", reason = "hello", "node stream");
        self.note_change();
        let how = loop {
            let message = match next(&mut inbound, &open.stop).await {
                Ok(message) => message,
                Err(Ended::Stream(how)) => break how,
                Err(Ended::Malformed(why)) => {
                    self.parts().counters.add(Count::Malformed, "node", 1);
                    tracing::warn!(node_id = %node, %why, "node stream closed: a message that nobody can read");
                    break StreamState::Closed;
                }
            };
            self.parts().counters.add(Count::MessagesReceived, "node", 1);
            match self.node_message(&node, &open, message) {
                Verdict::Taken(Ok(events)) => self.tell(events).await,
                Verdict::Taken(Err(refusal)) => {
                    tracing::info!(node_id = %node, %network, reason = refusal.as_str(), "node stream closed");
                    break StreamState::Closed;
                }
                Verdict::Malformed(error) => {
                    self.parts().counters.add(Count::Malformed, "node", 1);
                    tracing::warn!(node_id = %node, %error, "malformed message of a node");
                }
            }
        };
        let events = self.book().end_node(&node, open.id, network, how);
        if let Some(session) = session {
            self.heartbeats().stream_ended(session, self.parts().clock.now());
        }
        tracing::info!(node_id = %node, %network, from = "open", to = how.as_str(), reason = "stream ended", "node stream");
        self.tell(events).await;
        self.note_change();
    }

    fn node_message(&self, node: &NodeId, open: &Open, message: proto::FromNode) -> Verdict {
        match message.message {
            Some(proto::from_node::Message::Report(report)) => {
                let report = match NodeReport::try_from(report) {
                    Ok(report) => report,
                    Err(error) => return error.into(),
                };
                let now = self.parts().clock.now();
                let mut book = self.book();
                let before = book.nodes.get(node).map(|n| n.words.watchers.clone());
                let taken = book.node_report(node, open.id, open.network, &report, now);
                let after = book.nodes.get(node).map(|n| n.words.watchers.clone());
                drop(book);
                if report.full || before != after {
                    self.note_change();
                }
                Verdict::Taken(taken)
            }
            Some(proto::from_node::Message::OrderResult(result)) => {
                self.note_order_result(node, &result);
                Verdict::Taken(Ok(Vec::new()))
            }
            // A second hello says nothing that a new stream would not say.
            Some(proto::from_node::Message::Hello(_)) | None => Verdict::Taken(Ok(Vec::new())),
        }
    }

    /// Runs the stream of a watcher until it ends.
    pub(crate) fn accept_watcher(
        &self,
        watcher: Caller<WatcherId>,
        session: Session<proto::FromWatcher, proto::ToWatcher>,
    ) {
        self.spawn(Self::run_watcher(self.clone(), watcher, session));
    }

    /// Returns why a watcher's stream is not taken; `None` when it is.
    fn refuses(&self, watcher: WatcherId, incarnation: Incarnation) -> Option<&'static str> {
        self.parts().consensus.read_state(|state| match state.watchers().get(&watcher) {
            None => Some("the watcher is not recorded"),
            Some(record) if record.incarnation.is_some_and(|known| known != incarnation) => {
                Some("another incarnation has redeemed the secret")
            }
            Some(record) => match record.life {
                WatcherLife::Retired => Some("the watcher is retired"),
                WatcherLife::Placed | WatcherLife::Live | WatcherLife::Lost => None,
            },
        })
    }

    async fn run_watcher(self, caller: Caller<WatcherId>, session: Session<proto::FromWatcher, proto::ToWatcher>) {
        let Caller { id: watcher, shown } = caller;
        let Session { outbound, mut inbound } = session;
        let hello = match first(&mut inbound).await.and_then(|m| m.message) {
            Some(proto::from_watcher::Message::Hello(hello)) => hello,
            Some(_) | None => {
                tracing::warn!(watcher_id = %watcher, "watcher stream closed: it did not begin with hello");
                return;
            }
        };
        let network = match convert::network("hello.network", hello.network) {
            Ok(network) => network,
            Err(error) => {
                self.parts().counters.add(Count::Malformed, "watcher", 1);
                tracing::warn!(watcher_id = %watcher, %error, "watcher stream closed: malformed hello");
                return;
            }
        };
        let incarnation = Incarnation::new(hello.incarnation);
        let Ok(mut welcome) = tokio::time::timeout(HELLO_WITHIN, self.welcome()).await else { return };
        if let Some(reason) = self.refuses(watcher, incarnation) {
            tracing::warn!(watcher_id = %watcher, %network, reason, "watcher stream refused");
            return;
        }
        let node = |state: &State| state.watchers().get(&watcher).map(|w| w.node.as_str().to_owned());
        welcome.node = self.parts().consensus.read_state(node).unwrap_or_default();
        let message = |m| proto::ToWatcher { message: Some(m) };
        if outbound.send(message(proto::to_watcher::Message::Welcome(welcome))).await.is_err() {
            return;
        }
        let now = self.parts().clock.now();
        let opened = {
            let mut book = self.book();
            let tick = proto::Tick { sequence: book.ticks.last().get() };
            let _ = outbound.try_send(message(proto::to_watcher::Message::Tick(tick)));
            book.open_watcher(watcher, (incarnation, network), now, outbound, shown)
        };
        let open = match opened {
            Ok((id, stop, events)) => {
                self.tell(events).await;
                Open { id, network, stop }
            }
            Err(refusal) => {
                tracing::warn!(watcher_id = %watcher, reason = refusal.as_str(), "watcher stream refused");
                return;
            }
        };
        tracing::info!(watcher_id = %watcher, %network, from = "closed", to = "open", reason = "hello", "watcher stream");
        self.note_change();
        let how = loop {
            let message = match next(&mut inbound, &open.stop).await {
                Ok(message) => message,
                Err(Ended::Stream(how)) => break how,
                Err(Ended::Malformed(why)) => {
                    self.parts().counters.add(Count::Malformed, "watcher", 1);
                    tracing::warn!(watcher_id = %watcher, %why, "watcher stream closed: a message that nobody can read");
                    break StreamState::Closed;
                }
            };
            self.parts().counters.add(Count::MessagesReceived, "watcher", 1);
            match self.watcher_message(watcher, &open, message) {
                Verdict::Taken(Ok(events)) => self.tell(events).await,
                Verdict::Taken(Err(refusal)) => {
                    tracing::info!(watcher_id = %watcher, %network, reason = refusal.as_str(), "watcher stream closed");
                    break StreamState::Closed;
                }
                Verdict::Malformed(error) => {
                    self.parts().counters.add(Count::Malformed, "watcher", 1);
                    tracing::warn!(watcher_id = %watcher, %error, "malformed message of a watcher");
                }
            }
        };
        let events = self.book().end_watcher(watcher, open.id, network, how);
        tracing::info!(watcher_id = %watcher, %network, from = "open", to = how.as_str(), reason = "stream ended", "watcher stream");
        self.tell(events).await;
        self.note_change();
    }

    fn watcher_message(&self, watcher: WatcherId, open: &Open, message: proto::FromWatcher) -> Verdict {
        let now = self.parts().clock.now();
        match message.message {
            Some(proto::from_watcher::Message::Report(report)) => {
                let report = match WatcherReport::try_from(report) {
                    Ok(report) => report,
                    Err(error) => return error.into(),
                };
                let taken = self.book().watcher_report(watcher, open.id, open.network, report, now);
                Verdict::Taken(taken.map(|events| self.permitted(events)))
            }
            Some(proto::from_watcher::Message::Answer(message)) => {
                let answer = match WatcherAnswer::try_from(message.clone()) {
                    Ok(answer) => answer,
                    Err(error) => return error.into(),
                };
                let nonce = answer.nonce;
                let statement_key = |node: &NodeId| self.statement_key(node);
                let context = AnswerContext { watcher, heard_by: self.parts().own, statement_key: &statement_key };
                let mut book = self.book();
                let taken = book.watcher_answer(&context, open.id, open.network, &message, answer, now);
                let asker = book.asks.asker(watcher, nonce);
                drop(book);
                if let Asker::Other(manager) = asker {
                    self.flush(manager);
                }
                Verdict::Taken(taken.map(|events| self.permitted(events)))
            }
            Some(proto::from_watcher::Message::Durations(durations)) => {
                let durations = match WatcherDurations::try_from(durations) {
                    Ok(durations) => durations,
                    Err(error) => return error.into(),
                };
                let incarnation = self.book().watcher_life(watcher, open.id, open.network);
                Verdict::Taken(incarnation.map(|incarnation| {
                    self.take_durations(watcher, incarnation, durations);
                    Vec::new()
                }))
            }
            Some(proto::from_watcher::Message::Hello(_)) | None => Verdict::Taken(Ok(Vec::new())),
        }
    }

    /// Drops what watchers say of VMs that they were not given, and of relays that they have no grant for.
    pub(super) fn permitted(&self, mut events: Vec<Event>) -> Vec<Event> {
        let before = events.len();
        self.parts().consensus.read_state(|state| {
            events.retain(|event| is_permitted(state, event));
        });
        self.parts().counters.add(Count::StaleDropped, "observation", (before - events.len()) as u64);
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::samples;
    use vouch_types::{Command, LogIndex, Moment, RelayObservation, RelayOutcome};

    #[tokio::test]
    async fn a_message_that_nobody_can_read_is_told_from_a_bad_network() {
        let (stop, (send, mut receive)) = (CancellationToken::new(), mpsc::channel::<Result<u8, _>>(2));
        send.send(Err(LinkError::Malformed("10485760 bytes are more than 4194304".to_owned()))).await.unwrap();
        send.send(Err(LinkError::Reset("by peer".to_owned()))).await.unwrap();
        assert!(matches!(next(&mut receive, &stop).await, Err(Ended::Malformed(why)) if why.contains("10485760")));
        assert_eq!(next(&mut receive, &stop).await, Err(Ended::Stream(StreamState::Reset)));
    }

    #[test]
    fn a_watcher_speaks_of_the_relay_beside_it_and_of_those_of_its_vms_alone() {
        let watcher = WatcherId::new(1);
        let mut state = State::default();
        let commands = [
            samples::init(),
            samples::record_node("n1"),
            samples::record_node("n2"),
            samples::record_node("n3"),
            samples::record_vms("n2", &[3]),
            samples::place("n1", 7),
            Command::AssignWatchers { assignments: vec![(watcher, vec![samples::vm_id(3)])] },
        ];
        for (index, command) in (1..).zip(commands) {
            state.apply(LogIndex::new(index), command);
        }
        let says = |watcher, node: &str| {
            let (node, outcome, begun) = (samples::node_id(node), RelayOutcome::Reached, Moment::from_micros(1));
            is_permitted(
                &state,
                &Event::RelayObserved(RelayObservation {
                    hears: Vec::new(),
                    watcher,
                    node,
                    outcome,
                    begun,
                    asked: None,
                }),
            )
        };
        assert!(says(watcher, "n1"), "its own node");
        assert!(says(watcher, "n2"), "the owner of its vm");
        assert!(!says(watcher, "n3"), "neither");
        assert!(!says(WatcherId::new(2), "n1"), "a watcher that is not recorded");
    }
}
