//! A guest that breaks the rules, for the tests of the probe host. It is never shipped.
//!
//! Its settings are an order, one JSON string: see `glue`.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

#[cfg(target_family = "wasm")]
mod glue;
