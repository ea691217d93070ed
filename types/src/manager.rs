//! A manager as the membership and the state of the control cluster record it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{LogIndex, LogName, ManagerId, Network};

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

/// What the cluster remembers of a manager beside its membership.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManagerRecord {
    /// The manager.
    pub id: ManagerId,
    /// Its log, once it is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<RecordedLog>,
    /// How it is to come back, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<ManagerReturn>,
}

/// The name of a manager's log, and where in the log of the cluster it was recorded: a later record is the newer one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordedLog {
    /// The name.
    pub name: LogName,
    /// Where.
    pub index: LogIndex,
}

/// A manager that lost its log, on its way back: it is removed, added again, and given back what it had.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ManagerReturn {
    /// Where it is reached.
    pub node: ManagerNode,
    /// What it had.
    pub suffrage: Suffrage,
}

/// How the way back of a manager ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReturnEnd {
    /// It is what it was before.
    Returned,
    /// An operator removed it meanwhile.
    GivenUp,
}

/// Whether a member has a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suffrage {
    /// It has one.
    Voter,
    /// It receives the log and has none.
    Learner,
}
