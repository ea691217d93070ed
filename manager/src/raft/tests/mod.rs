//! Tests of consensus: three managers over links in memory, on one thread and a paused clock.

pub(crate) mod cluster;
mod determinism;
mod elections;
mod membership;
mod restart;
mod snapshots;
