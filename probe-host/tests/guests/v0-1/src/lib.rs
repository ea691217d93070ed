//! A probe as it was written for `vouch:probe@0.1.0`, for the tests of the probe host: it uses all that this contract has.
//! It is never shipped, and must not be moved to a newer contract: components like it are in the field.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

#[cfg(target_family = "wasm")]
mod glue;
