//! Whole managers with Raft, real watcher logic, and models of nodes, VMs and networks, under virtual time.
//!
//! ```text
//!  schedule --> fault --> world (network, node, guest) <-- agent, watcher, probes --> managers
//!                           |                                                            |
//!                         truth ------------------> oracle <---------------------- published
//! ```

pub mod agent;
pub mod guest;
pub mod host;
pub mod network;
pub mod node;
pub mod probes;
pub mod sim;
pub mod watcher;
pub mod world;
