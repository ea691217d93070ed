//! What a hypervisor can tell of a guest's inside without its help: whether it gets on, and what is done to it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a VM that executes makes progress, as the counters of its node say over the last seconds.
///
/// The node reads vCPU time, block operations, packets and steal, and reports the judgement and not the counters: the
/// counters of a healthy guest change all the time, and this does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// It reads, writes, sends, or uses its vCPUs now and then, as a living guest does.
    Working,
    /// Nothing moves: no vCPU time, no block operation, no packet sent.
    Still,
    /// Its vCPUs use all the time that there is, nothing else moves, and the host does not keep time from it.
    Spinning,
    /// The counters are not known, or the host keeps so much time from it that they say nothing.
    #[default]
    Unknown,
}

impl Progress {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Working => "working",
            Self::Still => "still",
            Self::Spinning => "spinning",
            Self::Unknown => "unknown",
        }
    }

    /// Returns whether it speaks for a guest that hangs.
    pub const fn is_stuck(self) -> bool {
        match self {
            Self::Still | Self::Spinning => true,
            Self::Working | Self::Unknown => false,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An operation on a VM that its hypervisor knows of and that excuses silence while it lasts (rule 6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// It moves to another node, or arrives from one (QEMU `query-migrate`).
    Migration,
    /// A snapshot or backup is taken (QEMU block jobs, `snapshot-save`).
    Snapshot,
    /// Its file systems are frozen (guest agent, `guest-fsfreeze-status`).
    FsFreeze,
}

impl Operation {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Migration => "migration",
            Self::Snapshot => "snapshot",
            Self::FsFreeze => "fs_freeze",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
