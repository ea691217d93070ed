//! Tests of the stores, and the samples that these and the tests of consensus share.

mod codec;
mod damage;
mod log;
mod projection;
mod reopen;
pub(crate) mod samples;
mod snapshot;
mod suite;
