//! The simulator: the real detector, managers and watchers under virtual time, against models that have a truth.
//!
//! [`cluster`] drives whole managers with Raft over a simulated network, for the fault table and its scores; [`fleet`]
//! drives one detector and many watchers without Raft, for large numbers of VMs over long times. What is a model here
//! is called `Sim*`; everything else is the code that is deployed. A seed replays exactly.

pub mod cluster;
pub mod fleet;
