//! The watchers that this one watches: when each is asked, and what of it is told.
//!
//! Every second there is a round of echo requests (RFC 792, RFC 4443) per network to all peers that have a leg on it.
//! What a network may be burdened with is shared by its peers: so many echoes tell its loss as exactly as they do with
//! one. A peer is a machine of vouch's own on another node, which is there whatever becomes of VMs, and an echo is
//! answered by its kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vouch_types::watcher::PEERS_MAX;
use vouch_types::{Moment, Network, PeerReach, WatcherId};
use vouch_wire::convert::Peer;

use super::schedule::next_at;
use super::{Echo, EchoMeter};

/// How often there is a round.
pub const ROUND_EVERY: Duration = Duration::from_secs(1);
/// How many echoes a watcher sends in a round over one network, to all of its peers together.
pub const ECHOES_PER_ROUND: u32 = 12;
/// How long the answer to the last echo of a round is waited for.
pub const ECHO_TIMEOUT: Duration = Duration::from_millis(500);
/// Rounds of one network that may be under way: a third would mean that the driver does not end them.
pub const ROUNDS_MAX: usize = 2;
/// A round that is not over by then never ends: its task failed.
const ROUND_LASTS_MAX: Duration = Duration::from_secs(5);
/// A peer that has answered nothing for this long is not reached: more than two rounds.
const ANSWERS_WITHIN: Duration = Duration::from_millis(2_500);

/// One round, numbered in the order in which rounds begin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RoundId(pub u64);

/// Echo requests that are to be sent now, to all peers over one network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EchoRound {
    /// Its number.
    pub id: RoundId,
    /// Over which network the addresses are.
    pub network: Network,
    /// Whom to ask.
    pub addresses: Vec<IpAddr>,
    /// How many echoes each gets.
    pub count: u32,
    /// From one echo to the next of the same address.
    pub interval: Duration,
    /// How long to wait for the answer to the last.
    pub timeout: Duration,
}

/// What came of one address of a round.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Came {
    /// Nothing could be sent: there is no socket or no route. It says nothing of the peer.
    NotSent,
    /// Of each echo, in order.
    Sent(Vec<Echo>),
}

/// What is known of one peer over one network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// It has not been asked yet, or cannot be.
    NotAsked,
    /// It has never answered.
    Silent,
    /// When the last echo was sent that it answered.
    Answered(Moment),
}

#[derive(Debug)]
struct Way {
    peer: WatcherId,
    address: IpAddr,
    reach: Reach,
}

#[derive(Debug)]
struct Flight {
    network: Network,
    peers: Vec<WatcherId>,
    begun: Moment,
    interval: Duration,
}

/// The ways to the peers over one network.
#[derive(Debug, Default)]
struct Ways {
    ways: Vec<Way>,
    meter: EchoMeter,
}

/// The watchers that this one watches.
#[derive(Debug)]
pub struct Peers {
    phase: u64,
    due: Option<Moment>,
    networks: BTreeMap<Network, Ways>,
    next_round: u64,
    flights: BTreeMap<RoundId, Flight>,
}

impl Peers {
    /// Returns the peers of a watcher that has been told of none.
    pub fn new(watcher: WatcherId) -> Self {
        // Watchers have rounds at times of their own (Fibonacci hashing).
        let phase = watcher.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Self { phase, due: None, networks: BTreeMap::new(), next_round: 0, flights: BTreeMap::new() }
    }

    /// Sets who the peers are, the first [`PEERS_MAX`] of them. What is known of those that stay is kept.
    pub fn set(&mut self, now: Moment, peers: &[Peer]) {
        for network in Network::ALL {
            let of = self.networks.entry(network).or_default();
            let mut known: BTreeMap<_, _> = of.ways.drain(..).map(|way| ((way.peer, way.address), way)).collect();
            let legs = peers.iter().filter_map(|peer| Some((peer.watcher, *peer.legs.get(&network)?)));
            let new = |(peer, address)| Way { peer, address, reach: Reach::NotAsked };
            of.ways = legs.take(PEERS_MAX).map(|leg| known.remove(&leg).unwrap_or_else(|| new(leg))).collect();
            let peers: Vec<WatcherId> = of.ways.iter().map(|way| way.peer).collect();
            of.meter.set_peers(&peers);
        }
        let some = self.networks.values().any(|of| !of.ways.is_empty());
        self.due = some.then(|| self.due.unwrap_or_else(|| next_at(now, self.phase, ROUND_EVERY)));
    }

    /// Returns when the next round is due.
    pub fn next_due(&self) -> Option<Moment> {
        self.due
    }

