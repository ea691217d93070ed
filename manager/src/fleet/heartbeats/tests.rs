//! The book of heartbeats with nodes that the test plays.

use super::*;
use crate::seams::SeededRng;

const LIFE: Incarnation = Incarnation::new(4);
const OWN: Incarnation = Incarnation::new(2);

fn at(ms: u64) -> Moment {
    Moment::from_micros(ms * 1000)
}

fn n(number: usize) -> NodeId {
    NodeId::new(&format!("n{number}")).unwrap()
}

fn from() -> SocketAddr {
    "10.1.0.11:40000".parse().unwrap()
}

struct Desk {
    book: HeartbeatBook,
    rng: SeededRng,
}

fn desk() -> Desk {
    Desk { book: HeartbeatBook::new(ManagerId::new(1), OWN), rng: SeededRng::new(1) }
}

impl Desk {
    /// Opens a stream of a node, and returns the node's side of the heartbeats.
    fn node(&mut self, node: &NodeId) -> (HeartbeatSession, Exchange) {
        let agreed = self.book.agree(&self.rng, node, Network::Management, LIFE);
        let (session, message) = agreed.expect("its life is the newest");
        let agreement = Agreement::try_from(message).unwrap();
        (session, Exchange::new(Role::Node, LIFE, OWN, agreement))
    }

    fn take(&mut self, datagram: &[u8], now: Moment) -> Result<(), &'static str> {
        self.book.take(Network::Management, from(), datagram, now)
    }
}

fn measures(events: Vec<Event>) -> Vec<LinkMeasure> {
    let of = |event| match event {
        Event::LinkMeasured(measure) => measure,
        other => panic!("{other:?}"),
    };
    events.into_iter().map(of).collect()
}

#[test]
fn a_heartbeat_is_answered_to_where_it_came_from_and_told_once() {
    let mut desk = desk();
    let (_, mut node) = desk.node(&n(1));
    assert_eq!(desk.book.due(at(0)), [], "nobody knows where the node is yet");
    assert_eq!(desk.take(&node.next(at(1), Some(Duration::from_millis(30))), at(2)), Ok(()));
    let due = desk.book.due(at(3));
    assert_eq!((due.len(), due[0].to, due[0].network), (1, from(), Network::Management));
    assert_eq!(node.take(at(4), &due[0].datagram), Ok(Arrival::Newest));
    assert_eq!(desk.take(&node.next(at(5), None), at(6)), Ok(()));
    let told = measures(desk.book.news());
    assert_eq!((told[0].heard, told[0].echoed, told[0].read_age), (Some(at(6)), Some(at(3)), None));
    assert_eq!(desk.book.news(), [], "a path that is silent makes no events");
    assert_eq!(measures(desk.book.measured(&n(1))), told);
}

#[test]
fn a_datagram_of_an_unknown_session_network_or_key_is_dropped_with_its_reason() {
    let mut desk = desk();
    let (_, mut node) = desk.node(&n(1));
    let mut stranger = Exchange::new(
        Role::Node,
        LIFE,
        OWN,
        Agreement { session: HeartbeatSession::new(7), key: HeartbeatKey::new(&[7; KEY_LEN]) },
    );
    assert_eq!(desk.take(&stranger.next(at(1), None), at(1)), Err("unknown_session"));
    assert_eq!(desk.take(b"hello", at(1)), Err("malformed"));
    let good = node.next(at(1), None);
    assert_eq!(desk.book.take(Network::Service, from(), &good, at(1)), Err("other_network"));
    let mut bad = good;
    bad[60] ^= 1;
    assert_eq!(desk.take(&bad, at(1)), Err("forged"));
    assert_eq!(desk.take(&good, at(1)), Ok(()));
    assert_eq!(desk.take(&good, at(2)), Err("replayed"));
}

