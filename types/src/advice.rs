//! What an operator may do about a VM. vouch advises; it never acts on a VM.

use serde::{Deserialize, Serialize};

use crate::{Generation, LogIndex};

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
        /// Log index that holds the proof.
        proof: LogIndex,
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
