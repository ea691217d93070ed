//! The `tcp` probe: is a port of the target open?
//!
//! It connects and closes, and sends nothing: an open port shows that the target's network stack accepts, not that a
//! service behind it works.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

#[cfg(target_family = "wasm")]
mod glue;
mod settings;

pub use settings::{SCHEMA, TcpSettings};
