//! What the shipped probes share: their settings, their time, their way to connect, the words of their findings.
//!
//! Plain Rust without the glue of the contract, so that it is tested on the host. What an answer means for a target each
//! probe decides for itself; only what means the same for all of them (no connection, a connection that leads to nothing) is
//! judged here.

mod budget;
mod connect;
mod conversation;
mod outcome;
mod probe;
mod settings;

pub use budget::Budget;
pub use connect::{ConnectError, connect};
pub use conversation::{Conversation, Interruption, is_wedged, not_connected};
pub use outcome::{Fault, Outcome, Sample, State};
pub use probe::{Address, Description, Probe};
pub use settings::Settings;
