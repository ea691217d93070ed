//! A VM as its node describes it, and as the cluster records it.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Generation, LogIndex, Network, NodeId, Outcome, ProbeName, SortedMap, StartId, Verdict, VmId};

/// The most probes that one VM may have.
pub const PROBES_PER_VM_MAX: usize = 8;
/// The most addresses that one VM may have per network.
pub const ADDRESSES_MAX: usize = 8;

/// The longest settings of a probe, in bytes (JSON).
pub const SETTINGS_MAX: usize = 4_096;

/// One probe that is to be run against a VM.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeAssignment {
    /// The probe.
    pub probe: ProbeName,
    /// Over which network the target is reached.
    pub network: Network,
    /// The probe's settings: a JSON object, checked by the probe's `validate`.
    #[serde(default = "empty_settings")]
    pub settings: String,
}

fn empty_settings() -> String {
    "{}".to_owned()
}

/// Who answered a probe: a digest of what identifies the answering machine (the key of its RDP certificate, say).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(u64);

impl Identity {
    /// Returns the identity of this number: the first eight bytes of a SHA-256, big endian.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// The identity that a probe is to find.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Pin {
    /// With which probe.
    pub probe: ProbeName,
    /// Over which network.
    pub network: Network,
    /// Whom it found first.
    pub identity: Identity,
}

/// The reason of an answer that is another machine's.
pub const REASON_IDENTITY: &str = "identity";

impl Pin {
    /// Returns whether this sign of life is of another machine than the one that was found first.
    pub fn is_of_another(
        pins: &[Self],
        network: Network,
        probe: &ProbeName,
        outcome: Outcome,
        found: Option<Identity>,
    ) -> bool {
        let pin = pins.iter().find(|pin| pin.network == network && pin.probe == *probe);
        let other = pin.is_some_and(|pin| found.is_some_and(|found| pin.identity != found));
        other && outcome.is_sign_of_life()
    }
}

/// What a node knows of one of its VMs from the user's files or the hypervisor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VmSpec {
    /// The hypervisor's UUID.
    pub id: VmId,
    /// What people call it.
    pub name: String,
    /// Its addresses per network, first the one that probes use; at most [`ADDRESSES_MAX`] each.
    pub addresses: SortedMap<Network, Vec<IpAddr>>,
    /// The probes to run; at most [`PROBES_PER_VM_MAX`].
    pub probes: Vec<ProbeAssignment>,
    /// Free labels.
    #[serde(default)]
    pub labels: SortedMap<String, String>,
    /// The store of its disks, if it has any.
    #[serde(default)]
    pub datastore: Option<String>,
}

/// How the boot of a guest began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootKind {
    /// With a new process.
    Start,
    /// From inside.
    Reboot,
}

/// The boot of a guest that is under way.
///
/// What is left is counted from the moment at which the command that recorded it was applied, on the clock of whoever
/// applied it: the clocks of two managers are never compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BootRecord {
    /// How it began.
    pub kind: BootKind,
    /// Of which start of the VM.
    pub start: StartId,
    /// What is left of its budget; zero once that is over and nothing has answered.
    #[serde(with = "crate::duration", rename = "left_ms")]
    pub left: Duration,
}

/// The most other nodes whose claim on one VM is kept.
pub const CLAIMS_MAX: usize = 4;

/// A VM as the cluster records it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VmRecord {
    /// As its owner described it.
    pub spec: VmSpec,
    /// The node that owns it.
    pub node: NodeId,
    /// Placement generation, from 1.
    pub generation: Generation,
    /// The last verdict.
    pub verdict: Verdict,
    /// Probes that have succeeded at least once: only these ever count against it.
    pub proven: Vec<ProbeAssignment>,
    /// Whom its probes found behind its addresses the first time; another one's answer is not its own.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// The boot of its guest, while one is under way. Left out while there is none: the hash of a state is then what an
    /// earlier version makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootRecord>,
    /// Other nodes that executed it by the last that was heard of them: it may run there as well. Left out while there are
    /// none, as a boot is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed_by: Vec<NodeId>,
    /// The index at which any of this last changed.
    #[serde(default)]
    pub modified: LogIndex,
}
