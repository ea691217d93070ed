//! The tasks of heartbeats: datagrams in, datagrams out, and what they measure to the detector.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use vouch_types::{Incarnation, Network, NodeId};
use vouch_wire::heartbeat::{HEARTBEAT_LEN, HeartbeatSession};
use vouch_wire::links::DatagramLink;
use vouch_wire::proto;

use super::Fleet;
use super::heartbeats::HeartbeatBook;
use crate::counters::Count;

/// How long receiving pauses after an error of the socket.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

fn beating(every: Duration) -> Interval {
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

impl Fleet {
    /// Starts the heartbeats over every network that has a way for them.
    pub(super) fn start_heartbeats(&self) {
        if self.parts().datagrams.is_empty() {
            return;
        }
        for (network, link) in self.parts().datagrams.clone() {
            self.spawn(self.clone().run_heartbeats_in(network, link));
        }
        self.spawn(self.clone().run_heartbeats_out());
        self.spawn(self.clone().run_measures());
    }

    pub(super) fn heartbeats(&self) -> MutexGuard<'_, HeartbeatBook> {
        // As for the book: every word in it is soft.
        self.0.heartbeats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Agrees on heartbeats with a node whose stream has begun; `None` when its network has no way for them.
    pub(super) fn agree(
        &self,
        node: &NodeId,
        network: Network,
        life: Incarnation,
    ) -> Option<(HeartbeatSession, proto::Heartbeats)> {
        self.parts().datagrams.get(&network)?;
        self.heartbeats().agree(&*self.parts().rng, node, network, life)
    }

    async fn run_heartbeats_in(self, network: Network, link: Arc<dyn DatagramLink>) {
        // One more than a heartbeat has: a longer datagram is seen to be too long.
        let mut buffer = [0; HEARTBEAT_LEN + 1];
        loop {
            let (length, from) = match link.receive(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%network, %error, "heartbeats not received");
                    tokio::time::sleep(RECEIVE_PAUSE).await;
                    continue;
                }
            };
            let now = self.parts().clock.now();
            let taken = self.heartbeats().take(network, from, &buffer[..length], now);
            match taken {
                Ok(()) => self.parts().counters.add(Count::HeartbeatsReceived, "node", 1),
                Err(reason) => {
                    self.parts().counters.add(Count::HeartbeatsDropped, reason, 1);
                    tracing::trace!(%network, %from, reason, "heartbeat dropped");
                }
            }
        }
    }

    async fn run_heartbeats_out(self) {
        let mut beat = beating(self.parts().timing.heartbeat_interval);
        loop {
            beat.tick().await;
            let due = self.heartbeats().due(self.parts().clock.now());
            let (mut sent, mut unsent) = (0, 0);
            for heartbeat in due {
                let Some(link) = self.parts().datagrams.get(&heartbeat.network) else { continue };
                match link.send(heartbeat.to, &heartbeat.datagram).await {
                    Ok(()) => sent += 1,
                    Err(_) => unsent += 1,
                }
            }
            self.parts().counters.add(Count::HeartbeatsSent, "node", sent);
            self.parts().counters.add(Count::HeartbeatsDropped, "not_sent", unsent);
        }
    }

    /// Tells the detector on every tick what has changed: at most one event per node, network and heartbeat. With
    /// 1,000 nodes, three managers and five heartbeats a second that is 15,000 events a second and network.
    async fn run_measures(self) {
        let mut tick = beating(self.parts().timing.tick_interval);
        loop {
            tick.tick().await;
            let news = self.heartbeats().news();
            self.tell(news).await;
        }
    }
}
