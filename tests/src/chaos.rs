//! Proof by history: three real managers in network namespaces, clients that read, write and watch, and a nemesis that
//! kills, pauses, cuts and replaces managers meanwhile. What the clients saw is then checked.
//!
//! Per key, a policy of a tag of its own, the recorded history of reads and writes has to be linearizable (stateright's
//! tester); the log of events has to be the same at every manager and hold every acknowledged write once; and who followed
//! it from manager to manager has to have seen exactly that. A seed decides what the nemesis does and when; how the
//! machine schedules it does not repeat.

mod cluster;
mod history;
mod nemesis;
mod play;
mod workload;

pub use cluster::Managers;
pub use history::{Call, History, Op, Return};
pub use nemesis::{Dice, Fault};
pub use play::{Outcome, Plan, play};
