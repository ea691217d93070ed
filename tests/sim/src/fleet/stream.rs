//! One direction of a stream: ordered and never lossy, but held up by losses as TCP is.
//!
//! A lost segment is sent again after 200 ms, then after twice that, and so on (RFC 6298 with Linux's least timeout);
//! what was sent after it waits for it (head of line). Opening a stream costs a handshake whose first segment is sent
//! again after 1, 3 and 7 s, and two round trips of TLS.

use std::time::Duration;

use vouch_types::Moment;

use super::network::{Path, SimNetworks};

/// The first retransmission of data.
const RETRANSMIT: Duration = Duration::from_millis(200);
/// The longest wait between two retransmissions.
const RETRANSMIT_LONGEST: Duration = Duration::from_secs(120);
/// When the first segment of a connection is sent.
const SYN: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];
/// How long a dial may take.
pub(crate) const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Round trips of TLS and of the first request.
const HANDSHAKE_TRIPS: u32 = 2;

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SimStream {
    last: Moment,
}

impl SimStream {
    /// Sends a message now; returns when it is delivered.
    pub(crate) fn send(&mut self, networks: &mut SimNetworks, now: Moment, path: Path) -> Moment {
        let (mut at, mut wait) = (now, RETRANSMIT);
        while networks.loses(now, at, path) {
            at = at + wait;
            wait = (wait * 2).min(RETRANSMIT_LONGEST);
        }
        self.last = self.last.max(at + networks.latency());
        self.last
    }
}

/// Returns the times at which data is sent that is not acknowledged.
pub(crate) fn retransmissions() -> impl Iterator<Item = Duration> {
    (0..10).map(|n| RETRANSMIT * ((1 << n) - 1))
}

/// Returns when a stream that is dialled at `begin` stands; `None` when it took too long.
pub(crate) fn dialled(networks: &mut SimNetworks, now: Moment, begin: Moment, path: Path) -> Option<Moment> {
    let limit = begin + DIAL_LIMIT;
    let mut at = networks.round_trip(now, begin, path, SYN.into_iter(), limit)?;
    for _ in 0..HANDSHAKE_TRIPS {
        at = networks.round_trip(now, at, path, retransmissions(), limit)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use vouch_types::Network;

    use super::super::FleetConfig;
    use super::super::network::Machine;
    use super::*;

    #[test]
    fn a_stream_under_loss_keeps_the_order_and_stalls() {
        let mut networks = SimNetworks::new(2, &FleetConfig::n2(4, 2, 3));
        let path = Path { from: Machine::Node(0), to: Machine::Manager, network: Network::Service };
        let (mut stream, mut last, mut slow) = (SimStream::default(), Moment::ZERO, 0);
        for n in 0..2_000 {
            let now = Moment::ZERO + Duration::from_millis(100) * n;
            let at = stream.send(&mut networks, now, path);
            assert!(at >= last && at > now);
            slow += u32::from(at.since(now) >= RETRANSMIT);
            last = at;
        }
        assert!(slow > 500, "{slow} of 2000 messages were held up by at least one retransmission");
    }
}
