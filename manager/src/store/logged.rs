//! A command as the log holds it: as a value, which is applied, and as the text that it was proposed as.
//!
//! The text is what the disk and the other managers get, unchanged: a command is written once, by who proposes it, and read
//! once by each manager, however often it is handed on. Clones share both.

use std::fmt;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use vouch_types::Command;

use super::codec::{CodecError, decode};

struct Inner {
    command: Command,
    text: Box<RawValue>,
}

/// A command with the text that it was proposed as.
#[derive(Clone)]
pub struct Logged(Arc<Inner>);

impl Logged {
    /// Returns the command that this text stands for.
    ///
    /// # Errors
    /// [`CodecError`] when it stands for none.
    pub fn read(text: &[u8]) -> Result<Self, CodecError> {
        decode("command", text)
    }

    /// Returns the text.
    pub fn text(&self) -> &str {
        self.0.text.get()
    }

    /// Returns the command.
    pub fn command(&self) -> &Command {
        &self.0.command
    }
}

impl From<Command> for Logged {
    fn from(command: Command) -> Self {
        let text = serde_json::value::to_raw_value(&command).expect("each command has a form in JSON");
        Self(Arc::new(Inner { command, text }))
    }
}

impl PartialEq for Logged {
    fn eq(&self, other: &Self) -> bool {
        self.command() == other.command()
    }
}

impl Eq for Logged {}

impl fmt::Debug for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command().fmt(f)
    }
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command().fmt(f)
    }
}

impl Serialize for Logged {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Logged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let command = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        Ok(Self(Arc::new(Inner { command, text })))
    }
}
