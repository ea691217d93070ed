//! Proofs from outside that a node does not run: what alone makes it safe to start its VMs elsewhere.

use serde::{Deserialize, Serialize};

use crate::{BootId, LogIndex, WallTime};

/// The longest note of a proof, in bytes.
pub const PROOF_NOTE_MAX: usize = 256;

/// How a node is known not to run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceKind {
    /// Its power is off, as its management controller or somebody on the spot says.
    PowerOff,
    /// It was fenced: a fence agent acknowledged that it cannot reach storage or network any more.
    Fenced,
}

impl FenceKind {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerOff => "power_off",
            Self::Fenced => "fenced",
        }
    }
}

/// A proof that one boot of a node does not run. It is withdrawn by any word of the node or a new boot id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FenceProof {
    /// How it is known.
    pub kind: FenceKind,
    /// The boot that it speaks of.
    pub boot: BootId,
    /// What its bringer added; at most [`PROOF_NOTE_MAX`] bytes.
    pub note: String,
    /// Log index that holds it.
    pub index: LogIndex,
    /// When.
    pub at: WallTime,
}
