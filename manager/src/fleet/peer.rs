//! Another manager: what it hears, as its evidence frames say, and what it has been handed on.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_types::{Incarnation, Moment, Network, NodeId, Sequence, TickSequence, WatcherId};
use vouch_wire::convert::limits::FINDINGS_BYTES_MAX;
use vouch_wire::grpc::PEER_MESSAGE_MAX;
use vouch_wire::pki::ShownCertificate;
use vouch_wire::proto;

use super::sessions::{SessionId, StreamState};

/// How many answers may wait for the next frame to one manager; older ones leave.
pub(crate) const ANSWERS_MAX: usize = 256;

/// How many of them keep the findings that they have: those of all would not fit into one frame.
pub(crate) const ANSWERS_WITH_FINDINGS_MAX: usize = 16;
const _: () = assert!(ANSWERS_WITH_FINDINGS_MAX * FINDINGS_BYTES_MAX <= PEER_MESSAGE_MAX / 4);

/// How another manager hears a node, or a watcher over one network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeardByPeer {
    /// The life that it hears.
    pub(crate) incarnation: Incarnation,
    /// Position of the last word.
    pub(crate) sequence: Sequence,
    /// When that word began, at this manager's clock.
    pub(crate) begun: Option<Moment>,
    /// How its stream stands.
    pub(crate) state: StreamState,
}

/// An open evidence stream to another manager.
#[derive(Debug)]
pub(crate) struct PeerStream {
    pub(crate) id: SessionId,
    pub(crate) outbound: mpsc::Sender<proto::EvidenceFrame>,
    /// The certificate that opened it; none where this manager did, or over a link without TLS.
    pub(crate) shown: Option<ShownCertificate>,
    pub(crate) stop: CancellationToken,
}

/// Another manager.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// The life of its process.
    pub(crate) incarnation: Incarnation,
    /// Its last tick, and when that came here.
    pub(crate) tick: TickSequence,
    pub(crate) arrived: Option<Moment>,
    /// The last of our ticks that it echoed, as the moment it was sent.
    pub(crate) echoed: Option<Moment>,
    /// What it hears itself.
    pub(crate) nodes: BTreeMap<NodeId, HeardByPeer>,
    pub(crate) watchers: BTreeMap<(WatcherId, Network), HeardByPeer>,
    /// The stream that this manager opened, and the one that the other opened.
    pub(crate) dialled: Option<PeerStream>,
    pub(crate) accepted: Option<PeerStream>,
    /// What it was handed on last.
    pub(crate) relayed_nodes: BTreeMap<NodeId, (Incarnation, Sequence)>,
    pub(crate) relayed_watchers: BTreeMap<WatcherId, (Incarnation, u64)>,
    /// Answers for it that wait for the next frame.
    pub(crate) answers: Vec<proto::RelayedWatcherMessage>,
}

impl Peer {
    /// Returns the age of a moment as the frame tells it: counted back from the arrival of the echoed tick.
    ///
    /// The other manager subtracts it from the moment at which it sent that tick, which lies before its arrival: so no
    /// word is taken for fresher than it is, and clocks are never compared.
    pub(crate) fn age(&self, begun: Moment) -> u64 {
        let age = self.arrived.map_or(Duration::MAX, |arrived| arrived.since(begun));
        u64::try_from(age.as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the moment of an age that its frame told; `None` before it has echoed a tick of ours.
    pub(crate) fn begun(&self, age_micros: u64) -> Option<Moment> {
        let echoed = self.echoed?;
        (age_micros != u64::MAX).then(|| echoed - Duration::from_micros(age_micros))
    }

    /// Returns whether it hears a node itself, lately.
    pub(crate) fn hears_node(&self, node: &NodeId, floor: Moment) -> bool {
        self.nodes.get(node).is_some_and(|h| h.state == StreamState::Open && h.begun.is_some_and(|b| b >= floor))
    }

    /// Returns whether it hears a watcher itself, lately, over any network.
    pub(crate) fn hears_watcher(&self, watcher: WatcherId, floor: Moment) -> bool {
        self.last_word_of(watcher).is_some_and(|b| b >= floor)
    }

    /// Returns when the last word began that it heard of a watcher over a stream that is open.
    pub(crate) fn last_word_of(&self, watcher: WatcherId) -> Option<Moment> {
        let heard = self.watchers.range((watcher, Network::Management)..=(watcher, Network::Service));
        heard.filter(|(_, h)| h.state == StreamState::Open).filter_map(|(_, h)| h.begun).max()
    }

    /// Keeps an answer for the next frame.
    pub(crate) fn queue_answer(&mut self, mut answer: proto::RelayedWatcherMessage) {
        let with_findings = self.answers.iter().filter(|answer| !findings(answer).is_empty());
        if with_findings.count() >= ANSWERS_WITH_FINDINGS_MAX
            && let Some(proto::from_watcher::Message::Answer(answer)) = message_mut(&mut answer)
        {
            answer.findings.clear();
        }
        if self.answers.len() == ANSWERS_MAX {
            self.answers.remove(0);
        }
        self.answers.push(answer);
    }

    /// Sends a frame over the stream that is there; one that is gone or full is let go.
    pub(crate) fn send(&mut self, frame: proto::EvidenceFrame) -> bool {
        for stream in [&mut self.dialled, &mut self.accepted] {
            if let Some(open) = stream {
                if open.outbound.try_send(frame.clone()).is_ok() {
                    return true;
                }
                *stream = None;
            }
        }
        false
    }
}

fn message_mut(relayed: &mut proto::RelayedWatcherMessage) -> Option<&mut proto::from_watcher::Message> {
    relayed.message.as_mut()?.message.as_mut()
}

fn findings(relayed: &proto::RelayedWatcherMessage) -> &[proto::Findings] {
    match relayed.message.as_ref().and_then(|said| said.message.as_ref()) {
        Some(proto::from_watcher::Message::Answer(answer)) => &answer.findings,
        Some(_) | None => &[],
    }
}

pub(crate) fn stream_state(state: StreamState) -> i32 {
    match state {
        StreamState::Open => proto::StreamState::Open,
        StreamState::Closed => proto::StreamState::Closed,
        StreamState::Reset => proto::StreamState::Reset,
    }
    .into()
}

/// Returns how a stream stands; one that this version cannot name is taken for closed.
pub(crate) fn from_stream_state(state: i32) -> StreamState {
    match proto::StreamState::try_from(state) {
        Ok(proto::StreamState::Open) => StreamState::Open,
        Ok(proto::StreamState::Reset) => StreamState::Reset,
        Ok(proto::StreamState::Closed | proto::StreamState::Unspecified) | Err(_) => StreamState::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_wait_for_a_manager_are_bounded_and_so_are_their_findings() {
        let answer = |nonce| {
            let findings = vec![proto::Findings::default()];
            let answer = proto::Answer { nonce, findings, ..proto::Answer::default() };
            let message = Some(proto::from_watcher::Message::Answer(answer));
            let message = Some(proto::FromWatcher { message });
            proto::RelayedWatcherMessage { message, ..proto::RelayedWatcherMessage::default() }
        };
        let mut peer = Peer::default();
        (0..=ANSWERS_MAX as u64).for_each(|nonce| peer.queue_answer(answer(nonce)));
        assert_eq!(peer.answers.len(), ANSWERS_MAX);
        let kept = peer.answers.iter().filter(|answer| !findings(answer).is_empty()).count();
        assert_eq!(kept, ANSWERS_WITH_FINDINGS_MAX - 1, "the oldest one left");
    }
}
