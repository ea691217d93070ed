//! What an operator may do about a VM. vouch advises; it never acts on a VM.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Generation, LogIndex};

/// What proves that a VM runs nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// Its node's power is off.
    PowerOff,
    /// Its node was fenced.
    Fenced,
    /// Its own node states that it is gone.
    Statement,
}

impl Proof {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerOff => "power_off",
            Self::Fenced => "fenced",
            Self::Statement => "statement",
        }
    }
}

/// How long advice that it is safe to start a VM elsewhere may be acted on after it was read.
pub const SAFE_VALID_FOR: Duration = Duration::from_secs(10);

/// What may be done about a VM now. Withdrawn by any later sign of life.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Advice {
    /// Nothing is to be done.
    #[default]
    None,
    /// Restart it in place: its own node proves it gone or hung.
    Restart {
        /// Placement generation that the proof speaks of.
        generation: Generation,
    },
    /// Restart it elsewhere: it provably runs nowhere.
    SafeToRestart {
        /// Placement generation that the proof speaks of.
        generation: Generation,
        /// What proves it.
        proof: Proof,
        /// Log index that holds the proof; 0 for the owner's statement, whose digest the verdict's evidence holds.
        index: LogIndex,
        /// How long after it was read it may be acted on; then it is to be read again.
        #[serde(with = "crate::duration", rename = "valid_for_ms")]
        valid_for: Duration,
    },
    /// Fence its node first: nothing proves that it does not run.
    FenceFirst {
        /// Placement generation at the time.
        generation: Generation,
    },
    /// Do nothing: it executes twice, or an operation is under way.
    Blocked,
}

impl Advice {
    /// Returns the word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Restart { .. } => "restart",
            Self::SafeToRestart { .. } => "safe_to_restart",
            Self::FenceFirst { .. } => "fence_first",
            Self::Blocked => "blocked",
        }
    }
}
