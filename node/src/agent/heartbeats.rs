//! Heartbeats with one manager over one network: sent on their own beat, whatever the stream does.
//!
//! ```text
//! Silent --a welcome brings a key--> Beating --a welcome brings another key--> Beating ...
//! ```
//!
//! The key outlives its stream: a stream that stalls or breaks under loss is not silence, and heartbeats show that. Each
//! tells how long ago the hypervisor was last read, so that an agent that lives and reads nothing is seen to be wedged.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tracing::{debug, info};
use vouch_types::{Incarnation, ManagerId, Moment, Network};
use vouch_wire::heartbeat::{Agreement, Exchange, HEARTBEAT_LEN, Role};
use vouch_wire::links::{DatagramLink, ManagerEndpoint};

use super::Shared;
use crate::hearing::INTERVALS_HEARD;

/// How long receiving pauses after an error of the socket.
const RECEIVE_PAUSE: Duration = Duration::from_millis(50);

/// One manager over one network.
pub(crate) type Path = (ManagerId, Network);

/// What a manager's last welcome said.
#[derive(Debug, Clone)]
pub(crate) struct Agreed {
    /// The manager's life.
    pub(crate) manager: Incarnation,
    /// The key.
    pub(crate) agreement: Agreement,
}

pub(crate) struct HeartbeatTask {
    shared: Arc<Shared>,
    endpoint: ManagerEndpoint,
    link: Arc<dyn DatagramLink>,
    origin: Instant,
    exchange: Option<Exchange>,
}

impl HeartbeatTask {
    pub(crate) fn new(shared: Arc<Shared>, endpoint: ManagerEndpoint, link: Arc<dyn DatagramLink>) -> Self {
        Self { shared, endpoint, link, origin: Instant::now(), exchange: None }
    }

    /// Runs for as long as the agent does. `agreed` is told by the session with the same manager and network.
    pub(crate) async fn run(mut self, mut agreed: watch::Receiver<Option<Agreed>>) {
        let mut timing = self.shared.timing.subscribe();
        let mut beat = beating(timing.borrow_and_update().heartbeat_interval);
        // One more than a heartbeat has: a longer datagram is seen to be too long.
        let mut buffer = [0; HEARTBEAT_LEN + 1];
        let link = Arc::clone(&self.link);
        loop {
            tokio::select! {
                biased;
                Ok(()) = agreed.changed() => {
                    let now_agreed = agreed.borrow_and_update().clone();
                    self.agree(now_agreed);
                    beat.reset_immediately();
                }
                Ok(()) = timing.changed() => beat = beating(timing.borrow_and_update().heartbeat_interval),
                // Before what comes in: a flood must not keep this node from saying that it lives.
                _ = beat.tick() => self.send().await,
                received = link.receive(&mut buffer) => match received {
                    Ok((length, _)) => self.take(&buffer[..length]),
                    Err(error) => {
                        debug!(manager_id = %self.endpoint.manager, network = %self.endpoint.network, %error, "heartbeats not received");
                        sleep(RECEIVE_PAUSE).await;
                    }
                }
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.origin.elapsed()
    }

    fn agree(&mut self, agreed: Option<Agreed>) {
        let (manager_id, network) = (self.endpoint.manager, self.endpoint.network);
        match (agreed, &mut self.exchange) {
            (Some(agreed), Some(exchange)) => exchange.agree(agreed.manager, agreed.agreement),
            (Some(agreed), exchange @ None) => {
                info!(%manager_id, %network, from = "silent", to = "beating", reason = "welcome", "heartbeats");
                let own = self.shared.store.incarnation();
                *exchange = Some(Exchange::new(Role::Node, own, agreed.manager, agreed.agreement));
            }
            (None, Some(_)) => {
                info!(%manager_id, %network, from = "beating", to = "silent", reason = "the manager exchanges none", "heartbeats");
                self.exchange = None;
            }
            (None, None) => {}
        }
    }

    async fn send(&mut self) {
        let (now, read) = (self.now(), *self.shared.last_read.borrow());
        let Some(exchange) = &mut self.exchange else { return };
        let heartbeat = exchange.next(now, read.map(|begun| begun.elapsed()));
        if let Err(error) = self.link.send(self.endpoint.address, &heartbeat).await {
            debug!(manager_id = %self.endpoint.manager, network = %self.endpoint.network, %error, "heartbeat not sent");
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        let now = self.now();
        let Some(exchange) = &mut self.exchange else { return };
        match exchange.take(now, datagram) {
            Ok(_) => {
                let counts_for = self.shared.timing.borrow().heartbeat_interval * INTERVALS_HEARD;
                self.shared.hearing.heard(self.endpoint.manager, Instant::now() + counts_for);
            }
            Err(error) => {
                debug!(manager_id = %self.endpoint.manager, network = %self.endpoint.network, %error, reason = error.reason(), "heartbeat dropped");
            }
        }
    }
}

fn beating(every: Duration) -> Interval {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}
