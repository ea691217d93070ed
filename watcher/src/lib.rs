//! The watcher: a VM that vouch creates to watch others. What runs in it, as PID 1 or as a process of a host.
//!
//! ```text
//! boot (fw_cfg, cards, identity) --> driver (streams, runs, clock) <--events, effects--> logic (pure)
//! ```
//!
//! [`logic`] is the schedule, the ledger of latest observations and the answers to asks: no clock, no task, no socket, so
//! that a simulator drives the very same code. [`driver`] executes its effects over the seams of `wire` and a
//! [`ProbeRunner`](driver::ProbeRunner). [`boot`] brings up a machine that holds nothing else.
//!
//! A watcher only carries what others say: it decides nothing about a VM, and a check that could not be made is
//! `unknown`, never `down`.

#[cfg(feature = "run")]
pub mod boot;
#[cfg(feature = "run")]
pub mod compiled;
#[cfg(feature = "run")]
pub mod driver;
pub mod logic;
#[cfg(feature = "run")]
pub mod memory;
#[cfg(feature = "run")]
pub mod precompile;
#[cfg(feature = "run")]
pub mod shipped;
