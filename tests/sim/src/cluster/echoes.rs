//! Echoes between watchers: packets over the simulated network, which the kernel of a watcher VM answers while it runs.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until};
use vouch_types::{Network, WatcherId, WatcherLegs};
use vouch_watcher::logic::{Came, Echo, EchoRound};

use super::host::Host;
use super::network::Lane;
use super::world::World;

/// The first bytes of a watcher's address on a network; its number follows.
const fn prefix(network: Network) -> [u8; 2] {
    match network {
        Network::Management => [10, 101],
        Network::Service => [10, 102],
    }
}

/// Returns where a watcher is reached.
pub fn legs(watcher: WatcherId) -> WatcherLegs {
    let [.., high, low] = watcher.get().to_be_bytes();
    Network::ALL
        .into_iter()
        .map(|network| (network, [prefix(network)[0], prefix(network)[1], high, low].into()))
        .collect()
}

fn watcher_at(network: Network, address: IpAddr) -> Option<WatcherId> {
    let IpAddr::V4(address) = address else { return None };
    let [a, b, high, low] = address.octets();
    ([a, b] == prefix(network)).then(|| WatcherId::new(u64::from(u16::from_be_bytes([high, low]))))
}

/// Sends a round to its end.
pub async fn round(world: Arc<World>, own: WatcherId, round: EchoRound) -> Vec<Came> {
    let (begun, mut ends) = (Instant::now(), Instant::now());
    let peers: Vec<Option<WatcherId>> = round.addresses.iter().map(|a| watcher_at(round.network, *a)).collect();
    let mut came: Vec<Came> = peers.iter().map(|peer| peer.map_or(Came::NotSent, |_| Came::Sent(Vec::new()))).collect();
    for number in 0..round.count {
        let sent = begun + round.interval * number;
        sleep_until(sent).await;
        for (peer, came) in peers.iter().zip(&mut came) {
            let (Some(peer), Came::Sent(echoes)) = (peer, came) else { continue };
            let (from, to) = (Host::Watcher(own), Host::Watcher(*peer));
            let takes = world.network.round_trip(from, to, round.network, Lane::Echo);
            // As the engine does it: all that has come until the last one's time is over counts.
            let last = begun + round.interval * round.count.saturating_sub(1) + round.timeout;
            let arrives = takes.map(|takes| sent + takes).filter(|at| *at <= last);
            ends = ends.max(arrives.unwrap_or(last));
            echoes.push(if arrives.is_some() { Echo::Replied } else { Echo::Silent });
        }
    }
    sleep_until(ends).await;
    came
}
