//! Benchmarks, and what they have in common.
//!
//! Of the detector: a fleet of which everything has been heard and is well.
//! `benches/detector.rs` times single operations (criterion); `vouch-bench-curve` draws cost and memory against the number
//! of VMs. `cargo xtask bench detector` runs both. Of the replicated manager: `vouch-bench-writes` measures durable
//! replicated writes side by side with etcd, and how long a killed leader is missed. Nothing here is part of the product, and nothing here asserts a time.

pub mod fleet;
pub mod svg;
pub mod writes;
