//! The `ping` probe: does the target answer echo requests?
//!
//! Weak evidence: many systems drop them by default. The host sends the packets; this probe only says how many, and what
//! the replies mean.

#![cfg_attr(target_family = "wasm", expect(unsafe_code, reason = "the glue of the component model is generated"))]

#[cfg(target_family = "wasm")]
mod glue;
mod samples;
mod series;
mod settings;

pub use samples::samples;
pub use series::{SeriesState, judge};
pub use settings::{PingSettings, SCHEMA};
