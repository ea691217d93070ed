//! Echoes between the fleet's watchers, each of which has the watchers of the next nodes as its peers.

use std::net::IpAddr;

use vouch_types::watcher::PEERS_MAX;
use vouch_types::{Moment, Network, WatcherId};
use vouch_watcher::logic::{Came, Echo, EchoRound};
use vouch_wire::convert::Peer;

use super::network::{Machine, Path, SimNetworks};

/// Returns the peers of the watcher on a node. Watchers come and go, and their nodes stay: the address says which node,
/// and so does the number, which is the watcher's for nobody but its peers.
pub(crate) fn peers(own: usize, nodes: usize) -> Vec<Peer> {
    let next = (1..nodes).take(PEERS_MAX).map(|step| (own + step) % nodes);
    let peer = |node: usize| {
        let number = u32::try_from(node + 1).unwrap_or(u32::MAX);
        let address = IpAddr::from((10 << 24 | number).to_be_bytes());
        Peer {
            watcher: WatcherId::new(u64::from(number)),
            legs: Network::ALL.into_iter().map(|network| (network, address)).collect(),
        }
    };
    next.map(peer).collect()
}

fn node_at(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    usize::try_from(u32::from(address) & 0x00ff_ffff).ok()?.checked_sub(1)
}

/// Returns what a round that begins now comes to, and when.
pub(crate) fn round(networks: &mut SimNetworks, now: Moment, own: usize, round: &EchoRound) -> (Moment, Vec<Came>) {
    let last = now + round.interval * round.count.saturating_sub(1);
    let mut ends = last;
    let mut ask = |address: &IpAddr| {
        let Some(to) = node_at(*address) else { return Came::NotSent };
        let path = Path { from: Machine::Node(own), to: Machine::Node(to), network: round.network };
        let mut echo = |number| {
            let at = now + round.interval * number;
            // Each is tried once; what is late by less than the round counts, as it does with real sockets.
            match networks.round_trip(now, at, path, std::iter::once(std::time::Duration::ZERO), last + round.timeout) {
                Some(arrives) => {
                    ends = ends.max(arrives);
                    Echo::Replied
                }
                None => {
                    ends = last + round.timeout;
                    Echo::Silent
                }
            }
        };
        Came::Sent((0..round.count).map(&mut echo).collect())
    };
    let came = round.addresses.iter().map(&mut ask).collect();
    (ends, came)
}