#[test]
fn a_key_outlives_its_stream_for_a_while_and_a_later_stream_replaces_it() {
    let mut desk = desk();
    let (first, mut node) = desk.node(&n(1));
    desk.book.stream_ended(first, at(0));
    desk.book.due(at(0) + KEY_KEPT - Duration::from_millis(1));
    assert_eq!(desk.take(&node.next(at(1), None), at(1)), Ok(()));
    let (second, mut again) = desk.node(&n(1));
    assert_eq!(desk.take(&node.next(at(2), None), at(2)), Err("unknown_session"));
    desk.book.stream_ended(first, at(2));
    desk.book.due(at(3) + KEY_KEPT);
    // Sequences go on in one life; this side of it was made anew by the test.
    again.next(at(3), None);
    assert_eq!(desk.take(&again.next(at(3), None), at(3)), Ok(()), "the end of a stream that was replaced is no news");
    desk.book.stream_ended(second, at(3));
    desk.book.due(at(3) + KEY_KEPT);
    assert_eq!(desk.take(&again.next(at(4), None), at(4)), Err("unknown_session"));
    assert!(desk.book.paths.is_empty() && desk.book.sessions.is_empty());
}

#[test]
fn a_stream_of_a_life_that_is_over_takes_no_key_from_the_present_one() {
    let mut desk = desk();
    let (_, mut node) = desk.node(&n(1));
    let earlier = Incarnation::new(LIFE.get() - 1);
    assert!(desk.book.agree(&desk.rng, &n(1), Network::Management, earlier).is_none());
    assert_eq!(desk.take(&node.next(at(1), None), at(1)), Ok(()));
}

#[test]
fn another_manager_is_told_changes_and_everything_after_a_new_stream() {
    let mut desk = desk();
    let peer = ManagerId::new(2);
    let mut nodes: Vec<_> = (1..=3).map(|number| desk.node(&n(number)).1).collect();
    for node in &mut nodes {
        assert_eq!(desk.take(&node.next(at(1), None), at(1)), Ok(()));
    }
    assert_eq!(desk.book.news_for(peer).len(), 3);
    assert_eq!(desk.take(&nodes[1].next(at(2), None), at(2)), Ok(()));
    let changed: Vec<NodeId> = desk.book.news_for(peer).into_iter().map(|(node, ..)| node).collect();
    assert_eq!(changed, [n(2)]);
    assert_eq!(desk.book.news_for(peer), []);
    desk.book.tell_anew(peer);
    assert_eq!(desk.book.news_for(peer).len(), 3);
}

#[test]
fn a_thousand_nodes_make_one_event_per_heartbeat_at_most() {
    let mut desk = desk();
    let mut nodes: Vec<_> = (0..1000).map(|number| desk.node(&n(number)).1).collect();
    let (mut events, beats) = (0, 5);
    for beat in 1..=beats {
        for node in &mut nodes {
            assert_eq!(desk.take(&node.next(at(beat * 200), None), at(beat * 200)), Ok(()));
        }
        // Two ticks per heartbeat.
        events += desk.book.news().len() + desk.book.news().len();
        assert_eq!(desk.book.due(at(beat * 200)).len(), 1000);
    }
    assert_eq!(events, 1000 * 5);
}

#[test]
fn a_node_that_is_forgotten_sends_and_gets_no_heartbeat_by_its_key_and_a_younger_life_agrees_anew() {
    let mut desk = desk();
    let ((_, mut node), (_, mut other)) = (desk.node(&n(1)), desk.node(&n(2)));
    for (exchange, ms) in [(&mut node, 1), (&mut other, 2)] {
        let datagram = exchange.next(at(ms), None);
        assert_eq!(desk.book.take(Network::Management, from(), &datagram, at(ms)), Ok(()));
    }
    desk.book.forget(&[n(1)].into());
    assert_eq!(desk.take(&node.next(at(3), None), at(4)), Err("unknown_session"));
    assert_eq!(desk.book.due(at(5)).len(), 1, "the other one stays");
    assert_eq!(desk.book.measured(&n(1)), []);
    // Its memory was wiped: it counts its lives from the first one again.
    assert!(desk.book.agree(&desk.rng, &n(1), Network::Management, Incarnation::new(1)).is_some());
}
