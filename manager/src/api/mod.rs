//! The admin API: HTTP on every manager, for people, their tools and the `vouch` command.
//!
//! It shows the replicated state and what this manager has in memory ([`live`]), and hands writes to the leader. It
//! decides nothing, and serves nothing as fresh that it cannot prove to be.

pub mod live;
pub mod view;

pub use live::{CheckError, InitError, LiveView, Metric, MetricKind, Readiness};
