//! One side of the heartbeats between a manager and a node over one network: what to send, what was heard, and how
//! much is lost each way.

use std::collections::VecDeque;
use std::time::Duration;

use vouch_types::{Incarnation, Moment};

use super::datagram::{Agreement, HEARTBEAT_LEN, Heartbeat, HeartbeatError, HeartbeatSession, Role};
use super::{Arrival, Arrivals, LossCount};

/// How many of its own heartbeats a side remembers the sending of: an echo of an older one dates nothing.
pub const SENT_KEPT: usize = 64;

/// What heartbeats say of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Measure {
    /// When the newest heartbeat of the other side came.
    pub heard: Option<Moment>,
    /// How old the node's last read of its hypervisor was when that one was sent.
    pub read_age: Option<Duration>,
    /// When the newest heartbeat of this side was sent that the other side says it has.
    pub echoed: Option<Moment>,
    /// Per mille of the other side's heartbeats that were lost lately.
    pub loss_in_per_mille: u16,
    /// Per mille of this side's heartbeats that were lost lately, as the other side counted.
    pub loss_out_per_mille: u16,
}

/// One side of the heartbeats with one other side over one network.
///
/// It outlives the stream that its key was agreed on: a later stream brings a new key, and sequences go on.
#[derive(Debug)]
pub struct Exchange {
    role: Role,
    own: Incarnation,
    other: Incarnation,
    agreement: Agreement,
    sequence: u64,
    /// When the newest ones were sent, the last at the back.
    sent: VecDeque<Moment>,
    arrivals: Arrivals,
    out: LossCount,
    heard: Option<Moment>,
    read_age: Option<Duration>,
    echoed: Option<Moment>,
}

impl Exchange {
    /// Returns the side of `role` in its life `own`, with the other side in its life `other`.
    pub fn new(role: Role, own: Incarnation, other: Incarnation, agreement: Agreement) -> Self {
        Self {
            role,
            own,
            other,
            agreement,
            sequence: 0,
            sent: VecDeque::with_capacity(SENT_KEPT),
            arrivals: Arrivals::default(),
            out: LossCount::default(),
            heard: None,
            read_age: None,
            echoed: None,
        }
    }

    /// Goes on under the key of a new stream. A new life of the other side counts its heartbeats anew.
    pub fn agree(&mut self, other: Incarnation, agreement: Agreement) {
        if other != self.other {
            (self.arrivals, self.out) = (Arrivals::default(), LossCount::default());
            self.other = other;
        }
        self.agreement = agreement;
    }

    /// Returns the session whose key is in force.
    pub fn session(&self) -> HeartbeatSession {
        self.agreement.session
    }

    /// Returns the life of the other side.
    pub fn other(&self) -> Incarnation {
        self.other
    }

