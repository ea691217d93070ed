//! A fleet without Raft: one real detector, many real watchers, and models of nodes, VMs and two networks.
//!
//! Nothing here ever dies, so every `down` and every `lost` that is recorded is false: this is number N2 of the design.
//! It is driven by one queue of virtual events and one thread, and draws everything from one seed: a run replays
//! exactly.
//!
//! ```text
//!  SimNode ---- streams, heartbeats ----\                        /--> Detector (real) --> Records (State, real)
//!                                        >--> Ear (as the fleet) --> events      ^                 |
//!  SimWatcher: Logic (real) -- streams -/                                         \--- inventory --/
//!      \---- probes, relays over SimNetworks ----> VMs that all live
//! ```
//!
//! Real are the detector, the watchers' logic with the messages that it makes and takes, the conversion and dating of
//! those messages, and the replicated state that applies what is proposed. Models are the two networks, the streams
//! over them, the nodes' agents (whose reports are handed over as converted structs: encoding them costs and tells
//! nothing), and the managers' Raft, which commits everything after a fixed time. It must never know anything of the
//! detector but its events and effects.

pub mod command;
mod config;
mod draw;
mod ear;
mod echoes;
mod engine;
mod network;
mod node;
mod outcome;
mod queue;
mod records;
mod score;
mod stream;
mod truth;
mod watcher;

pub use config::FleetConfig;
pub use engine::SimFleet;
pub use score::Score;
