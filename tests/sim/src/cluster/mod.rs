//! Whole managers with Raft, real watcher logic, and models of nodes, VMs and networks, under virtual time.
//!
//! ```text
//!  schedule --> fault --> world (network, node, guest) <-- agent, watcher, probes --> managers
//!                           |                                                            |
//!                         truth ------------------> oracle <---------------------- published
//! ```

pub mod agent;
pub mod baselines;
pub mod commands;
pub mod echoes;
pub mod fault;
pub mod guest;
mod heartbeats;
pub mod host;
pub mod invariants;
pub mod network;
pub mod node;
pub mod oracle;
pub mod play;
pub mod pool;
pub mod probes;
pub mod published;
pub mod row;
pub mod schedule;
pub mod score;
pub mod sim;
pub mod trial;
pub mod truth;
pub mod watcher;
pub mod world;
