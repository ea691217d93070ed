//! Single facts that watchers bring: of a VM by a probe, of a node by its relay, and of themselves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Identity, ManagerId, Moment, Network, NodeId, Nonce, Outcome, ProbeName, VmId, WatcherId};

/// The longest reason of an observation, in bytes.
pub const REASON_MAX: usize = 64;
/// The longest message of an observation, in bytes.
pub const MESSAGE_MAX: usize = 512;

/// One run of one probe, as a manager holds it: `begun` is on the manager's own clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observation {
    /// Who looked.
    pub watcher: WatcherId,
    /// At which VM.
    pub vm: VmId,
    /// Over which network.
    pub network: Network,
    /// With which probe.
    pub probe: ProbeName,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, as one word of the probe: `closed`, `wedged`, `timeout`; at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// The same for people; at most [`MESSAGE_MAX`] bytes.
    pub message: String,
    /// Who answered, where the probe can tell.
    pub identity: Option<Identity>,
    /// When the run began, at the latest (never in the future of what is true).
    pub begun: Moment,
    /// The ask that it answers, if any.
    pub asked: Option<Nonce>,
}

/// What came of asking a node's relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayOutcome {
    /// The relay answered.
    Reached,
    /// The node's address answered, but nothing listens there: the agent is not running.
    Refused,
    /// Nothing came back in time, though the connection stood: the agent is stalled.
    Stalled,
    /// No connection in time, or no route.
    Silent,
    /// The relay answered and turned the watcher away (grant, certificate).
    Denied,
}

/// One question to a node's relay, as a manager holds it.
///
/// The path is over the local bridge when the watcher lives on that node, else over the management network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayObservation {
    /// Who asked.
    pub watcher: WatcherId,
    /// Which node's relay.
    pub node: NodeId,
    /// What came of it.
    pub outcome: RelayOutcome,
    /// Managers that the node's agent hears, as its relay said; empty when it did not answer.
    pub hears: Vec<ManagerId>,
    /// When it began, at the latest.
    pub begun: Moment,
    /// The ask that it answers, if any.
    pub asked: Option<Nonce>,
}

/// How a watcher itself is; its word is discounted while it is sick.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WatcherHealth {
    /// Worst lateness of its own schedule in the last second.
    #[serde(with = "crate::duration", rename = "loop_lag_ms")]
    pub loop_lag: Duration,
    /// Per cent of time that its hypervisor kept from it (`/proc/stat`), 0 to 100.
    pub steal_percent: u8,
    /// Whether any reference target answered over the management network lately.
    pub management_reached: bool,
    /// Whether any reference target answered over the service network lately.
    pub service_reached: bool,
    /// Per mille of round trips over the management network that were lost lately, to targets that live.
    #[serde(default)]
    pub management_loss_per_mille: u16,
    /// The same over the service network, beyond the watcher's own node.
    #[serde(default)]
    pub service_loss_per_mille: u16,
    /// Its reference targets: watchers on other nodes, each over the networks that it is asked on.
    #[serde(default)]
    pub peers: Vec<PeerReach>,
}

impl WatcherHealth {
    /// Returns the health of a watcher that is well, and was told of no peers.
    pub fn well() -> Self {
        Self {
            loop_lag: Duration::ZERO,
            steal_percent: 0,
            management_reached: true,
            service_reached: true,
            management_loss_per_mille: 0,
            service_loss_per_mille: 0,
            peers: Vec::new(),
        }
    }
}

/// Whether a watcher reaches one of its peers over one network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerReach {
    /// The peer.
    pub peer: WatcherId,
    /// Over which network it is asked.
    pub network: Network,
    /// Whether it answered lately.
    pub reached: bool,
}

impl WatcherHealth {
    /// A loop that lags more than this cannot time anything.
    pub const LAG_MAX: Duration = Duration::from_secs(1);
    /// Steal above this means that silence may be its own.
    pub const STEAL_MAX_PERCENT: u8 = 50;

    /// Returns the share of round trips over `network` that are lost, in per mille.
    pub const fn loss_on(&self, network: Network) -> u16 {
        match network {
            Network::Management => self.management_loss_per_mille,
            Network::Service => self.service_loss_per_mille,
        }
    }

    /// Returns whether any of its peers answers it over `network`.
    pub fn reaches_a_peer_on(&self, network: Network) -> bool {
        self.peers.iter().any(|peer| peer.network == network && peer.reached)
    }

    /// Returns whether its word on silence over `network` counts.
    pub fn is_healthy_on(&self, network: Network) -> bool {
        let reached = match network {
            Network::Management => self.management_reached,
            Network::Service => self.service_reached,
        };
        reached && self.loop_lag <= Self::LAG_MAX && self.steal_percent <= Self::STEAL_MAX_PERCENT
    }
}
