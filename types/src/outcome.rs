//! What one check of a target came to.

use serde::{Deserialize, Serialize};

/// Outcome of one observation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The target answered as it should.
    Up,
    /// The target answered, but not as it should.
    Degraded,
    /// The target did not answer, or refused.
    Down,
    /// The check could not run, so it says nothing about the target. Never counts as `Down`.
    Unknown,
}

impl Outcome {
    /// Returns whether the target gave any sign of life.
    pub const fn is_sign_of_life(self) -> bool {
        match self {
            Self::Up | Self::Degraded => true,
            Self::Down | Self::Unknown => false,
        }
    }
}
