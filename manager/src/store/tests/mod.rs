//! Tests of the stores, and the samples that these and the tests of consensus share.

mod codec;
mod log;
mod projection;
pub(crate) mod samples;
mod snapshot;
mod suite;
