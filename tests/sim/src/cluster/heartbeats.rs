//! A node's heartbeats with one manager: the exchange of `wire`, its datagrams over the simulated network.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use vouch_types::{Incarnation, ManagerId, Moment, Network};
use vouch_wire::heartbeat::{Agreement, Exchange, HEARTBEAT_LEN, Role};
use vouch_wire::links::DatagramLink;
use vouch_wire::proto;

use super::node::{AgentState, SimNode};

/// Heartbeats for which a manager counts as heard after the last one (`node`, INTERVALS_HEARD).
const INTERVALS_HEARD: u32 = 3;

/// Returns where a manager receives on a network.
pub fn manager_address(manager: ManagerId, network: Network) -> SocketAddr {
    let net = match network {
        Network::Management => 1,
        Network::Service => 2,
    };
    ([10, net, 0, u8::try_from(manager.get()).unwrap_or(u8::MAX)], 7001).into()
}

/// A node's heartbeats with one manager.
#[derive(Clone)]
pub(crate) struct Heartbeats {
    node: Arc<SimNode>,
    manager: ManagerId,
    begun: Instant,
    exchange: Arc<Mutex<Option<Exchange>>>,
}

impl Heartbeats {
    pub fn new(node: &Arc<SimNode>, manager: ManagerId) -> Self {
        Self { node: Arc::clone(node), manager, begun: Instant::now(), exchange: Arc::default() }
    }

    fn exchange(&self) -> MutexGuard<'_, Option<Exchange>> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment::ZERO + self.begun.elapsed()
    }

    /// Takes the key of a new stream.
    pub fn agree(&self, manager: u64, agreed: Option<proto::Heartbeats>) {
        let other = Incarnation::new(manager);
        let mut exchange = self.exchange();
        match (agreed.map(Agreement::try_from).and_then(Result::ok), &mut *exchange) {
            (Some(agreement), Some(exchange)) => exchange.agree(other, agreement),
            (Some(agreement), none) => {
                let own = Incarnation::new(self.node.read(|state| state.incarnation));
                *none = Some(Exchange::new(Role::Node, own, other, agreement));
            }
            (None, any) => *any = None,
        }
    }

    /// Beats for as long as the agent lives.
    pub async fn run(self, every: Duration) {
        let port = 7_100 + u16::try_from(self.manager.get()).unwrap_or(0);
        let [high, low] = self.node.no.0.to_be_bytes();
        let own: SocketAddr = ([10, 1, 16 + high, low], port).into();
        let socket = self.node.network.bind(self.node.host(), Network::Management, own);
        let mut beat = tokio::time::interval(every);
        let mut buffer = [0; HEARTBEAT_LEN + 1];
        loop {
            tokio::select! {
                biased;
                _ = beat.tick() => {
                    let read_age = self.node.read(|state| state.last_read.elapsed());
                    let now = self.now();
                    let heartbeat = self.exchange().as_mut().map(|exchange| exchange.next(now, Some(read_age)));
                    if let Some(heartbeat) = heartbeat {
                        // That it was sent says nothing of its arrival.
                        let _ = socket.send(manager_address(self.manager, Network::Management), &heartbeat).await;
                    }
                }
                received = socket.receive(&mut buffer) => {
                    let Ok((length, _)) = received else { return };
                    let now = self.now();
                    let taken = self.exchange().as_mut().is_some_and(|e| e.take(now, &buffer[..length]).is_ok());
                    if taken {
                        self.node.hears(self.manager, every * INTERVALS_HEARD);
                    }
                }
            }
        }
    }

    /// Notes that the hypervisor is read now, unless the agent is wedged.
    pub fn note_read(node: &SimNode) {
        node.note(|state| {
            if state.agent != AgentState::Wedged {
                state.last_read = Instant::now();
            }
        });
    }
}
