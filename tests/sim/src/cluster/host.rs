//! Who stands in the network: managers, compute nodes, watchers and VMs, by small numbers.
//!
//! Names and UUIDs of the product are made of these numbers and never the other way round, so that a schedule can name a
//! VM before the cluster exists.

use std::fmt;
use std::str::FromStr;

use vouch_types::{ManagerId, NodeId, VmId, WatcherId};

/// Number of a compute node, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeNo(pub u16);

/// Number of a VM, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VmNo(pub u32);

/// Number of a rack, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RackNo(pub u16);

impl NodeNo {
    /// Returns the node's id.
    pub fn id(self) -> NodeId {
        NodeId::new(&self.to_string()).expect("n and a number is a label")
    }

    /// Returns the number of a node of the simulation, if the id is of one.
    pub fn of(id: &NodeId) -> Option<Self> {
        id.as_str().parse().ok()
    }
}

impl VmNo {
    /// Returns the VM's id.
    pub fn id(self) -> VmId {
        VmId::new(uuid::Uuid::from_u128(self.0.into()))
    }

    /// Returns the number of a VM of the simulation.
    pub fn of(id: VmId) -> Self {
        Self(u32::try_from(id.get().as_u128()).unwrap_or(u32::MAX))
    }
}

macro_rules! lettered {
    ($name:ident, $letter:literal, $number:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let number = text.strip_prefix($letter).and_then(|n| n.parse::<$number>().ok()).filter(|n| *n > 0);
                number
                    .map(Self)
                    .ok_or_else(|| format!(concat!("{:?}: must be ", $letter, " and a number from 1"), text))
            }
        }
    };
}

lettered!(NodeNo, "n", u16);
lettered!(VmNo, "v", u32);
lettered!(RackNo, "r", u16);

/// Who stands in the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// A manager.
    Manager(ManagerId),
    /// A compute node: its agent and relay.
    Node(NodeNo),
    /// A watcher VM.
    Watcher(WatcherId),
    /// A VM.
    Vm(VmNo),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(id) => id.fmt(f),
            Self::Node(no) => no.fmt(f),
            Self::Watcher(id) => id.fmt(f),
            Self::Vm(no) => no.fmt(f),
        }
    }
}

/// Returns the manager of this number.
pub fn m(number: u64) -> ManagerId {
    ManagerId::new(number)
}

/// Returns the node of this number.
pub fn n(number: u16) -> NodeNo {
    NodeNo(number)
}

/// Returns the id of the VM of this number.
pub fn vm(number: u32) -> VmId {
    VmNo(number).id()
}
