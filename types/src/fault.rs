//! Faults and their ranked causes.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Network;

/// What broke. The words are those of the fault table.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "of")]
pub enum Cause {
    /// The path between the node's agent and the managers; the node itself works.
    ManagerNodePath,
    /// The node's uplink to one network.
    NodeUplink(Network),
    /// The path between the node's agent and one VM's monitor.
    NodeVmPath,
    /// The node's agent: dead or wedged.
    NodeAgent,
    /// The node's hypervisor service.
    Hypervisor,
    /// The node: off, or dead.
    Node,
    /// The node is cut from every network.
    NodeIsolated,
    /// The rack of the node.
    Rack,
    /// The VM's process on its node.
    VmProcess,
    /// The VM's operating system.
    GuestOs,
    /// The agent inside the VM.
    GuestAgent,
    /// The VM's network card or port.
    VmNic,
    /// A service inside the VM, by the name of the probe that checks it.
    Service(String),
    /// The VM's storage.
    Storage,
    /// A whole network.
    Network(Network),
    /// One direction of a path.
    OneWay {
        /// Who is not heard.
        from: String,
        /// Who does not hear.
        to: String,
    },
    /// A path that loses packets.
    LossyPath,
    /// A watcher VM.
    Watcher,
    /// A manager.
    Manager,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManagerNodePath => f.write_str("manager_node_path"),
            Self::NodeUplink(network) => write!(f, "node_uplink({network})"),
            Self::NodeVmPath => f.write_str("node_vm_path"),
            Self::NodeAgent => f.write_str("node_agent"),
            Self::Hypervisor => f.write_str("hypervisor"),
            Self::Node => f.write_str("node"),
            Self::NodeIsolated => f.write_str("node_isolated"),
            Self::Rack => f.write_str("rack"),
            Self::VmProcess => f.write_str("vm_process"),
            Self::GuestOs => f.write_str("guest_os"),
            Self::GuestAgent => f.write_str("guest_agent"),
            Self::VmNic => f.write_str("vm_nic"),
            Self::Service(name) => write!(f, "service({name})"),
            Self::Storage => f.write_str("storage"),
            Self::Network(network) => write!(f, "network({network})"),
            Self::OneWay { from, to } => write!(f, "one_way({from}, {to})"),
            Self::LossyPath => f.write_str("lossy_path"),
            Self::Watcher => f.write_str("watcher"),
            Self::Manager => f.write_str("manager"),
        }
    }
}

/// A cause with its weight among the causes of one fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RankedCause {
    /// What may have broken.
    pub cause: Cause,
    /// Per cent of the evidence that speaks for it, 0 to 100.
    pub score: u8,
}

/// One thing that is broken now: at least one cause, the likeliest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Ranked causes; never empty.
    pub causes: Vec<RankedCause>,
    /// How it shows, in one word where there is one: `closed`, `wedged`, `silent`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl Fault {
    /// Returns the fault with this one sure cause.
    pub fn sure(cause: Cause) -> Self {
        Self { causes: vec![RankedCause { cause, score: 100 }], detail: String::new() }
    }

    /// Returns the fault with these causes and scores.
    ///
    /// # Panics
    /// When `causes` is empty: a fault without a cause says nothing.
    pub fn weighed(causes: &[(Cause, u8)]) -> Self {
        let causes = causes.iter().map(|(cause, score)| RankedCause { cause: cause.clone(), score: *score });
        Self::ranked(causes.collect())
    }

    /// Returns the fault with these causes, ordered by score and, among equals, by cause.
    ///
    /// # Panics
    /// When `causes` is empty: a fault without a cause says nothing.
    pub fn ranked(mut causes: Vec<RankedCause>) -> Self {
        assert!(!causes.is_empty(), "a fault has at least one cause");
        causes.sort_by(|a, b| match b.score.cmp(&a.score) {
            Ordering::Equal => a.cause.cmp(&b.cause),
            other => other,
        });
        Self { causes, detail: String::new() }
    }

    /// Returns the fault with this word on how it shows.
    #[must_use]
    pub fn with_detail(mut self, detail: &str) -> Self {
        detail.clone_into(&mut self.detail);
        self
    }

    /// Returns the likeliest cause.
    pub fn top(&self) -> &Cause {
        &self.causes[0].cause
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.top())?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}
