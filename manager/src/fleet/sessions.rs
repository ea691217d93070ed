//! The open streams of one node or watcher to this manager: one per network, several at once.
//!
//! What is sent goes over the stream that answered last, since that path is known to work. Sending never waits: a
//! stream whose queue is full is closed, and its other side dials again.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vouch_types::{Incarnation, Moment, Network};
use vouch_wire::pki::{CertificateDer, ShownCertificate};

/// Names one stream among all that this manager's process ever had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SessionId(pub(crate) u64);

/// How a stream stands, as other managers are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamState {
    /// It is open.
    Open,
    /// It ended in good order.
    Closed,
    /// It was reset by the other side or the network.
    Reset,
}

impl StreamState {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Reset => "reset",
        }
    }
}

/// What became of a message that was to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// It was handed to a stream over this network.
    Over(Network),
    /// There is no open stream.
    NoStream,
}

/// Returns whether none of these CAs signed what was shown. Of a link without TLS nothing was.
pub(crate) fn is_untrusted(shown: Option<&ShownCertificate>, roots: &[CertificateDer<'static>]) -> bool {
    shown.is_some_and(|shown| shown.signed_by(roots).is_none())
}

/// One open stream.
#[derive(Debug)]
pub(crate) struct OpenSession<Out> {
    /// Which.
    pub(crate) id: SessionId,
    /// The life of the process on the other side.
    pub(crate) incarnation: Incarnation,
    /// Position of the last message over this stream.
    pub(crate) sequence: u64,
    /// When a message last came.
    pub(crate) arrived: Moment,
    /// When what it last said began.
    pub(crate) begun: Option<Moment>,
    /// Whether the other side was told to send everything, and has not yet.
    pub(crate) resyncing: bool,
    /// The certificate that opened it; none over a link without TLS.
    pub(crate) shown: Option<ShownCertificate>,
    outbound: mpsc::Sender<Out>,
    stop: CancellationToken,
}

/// The streams of one node or watcher.
#[derive(Debug)]
pub(crate) struct Sessions<Out> {
    open: BTreeMap<Network, OpenSession<Out>>,
    /// How the last stream of each network ended.
    ended: BTreeMap<Network, StreamState>,
}

impl<Out> Default for Sessions<Out> {
    fn default() -> Self {
        Self { open: BTreeMap::new(), ended: BTreeMap::new() }
    }
}

impl<Out: Clone> Sessions<Out> {
    /// Takes a new stream; an earlier one over the same network is closed.
    pub(crate) fn open(
        &mut self,
        id: SessionId,
        network: Network,
        incarnation: Incarnation,
        now: Moment,
        outbound: mpsc::Sender<Out>,
        shown: Option<ShownCertificate>,
    ) -> CancellationToken {
        let stop = CancellationToken::new();
        let session = OpenSession {
            id,
            incarnation,
            sequence: 0,
            arrived: now,
            begun: None,
            resyncing: false,
            shown,
            outbound,
            stop: stop.clone(),
        };
        if let Some(earlier) = self.open.insert(network, session) {
            earlier.stop.cancel();
        }
        self.ended.remove(&network);
        stop
    }

    /// Lets a stream go; returns whether it was still the one of its network.
    pub(crate) fn end(&mut self, id: SessionId, network: Network, how: StreamState) -> bool {
        if self.open.get(&network).is_none_or(|s| s.id != id) {
            return false;
        }
        if let Some(session) = self.open.remove(&network) {
            session.stop.cancel();
        }
        self.ended.insert(network, how);
        true
    }

    /// Returns the stream over a network.
    pub(crate) fn on(&self, network: Network) -> Option<&OpenSession<Out>> {
        self.open.get(&network)
    }

    /// Returns the stream with this id.
    pub(crate) fn session_mut(&mut self, id: SessionId, network: Network) -> Option<&mut OpenSession<Out>> {
        self.open.get_mut(&network).filter(|s| s.id == id)
    }

    /// Returns the open streams, by network.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Network, &OpenSession<Out>)> {
        self.open.iter().map(|(network, session)| (*network, session))
    }

    /// Returns whether any stream is open.
    pub(crate) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Returns how things stand over one network; `None` when there never was a stream.
    pub(crate) fn state_on(&self, network: Network) -> Option<StreamState> {
        if self.open.contains_key(&network) { Some(StreamState::Open) } else { self.ended.get(&network).copied() }
    }

    /// Returns how things stand over all networks together; `None` when there never was a stream.
    pub(crate) fn state(&self) -> Option<StreamState> {
        if self.any_open() {
            return Some(StreamState::Open);
        }
        self.ended.values().copied().reduce(|a, b| if a == StreamState::Reset { a } else { b })
    }

    /// Returns when a message last came over any stream that is open.
    pub(crate) fn last_arrival(&self) -> Option<Moment> {
        self.open.values().map(|s| s.arrived).max()
    }

    /// Sends over the stream that answered last; one whose queue is full or gone is told to stop, and the next is tried.
    ///
    /// Returns what became of it, and how many streams overflowed.
    pub(crate) fn send(&self, message: &Out) -> (Sent, u64) {
        let mut order: Vec<_> = self.open.iter().collect();
        order.sort_by_key(|(network, session)| (std::cmp::Reverse(session.arrived), **network));
        let mut overflowed = 0;
        for (network, session) in order {
            match session.outbound.try_send(message.clone()) {
                Ok(()) => return (Sent::Over(*network), overflowed),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    overflowed += 1;
                    session.stop.cancel();
                }
                Err(mpsc::error::TrySendError::Closed(_)) => session.stop.cancel(),
            }
        }
        (Sent::NoStream, overflowed)
    }

    /// Sends over every stream; returns how many overflowed, which are told to stop.
    pub(crate) fn send_all(&self, message: &Out) -> u64 {
        let mut overflowed = 0;
        for session in self.open.values() {
            match session.outbound.try_send(message.clone()) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    overflowed += 1;
                    session.stop.cancel();
                }
                Err(mpsc::error::TrySendError::Closed(_)) => session.stop.cancel(),
            }
        }
        overflowed
    }

    /// Sends over one stream, if it is still there.
    pub(crate) fn send_on(&self, id: SessionId, network: Network, message: Out) {
        if let Some(session) = self.open.get(&network).filter(|s| s.id == id)
            && session.outbound.try_send(message).is_err()
        {
            session.stop.cancel();
        }
    }

    /// Tells streams to stop that were opened with a certificate of none of these CAs; returns how many.
    pub(crate) fn stop_untrusted(&self, roots: &[CertificateDer<'static>]) -> u64 {
        let untrusted = self.open.values().filter(|s| is_untrusted(s.shown.as_ref(), roots) && !s.stop.is_cancelled());
        untrusted.map(|s| s.stop.cancel()).count() as u64
    }

    /// Tells all streams to stop.
    pub(crate) fn stop_all(&self) {
        self.open.values().for_each(|session| session.stop.cancel());
    }

    /// Tells streams to stop over which nothing has come since `floor`; returns how many.
    pub(crate) fn stop_silent(&self, floor: Moment) -> u64 {
        let silent = self.open.values().filter(|s| s.arrived < floor && !s.stop.is_cancelled());
        silent.map(|s| s.stop.cancel()).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{NodeId, WallTime};
    use vouch_wire::pki::{CertificateAuthority, PeerIdentity, VALIDITY_MIN};

    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    #[test]
    fn what_is_sent_goes_over_the_stream_that_answered_last() {
        let (a, mut from_a) = mpsc::channel(1);
        let (b, mut from_b) = mpsc::channel(1);
        let mut sessions = Sessions::default();
        sessions.open(SessionId(1), Network::Management, Incarnation::new(1), at(10), a, None);
        sessions.open(SessionId(2), Network::Service, Incarnation::new(1), at(5), b, None);
        assert_eq!(sessions.send(&"x"), (Sent::Over(Network::Management), 0));
        assert_eq!(from_a.try_recv(), Ok("x"));
        sessions.session_mut(SessionId(2), Network::Service).unwrap().arrived = at(11);
        assert_eq!(sessions.send(&"y"), (Sent::Over(Network::Service), 0));
        assert_eq!(from_b.try_recv(), Ok("y"));
    }

    #[test]
    fn a_stream_whose_queue_is_full_is_closed_and_the_other_one_is_used() {
        let (a, _kept) = mpsc::channel(1);
        let (b, _also) = mpsc::channel(4);
        let mut sessions = Sessions::default();
        let stop = sessions.open(SessionId(1), Network::Management, Incarnation::new(1), at(10), a, None);
        sessions.open(SessionId(2), Network::Service, Incarnation::new(1), at(5), b, None);
        assert_eq!(sessions.send(&1), (Sent::Over(Network::Management), 0));
        assert_eq!(sessions.send(&2), (Sent::Over(Network::Service), 1));
        assert!(stop.is_cancelled());
    }

    #[test]
    fn a_new_stream_over_the_same_network_replaces_the_old_one_whose_end_is_no_news() {
        let (a, _a) = mpsc::channel::<u8>(1);
        let (b, _b) = mpsc::channel(1);
        let mut sessions = Sessions::default();
        let stop = sessions.open(SessionId(1), Network::Management, Incarnation::new(1), at(1), a, None);
        sessions.open(SessionId(2), Network::Management, Incarnation::new(1), at(2), b, None);
        assert!(stop.is_cancelled());
        assert!(!sessions.end(SessionId(1), Network::Management, StreamState::Reset));
        assert_eq!(sessions.state(), Some(StreamState::Open));
        assert!(sessions.end(SessionId(2), Network::Management, StreamState::Reset));
        assert_eq!(sessions.state(), Some(StreamState::Reset));
    }

    #[test]
    fn streams_of_a_ca_that_is_trusted_no_more_are_closed_and_no_others() {
        let now = WallTime::from_unix_millis(1_795_383_407_000);
        let owner = PeerIdentity::Node(NodeId::new("n1").unwrap());
        let ca = || CertificateAuthority::generate("test", now).unwrap();
        let identity = |ca: &CertificateAuthority| ca.issue(&owner, now, VALIDITY_MIN).unwrap().identity().unwrap();
        let (old, new) = (identity(&ca()), identity(&ca()));
        let ((a, _a), (b, _b)) = (mpsc::channel::<u8>(1), mpsc::channel(1));
        let mut sessions = Sessions::default();
        let mut open = |id, network, shown, outbound| {
            sessions.open(SessionId(id), network, Incarnation::new(1), at(1), outbound, shown)
        };
        let of_old = open(1, Network::Management, Some(old.shown()), a);
        let of_new = open(2, Network::Service, Some(new.shown()), b);
        let both: Vec<_> = old.roots().iter().chain(new.roots()).cloned().collect();
        assert_eq!(sessions.stop_untrusted(&both), 0, "while both are trusted");
        assert_eq!(sessions.stop_untrusted(new.roots()), 1);
        assert!(of_old.is_cancelled() && !of_new.is_cancelled());
        assert_eq!(sessions.stop_untrusted(new.roots()), 0, "it was told once");
        let (c, _c) = mpsc::channel(1);
        let bare = sessions.open(SessionId(3), Network::Management, Incarnation::new(1), at(2), c, None);
        assert_eq!(sessions.stop_untrusted(new.roots()), 0);
        assert!(!bare.is_cancelled(), "a link without TLS has no certificate");
    }
}
