//! Sends the echoes of one round, and says what came of each. When there is a round is the logic's to decide.

use std::net::IpAddr;
use std::sync::Arc;

use futures::future::join_all;
use tracing::debug;
use vouch_probe_host::{EchoRequest, Icmp};

use crate::logic::{Came, Echo, EchoRound};

/// Sends a round to its end.
pub(super) async fn round(icmp: Arc<dyn Icmp>, round: &EchoRound) -> Vec<Came> {
    join_all(round.addresses.iter().map(|address| ask(icmp.as_ref(), *address, round))).await
}

async fn ask(icmp: &dyn Icmp, address: IpAddr, round: &EchoRound) -> Came {
    let EchoRound { count, interval, timeout, network, .. } = *round;
    match icmp.echo(EchoRequest { address, count, interval, timeout }).await {
        Ok(replies) => {
            let came =
                |sequence| if replies.iter().any(|r| r.sequence == sequence) { Echo::Replied } else { Echo::Silent };
            Came::Sent((0..count).map(came).collect())
        }
        Err(error) => {
            debug!(%network, %address, %error, "echoes to a peer not sent");
            Came::NotSent
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use vouch_probe_host::IcmpSockets;
    use vouch_types::Network;

    use super::*;
    use crate::logic::RoundId;

    fn over(addresses: Vec<IpAddr>) -> EchoRound {
        let (interval, timeout) = (Duration::from_millis(10), Duration::from_secs(2));
        EchoRound { id: RoundId(1), network: Network::Service, addresses, count: 3, interval, timeout }
    }

    #[tokio::test]
    async fn every_echo_of_every_address_is_told_in_the_order_of_the_round() {
        let icmp = Arc::new(IcmpSockets::open());
        let addresses = vec![IpAddr::from(Ipv4Addr::LOCALHOST), Ipv4Addr::new(127, 0, 0, 2).into()];
        let sendable = icmp.kind_of(addresses[0]).is_ok();
        let came = round(icmp, &over(addresses)).await;
        // Without any ICMP socket nothing is said of the peers.
        let expected = if sendable { Came::Sent(vec![Echo::Replied; 3]) } else { Came::NotSent };
        assert_eq!(came, [expected.clone(), expected]);
    }

    #[tokio::test]
    async fn what_cannot_be_sent_says_nothing_of_its_peer_and_holds_up_no_other() {
        let icmp = Arc::new(IcmpSockets::open());
        // A socket that did not ask for it may not send to a broadcast address (SO_BROADCAST, socket(7)).
        let addresses = vec![IpAddr::from(Ipv4Addr::BROADCAST), Ipv4Addr::LOCALHOST.into()];
        let sendable = icmp.kind_of(addresses[1]).is_ok();
        let came = round(icmp, &over(addresses)).await;
        assert_eq!(came[0], Came::NotSent);
        assert_eq!(came[1] != Came::NotSent, sendable);
    }
}
