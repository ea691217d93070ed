//! The replicated manager: one process of the control cluster. Every manager hears every node and watcher; only the
//! leader decides.

pub mod api;
pub mod raft;
pub mod store;
