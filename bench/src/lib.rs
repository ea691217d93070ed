//! Benchmarks of the detector, and what they have in common: a fleet of which everything has been heard and is well.
//!
//! `benches/detector.rs` times single operations (criterion); `vouch-bench-curve` draws cost and memory against the number
//! of VMs. `cargo xtask bench detector` runs both. Nothing here is part of the product, and nothing here asserts a time.

pub mod fleet;
pub mod svg;
