//! What the shipped probes share: their settings, their time, their way to connect.
//!
//! Plain Rust without the glue of the contract, so that it is tested on the host. It must never decide what a result
//! means for a target: each probe does that for itself.

mod budget;
mod connect;
mod settings;

pub use budget::Budget;
pub use connect::{ConnectError, connect};
pub use settings::Settings;