    /// Takes the rounds that are due.
    pub fn take_due(&mut self, now: Moment) -> Vec<EchoRound> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = Some(next_at(now, self.phase, ROUND_EVERY));
        self.flights.retain(|_, flight| now.since(flight.begun) < ROUND_LASTS_MAX);
        let mut rounds = Vec::new();
        for (network, of) in self.networks.iter().filter(|(_, of)| !of.ways.is_empty()) {
            if self.flights.values().filter(|flight| flight.network == *network).count() >= ROUNDS_MAX {
                continue;
            }
            let count = ECHOES_PER_ROUND / u32::try_from(of.ways.len()).unwrap_or(ECHOES_PER_ROUND);
            let (id, interval) = (RoundId(self.next_round), ROUND_EVERY / count);
            self.next_round += 1;
            let peers = of.ways.iter().map(|way| way.peer).collect();
            self.flights.insert(id, Flight { network: *network, peers, begun: now, interval });
            let addresses = of.ways.iter().map(|way| way.address).collect();
            rounds.push(EchoRound { id, network: *network, addresses, count, interval, timeout: ECHO_TIMEOUT });
        }
        rounds
    }

    /// A round has ended, with what came of each address. Returns over which network a peer answered, and when the last
    /// echo was sent that was.
    pub fn ended(&mut self, round: RoundId, came: &[Came]) -> Option<(Network, Moment)> {
        let Flight { network, peers, begun, interval } = self.flights.remove(&round)?;
        let of = self.networks.get_mut(&network)?;
        for (peer, came) in peers.iter().zip(came) {
            let Some(way) = of.ways.iter_mut().find(|way| way.peer == *peer) else { continue };
            way.reach = match (way.reach, came) {
                (_, Came::NotSent) => Reach::NotAsked,
                (Reach::NotAsked, Came::Sent(_)) => Reach::Silent,
                (known @ (Reach::Silent | Reach::Answered(_)), Came::Sent(_)) => known,
            };
        }
        // In the order of sending: a silence that all peers share shows only so.
        let echoes = |came: &Came| match came {
            Came::NotSent => 0,
            Came::Sent(echoes) => echoes.len(),
        };
        let mut last = None;
        for (number, at) in (0..came.iter().map(echoes).max().unwrap_or(0)).zip(steps(begun, interval)) {
            for (peer, came) in peers.iter().zip(came) {
                let Came::Sent(echoes) = came else { continue };
                let Some(echo) = echoes.get(number) else { continue };
                of.meter.take(*peer, at, *echo);
                let way = of.ways.iter_mut().find(|way| way.peer == *peer && *echo == Echo::Replied);
                if let Some(way) = way {
                    way.reach = Reach::Answered(at);
                    last = Some((network, at));
                }
            }
        }
        last
    }

    /// Returns the share of round trips to peers over a network that were lost lately, in per mille; `None` while that is
    /// not known.
    pub fn loss(&mut self, now: Moment, network: Network) -> Option<u16> {
        self.networks.get_mut(&network)?.meter.per_mille(now)
    }

    /// Returns which peers are reached; those that cannot be asked are left out.
    pub fn reached(&self, now: Moment) -> Vec<PeerReach> {
        let ways = self.networks.iter().flat_map(|(network, of)| of.ways.iter().map(|way| (*network, way)));
        let told = |(network, way): (Network, &Way)| {
            let reached = match way.reach {
                Reach::NotAsked => return None,
                Reach::Silent => false,
                Reach::Answered(at) => now.since(at) <= ANSWERS_WITHIN,
            };
            Some(PeerReach { peer: way.peer, network, reached })
        };
        ways.filter_map(told).collect()
    }
}

/// Returns when each echo of a round is sent.
fn steps(begun: Moment, interval: Duration) -> impl Iterator<Item = Moment> {
    std::iter::successors(Some(begun), move |at| Some(*at + interval))
}

#[cfg(test)]
mod tests {
    use vouch_types::WatcherLegs;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BOTH: [Network; 2] = Network::ALL;

    fn peer(number: u64, networks: &[Network]) -> Peer {
        let [.., low] = number.to_be_bytes();
        let legs: WatcherLegs = networks.iter().map(|n| (*n, [10, *n as u8 + 1, 0, low].into())).collect();
        Peer { watcher: WatcherId::new(number), legs }
    }

    /// Ends every round with the same echoes from each peer.
    fn answer(peers: &mut Peers, rounds: Vec<EchoRound>, echo: Echo) {
        for round in rounds {
            let one = Came::Sent(vec![echo; usize::try_from(round.count).unwrap()]);
            peers.ended(round.id, &vec![one; round.addresses.len()]);
        }
    }

    fn round(peers: &mut Peers) -> Vec<EchoRound> {
        let due = peers.next_due().expect("there are peers");
        peers.take_due(due)
    }

