//! The tasks of a watcher: streams to every manager, runs, and the clock. They execute what the logic orders.
//!
//! ```text
//! dial (one per manager and network) --inputs--> WatcherTask --effects--> streams, runs, probes
//! health sampler --------------------inputs------^
//! ```
//!
//! Nothing here decides when to look or what to say.

mod dial;
mod echo;
mod guest_agent;
mod health;
mod host_runner;
mod relay;
mod runner;
mod watcher_task;

#[cfg(test)]
mod tests;

pub use host_runner::{HostRunner, host_limits};
pub use runner::ProbeRunner;
pub use watcher_task::{WatcherConfig, WatcherParts, run};
