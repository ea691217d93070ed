//! The replicated manager: one process of the control cluster. Every manager hears every node and watcher; only the
//! leader decides.
//!
//! ```text
//!  nodes, watchers, managers --> fleet --> detect --> raft --> store --> api
//!                                  ^                            |
//!                                  \------- background <-------/
//! ```
//!
//! [`Manager`] puts the parts together over seams that a simulator can replace; [`run`](run::run) is the real process.

pub mod api;
pub mod background;
pub mod backup;
mod ca_rotation;
mod certificates;
pub mod config;
pub mod counters;
pub mod data_folder;
pub mod data_format;
pub mod detect;
pub mod raft;
pub mod run;
pub mod seams;
pub mod store;

mod admission;
mod enroll;
mod fleet;
mod join;
mod join_limit;
mod live_view;
mod manager;
mod members;
mod secrets;
mod service;

pub use config::{Config, ConfigError};
pub use manager::{CaKeys, Manager, ManagerHandle, Parts, ShippedProbe, SubmitError};
pub use run::{RunError, run};
