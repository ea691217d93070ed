//! What guards an operator's write: the version that it was promised to find, and the key that makes it happen once.
//!
//! Both travel with the command and are judged where it is applied, so that nothing can come between the check and the
//! write, whoever leads.

use serde::{Deserialize, Serialize};

use crate::{Digest, LogIndex, WallTime};

/// The longest key that makes a write happen once, in bytes.
pub const ONCE_KEY_MAX: usize = 255;

/// What a write must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// What it writes must be there, in whatever version.
    Existing,
    /// It must be as it was at this index.
    At(LogIndex),
}

/// A write that happens once, however often it is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Once {
    /// What its sender calls it; 1 to [`ONCE_KEY_MAX`] bytes.
    pub key: String,
    /// SHA-256 of what was asked for: the same key with something else is a mistake.
    pub request: Digest,
}

/// What guards a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Guard {
    /// What it must find, if it says so.
    pub expects: Option<Expected>,
    /// What makes it happen once, if it asks for that.
    pub once: Option<Once>,
    /// When, on the proposing leader's wall clock: keys are forgotten by it.
    pub at: WallTime,
}
