//! Which watchers watch one another. Pure: watchers in, the peers of each out.
//!
//! A watcher's peers are its reference targets: machines on other nodes that are there whatever becomes of VMs. All
//! watchers stand in a ring, in an order that says nothing of their nodes, and each takes the next ones in it: so each is
//! asked by about as many as it asks, and one that comes or goes changes the peers of few. A node gives one peer at the
//! most. Peers are in other racks: ways within a rack, which pass fewer switches, are another matter. Only where a single
//! node is elsewhere the own rack fills up, so that no one node decides what a watcher hears.
//!
//! It must never name a watcher's own node: between the two lies no network.

use std::collections::BTreeMap;

use vouch_types::watcher::PEERS_MAX;
use vouch_types::{NodeId, WatcherId, WatcherLegs};
use vouch_wire::convert::Peer;

use super::placement_plan::hash;

/// A watcher that lives and may be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) watcher: WatcherId,
    pub(super) node: &'a NodeId,
    pub(super) rack: Option<&'a str>,
    pub(super) legs: &'a WatcherLegs,
}

/// The fewest nodes of other racks that will do without those of the own one.
const FAR_ENOUGH: usize = 2;

/// Returns the peers of each of these watchers, at most [`PEERS_MAX`], in the order of their numbers.
pub(super) fn peers(candidates: &[Candidate<'_>]) -> BTreeMap<WatcherId, Vec<Peer>> {
    let mut ring: Vec<&Candidate<'_>> = candidates.iter().collect();
    let first = ring.first().and_then(|c| c.rack);
    let one_rack = ring.iter().all(|c| c.rack == first);
    ring.sort_by_key(|c| (hash([&c.watcher.get().to_be_bytes(), b"peer"]), c.watcher));
    let of = |(at, own): (usize, &&Candidate<'_>)| {
        let others = ring[at + 1..].iter().chain(&ring[..at]).copied();
        (own.watcher, next_peers(own, others, one_rack))
    };
    ring.iter().enumerate().map(of).collect()
}

/// Returns the next peers in the ring, without a walk around the whole of it where none can be in another rack.
fn next_peers<'a>(own: &Candidate<'_>, others: impl Iterator<Item = &'a Candidate<'a>>, one_rack: bool) -> Vec<Peer> {
    let (mut far, mut near): (Vec<&Candidate<'_>>, Vec<&Candidate<'_>>) = (Vec::new(), Vec::new());
    for other in others.filter(|other| other.node != own.node) {
        let is_far = own.rack.is_some() && other.rack != own.rack;
        let taken = if is_far { &mut far } else { &mut near };
        if taken.len() < PEERS_MAX && taken.iter().all(|peer| peer.node != other.node) {
            taken.push(other);
        }
        let no_far = one_rack || own.rack.is_none();
        if far.len() == PEERS_MAX || (no_far && near.len() == PEERS_MAX) {
            break;
        }
    }
    let near = if far.len() < FAR_ENOUGH { near } else { Vec::new() };
    let mut chosen: Vec<Peer> = far
        .into_iter()
        .chain(near)
        .take(PEERS_MAX)
        .map(|peer| Peer { watcher: peer.watcher, legs: peer.legs.clone() })
        .collect();
    chosen.sort_by_key(|peer| peer.watcher);
    chosen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vouch_types::Network;

    use super::*;

    /// Watchers by number, node and rack.
    struct World(Vec<(u64, NodeId, Option<String>, WatcherLegs)>);

    impl World {
        fn new(of: impl IntoIterator<Item = (u64, u64, Option<u64>)>) -> Self {
            let entry = |(number, node, rack): (u64, u64, Option<u64>)| {
                let [.., low] = number.to_be_bytes();
                let legs = WatcherLegs::from([(Network::Service, [10, 2, 0, low].into())]);
                (number, NodeId::new(&format!("n{node}")).unwrap(), rack.map(|r| format!("r{r}")), legs)
            };
            Self(of.into_iter().map(entry).collect())
        }

        fn peers(&self) -> BTreeMap<u64, Vec<u64>> {
            let candidate = |(number, node, rack, legs): &'_ (u64, NodeId, Option<String>, WatcherLegs)| {
                (WatcherId::new(*number), node.clone(), rack.clone(), legs.clone())
            };
            let all: Vec<_> = self.0.iter().map(candidate).collect();
            let candidates: Vec<_> = all
                .iter()
                .map(|(watcher, node, rack, legs)| Candidate { watcher: *watcher, node, rack: rack.as_deref(), legs })
                .collect();
            let number = |peer: &Peer| peer.watcher.get();
            peers(&candidates).into_iter().map(|(w, of)| (w.get(), of.iter().map(number).collect())).collect()
        }

        fn node(&self, number: u64) -> &(u64, NodeId, Option<String>, WatcherLegs) {
            self.0.iter().find(|(known, ..)| *known == number).expect("it is one of them")
        }
    }

    #[test]
    fn two_nodes_watch_one_another_and_one_alone_watches_nobody() {
        let two = World::new([(1, 1, None), (2, 2, None)]).peers();
        assert_eq!(two, BTreeMap::from([(1, vec![2]), (2, vec![1])]));
        assert_eq!(World::new([(1, 1, None), (2, 1, None)]).peers(), BTreeMap::from([(1, vec![]), (2, vec![])]));
    }

    #[test]
    fn peers_are_in_other_racks_and_the_own_one_fills_up_where_a_single_node_is_elsewhere() {
        let racks = World::new([(1, 1, Some(1)), (2, 2, Some(1)), (3, 3, Some(2)), (4, 4, Some(2)), (5, 5, Some(2))]);
        assert_eq!(racks.peers()[&1], [3, 4, 5]);
        assert_eq!(racks.peers()[&3], [1, 2]);
        let lone = World::new([(1, 1, Some(1)), (2, 2, Some(2)), (3, 3, Some(2)), (4, 4, Some(2))]).peers();
        assert_eq!((&lone[&1], &lone[&2]), (&vec![2, 3, 4], &vec![1, 3, 4]));
    }

    #[test]
    fn nobody_is_asked_on_the_own_node_nor_two_of_one_node() {
        for case in 1..400_u64 {
            // Nodes 1 to 11 and racks 1 to 3, or none, as the digits of a hash fall.
            let placed = (1..=case % 40).map(|number| {
                let drawn = hash([&case.to_be_bytes(), &number.to_be_bytes()]) >> 20;
                let node = drawn % 11 + 1;
                (number, node, Some(node % 4).filter(|rack| *rack > 0))
            });
            let world = World::new(placed);
            for (own, peers) in world.peers() {
                let nodes: BTreeSet<_> = peers.iter().map(|peer| &world.node(*peer).1).collect();
                assert!(!nodes.contains(&world.node(own).1), "case {case}");
                assert_eq!(nodes.len(), peers.len(), "case {case}");
                let others = world.0.iter().filter(|(_, node, ..)| *node != world.node(own).1);
                let elsewhere: BTreeSet<_> = others.map(|(_, node, ..)| node).collect();
                assert!(peers.len() >= elsewhere.len().min(FAR_ENOUGH) && peers.len() <= PEERS_MAX, "case {case}");
            }
        }
    }

    #[test]
    fn one_that_dies_changes_the_peers_of_few_and_nobody_is_asked_by_many() {
        for count in 8..60 {
            let all: Vec<_> = (1..=count).map(|n| (n, n, None)).collect();
            let before = World::new(all.iter().copied()).peers();
            for watcher in 1..=count {
                assert_eq!(before.values().filter(|peers| peers.contains(&watcher)).count(), PEERS_MAX);
            }
            let gone = count / 2;
            let after = World::new(all.iter().copied().filter(|(n, ..)| *n != gone)).peers();
            let changed = after.iter().filter(|(own, peers)| before.get(own) != Some(peers)).count();
            assert!(changed <= PEERS_MAX, "{changed} of {count} watchers got other peers");
        }
    }
}