    #[test]
    fn the_echoes_of_a_second_are_shared_by_the_peers_of_a_network() {
        for count in 1..=5 {
            let mut peers = Peers::new(WatcherId::new(9));
            let list: Vec<Peer> = (1..=count).map(|n| peer(n, &BOTH)).collect();
            peers.set(Moment::ZERO, &list);
            let asked = list.len().min(PEERS_MAX);
            for round in round(&mut peers) {
                assert_eq!(round.addresses.len(), asked, "no more are asked than are ever told");
                assert_eq!(round.count * u32::try_from(asked).unwrap(), ECHOES_PER_ROUND);
                assert!(round.interval * round.count <= ROUND_EVERY, "a round is over before the next");
            }
        }
    }

    #[test]
    fn a_network_on_which_no_peer_has_a_leg_gets_no_round() {
        let mut peers = Peers::new(WatcherId::new(1));
        peers.set(Moment::ZERO, &[peer(2, &[Network::Service])]);
        let rounds = round(&mut peers);
        assert_eq!(rounds.iter().map(|r| r.network).collect::<Vec<_>>(), [Network::Service]);
        peers.set(Moment::ZERO, &[]);
        assert_eq!(peers.next_due(), None);
    }

    #[test]
    fn rounds_that_the_driver_does_not_end_are_not_piled_up() {
        let mut peers = Peers::new(WatcherId::new(1));
        peers.set(Moment::ZERO, &[peer(2, &[Network::Service])]);
        let begun: Vec<usize> = (0..3).map(|_| round(&mut peers).len()).collect();
        assert_eq!(begun, [1, 1, 0]);
        assert_eq!(peers.ended(RoundId(0), &[Came::Sent(vec![Echo::Silent])]), None);
        assert_eq!(round(&mut peers).len(), 1);
        let begun: Vec<usize> = (0..3).map(|_| round(&mut peers).len()).collect();
        assert_eq!(begun, [0, 0, 1], "one that is never ended is given up");
    }

    #[test]
    fn a_peer_is_told_once_it_was_asked_and_reached_while_it_answers() {
        let mut peers = Peers::new(WatcherId::new(1));
        peers.set(Moment::ZERO, &[peer(2, &BOTH)]);
        assert_eq!(peers.reached(Moment::ZERO), []);
        let rounds = round(&mut peers);
        let begun = Moment::from_micros(0).max(peers.flights.values().next().unwrap().begun);
        let mut last = None;
        for r in rounds {
            let came = match r.network {
                Network::Management => Came::NotSent,
                Network::Service => Came::Sent(vec![Echo::Replied, Echo::Silent, Echo::Replied]),
            };
            last = peers.ended(r.id, &[came]).or(last);
        }
        let sent = begun + ROUND_EVERY / ECHOES_PER_ROUND * 2;
        assert_eq!(last, Some((Network::Service, sent)));
        let told = |reached| [PeerReach { peer: WatcherId::new(2), network: Network::Service, reached }];
        assert_eq!(peers.reached(sent + ANSWERS_WITHIN), told(true), "what cannot be asked is not told");
        assert_eq!(peers.reached(sent + ANSWERS_WITHIN + Duration::from_micros(1)), told(false));
    }

    #[test]
    fn what_is_known_of_a_peer_stays_while_it_stays() {
        let mut peers = Peers::new(WatcherId::new(1));
        peers.set(Moment::ZERO, &[peer(2, &BOTH), peer(3, &BOTH)]);
        for _ in 0..5 {
            let rounds = round(&mut peers);
            answer(&mut peers, rounds, Echo::Replied);
        }
        let now = peers.next_due().unwrap();
        assert_eq!(peers.loss(now, Network::Service), Some(0));
        let under_way = round(&mut peers);
        peers.set(now, &[peer(2, &BOTH), peer(4, &BOTH)]);
        answer(&mut peers, under_way, Echo::Replied);
        let told: Vec<_> = peers.reached(now + SECOND / 2).iter().map(|r| (r.peer.get(), r.network)).collect();
        assert_eq!(told, [(2, Network::Management), (2, Network::Service)], "one left, one was not asked yet");
        assert_eq!(peers.loss(now + SECOND, Network::Service), Some(0));
    }

    #[test]
    fn watchers_have_their_rounds_at_times_of_their_own() {
        let due = |number| {
            let mut peers = Peers::new(WatcherId::new(number));
            peers.set(Moment::ZERO, &[peer(200, &BOTH)]);
            peers.next_due().unwrap().as_micros() / 100_000
        };
        let tenths: std::collections::BTreeSet<u64> = (1..=40).map(due).collect();
        assert_eq!(tenths.len(), 10, "{tenths:?}");
    }
}
