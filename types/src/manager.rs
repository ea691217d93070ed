//! A manager as the membership of the control cluster records it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::Network;

/// Where a manager is reached; part of the Raft membership.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ManagerNode {
    /// Its mutually authenticated port per network, management first.
    pub addresses: Vec<(Network, SocketAddr)>,
    /// Base URL of its admin API, for people and for `Location` headers; empty when it serves none.
    pub api: String,
}

impl ManagerNode {
    /// Returns its address on `network`, if it has one there.
    pub fn address_on(&self, network: Network) -> Option<SocketAddr> {
        self.addresses.iter().find(|(n, _)| *n == network).map(|(_, a)| *a)
    }
}
