//! The `guest-agent` probe: does the agent inside the target answer?
//!
//! The question goes over the hypervisor's channel and is carried by the target's node, so it works without the target's
//! network. Silence of the agent alone says little: agents are stopped, frozen and not installed.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

mod answers;
#[cfg(target_family = "wasm")]
mod glue;
mod settings;

pub use answers::{COMMANDS, facts_of};
pub use settings::{GuestAgentSettings, SCHEMA};