    /// Returns the next heartbeat, which is sent now.
    pub fn next(&mut self, now: Moment, read_age: Option<Duration>) -> [u8; HEARTBEAT_LEN] {
        self.sequence += 1;
        if self.sent.len() == SENT_KEPT {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
        self.agreement.key.seal(&Heartbeat {
            role: self.role,
            session: self.agreement.session,
            incarnation: self.own,
            sequence: self.sequence,
            heard: self.arrivals.highest(),
            count: self.arrivals.count(),
            read_age: read_age.filter(|_| self.role == Role::Node),
        })
    }

    /// Takes a datagram that came now.
    ///
    /// # Errors
    /// [`HeartbeatError`] says why it is dropped; nothing has changed then.
    pub fn take(&mut self, now: Moment, datagram: &[u8]) -> Result<Arrival, HeartbeatError> {
        let session = super::session_of(datagram)?;
        if session != self.agreement.session {
            return Err(HeartbeatError::UnknownSession(session));
        }
        let heartbeat = self.agreement.key.open(datagram)?;
        let refuse = |field, value, rule| Err(HeartbeatError::Field { field, value, rule });
        if heartbeat.role != self.role.other() {
            // One of this side's own, sent back.
            return refuse("role", 0, "must be the other side's");
        }
        if heartbeat.incarnation != self.other {
            return Err(HeartbeatError::OtherLife { found: heartbeat.incarnation, wanted: self.other });
        }
        if heartbeat.heard > self.sequence {
            return refuse("heard", heartbeat.heard, "must have been sent");
        }
        let arrival = self.arrivals.note(heartbeat.sequence)?;
        if arrival == Arrival::Newest {
            self.heard = Some(now);
            self.read_age = heartbeat.read_age;
            self.out = heartbeat.count;
            self.echoed = self.echoed.max(self.sent_at(heartbeat.heard));
        }
        Ok(arrival)
    }

    fn sent_at(&self, sequence: u64) -> Option<Moment> {
        let back = usize::try_from(self.sequence.checked_sub(sequence)?).ok()?;
        let at = self.sent.len().checked_sub(1)?.checked_sub(back)?;
        if sequence == 0 { None } else { self.sent.get(at).copied() }
    }

    /// Returns what is known of the path.
    pub fn measure(&self) -> Measure {
        Measure {
            heard: self.heard,
            read_age: self.read_age,
            echoed: self.echoed,
            loss_in_per_mille: self.arrivals.count().per_mille(),
            loss_out_per_mille: self.out.per_mille(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::heartbeat::{HeartbeatKey, KEY_LEN};

    const MANAGER: Incarnation = Incarnation::new(2);
    const NODE: Incarnation = Incarnation::new(5);

    fn agreement(n: u8) -> Agreement {
        Agreement { session: HeartbeatSession::new(n.into()), key: HeartbeatKey::new(&[n; KEY_LEN]) }
    }

    fn pair() -> (Exchange, Exchange) {
        let manager = Exchange::new(Role::Manager, MANAGER, NODE, agreement(1));
        (manager, Exchange::new(Role::Node, NODE, MANAGER, agreement(1)))
    }

    fn at(ms: u64) -> Moment {
        Moment::from_micros(ms * 1000)
    }

    #[test]
    fn what_the_other_side_echoes_is_when_the_newest_it_has_was_sent() {
        let (mut manager, mut node) = pair();
        assert_eq!(node.take(at(7), &manager.next(at(1), None)), Ok(Arrival::Newest));
        let lost = manager.next(at(2), None);
        let read_age = Some(Duration::from_millis(40));
        assert_eq!(manager.take(at(9), &node.next(at(8), read_age)), Ok(Arrival::Newest));
        let measure = manager.measure();
        assert_eq!((measure.heard, measure.echoed, measure.read_age), (Some(at(9)), Some(at(1)), read_age));
        assert_eq!(node.take(at(10), &lost), Ok(Arrival::Newest));
        assert_eq!(node.measure().echoed, None, "the manager had heard none when it sent this one");
    }

    #[test]
    fn a_one_way_loss_shows_as_an_echo_that_goes_stale_while_the_node_is_heard() {
        let (mut manager, mut node) = pair();
        let mut reached = None;
        for beat in 1..=40 {
            let to_node = manager.next(at(beat * 100), None);
            if beat <= 10 {
                assert!(node.take(at(beat * 100), &to_node).is_ok());
                reached = Some(at(beat * 100));
            }
            assert!(manager.take(at(beat * 100 + 1), &node.next(at(beat * 100), None)).is_ok());
        }
        let measure = manager.measure();
        assert_eq!((measure.heard, measure.echoed), (Some(at(4001)), reached));
        assert_eq!(measure.loss_in_per_mille, 0);
    }

    #[test]
    fn a_reflected_forged_replayed_or_foreign_heartbeat_changes_nothing() {
        let (mut manager, mut node) = pair();
        let good = node.next(at(1), None);
        assert!(manager.take(at(1), &good).is_ok());
        let before = manager.measure();
        let own = manager.next(at(2), None);
        assert_eq!(manager.take(at(3), &own).unwrap_err().reason(), "malformed");
        assert_eq!(manager.take(at(3), &good).unwrap_err().reason(), "replayed");
        let mut other_session = Exchange::new(Role::Node, NODE, MANAGER, agreement(2));
        assert_eq!(manager.take(at(3), &other_session.next(at(3), None)).unwrap_err().reason(), "unknown_session");
        let mut other_life = Exchange::new(Role::Node, NODE.next(), MANAGER, agreement(1));
        assert_eq!(manager.take(at(3), &other_life.next(at(3), None)).unwrap_err().reason(), "other_life");
        let mut forged = node.next(at(3), None);
        forged[30] ^= 1;
        assert_eq!(manager.take(at(3), &forged).unwrap_err().reason(), "forged");
        assert_eq!(manager.measure(), before);
    }

    #[test]
    fn a_late_heartbeat_does_not_make_the_path_look_fresher() {
        let (mut manager, mut node) = pair();
        let (first, second) = (node.next(at(1), None), node.next(at(2), None));
        assert_eq!(manager.take(at(3), &second), Ok(Arrival::Newest));
        assert_eq!(manager.take(at(900), &first), Ok(Arrival::Late));
        assert_eq!(manager.measure().heard, Some(at(3)));
    }

    #[test]
    fn loss_is_measured_on_across_a_new_stream_and_anew_in_a_new_life() {
        let (mut manager, mut node) = pair();
        for beat in 1..=32 {
            let sent = node.next(at(beat), None);
            if beat % 2 == 0 {
                assert!(manager.take(at(beat), &sent).is_ok());
            }
        }
        assert_eq!(manager.measure().loss_in_per_mille, 484, "15 of 31");
        manager.agree(NODE, agreement(3));
        node.agree(MANAGER, agreement(3));
        assert!(manager.take(at(40), &node.next(at(40), None)).is_ok());
        assert_eq!(manager.measure().loss_in_per_mille, 469, "15 of 32");
        manager.agree(NODE.next(), agreement(4));
        let mut restarted = Exchange::new(Role::Node, NODE.next(), MANAGER, agreement(4));
        assert!(manager.take(at(50), &restarted.next(at(50), None)).is_ok());
        assert_eq!((manager.measure().loss_in_per_mille, manager.measure().heard), (0, Some(at(50))));
    }

    #[test]
    fn an_echo_older_than_what_is_remembered_dates_nothing() {
        let (mut manager, mut node) = pair();
        assert!(node.take(at(1), &manager.next(at(1), None)).is_ok());
        for n in 0..SENT_KEPT as u64 {
            manager.next(at(2 + n), None);
        }
        assert!(manager.take(at(100), &node.next(at(100), None)).is_ok());
        assert_eq!(manager.measure().echoed, None);
    }

    proptest! {
        /// Whatever is lost either way, the two sides agree on it, and no echo is younger than the last that arrived.
        #[test]
        fn both_sides_measure_the_same_loss(ways in prop::collection::vec((0u8..10, 0u8..10), 100..300)) {
            let (mut manager, mut node) = pair();
            let mut reached = None;
            for (beat, (there, back)) in (1u64..).zip(ways) {
                let (to_node, now) = (manager.next(at(beat * 10), None), at(beat * 10));
                if there >= 3 && node.take(now, &to_node).is_ok() {
                    reached = Some(now);
                }
                let to_manager = node.next(now, None);
                if back >= 3 && manager.take(now, &to_manager).is_ok() {
                    prop_assert_eq!(manager.measure().echoed, reached);
                    prop_assert_eq!(manager.measure().loss_out_per_mille, node.measure().loss_in_per_mille);
                }
            }
        }
    }
}
