//! The stores of a manager on a disk that fails: killed at any operation, the power cut, a disk that is full or refuses.
//!
//! A disk in memory ([`disk`]) is mounted by FUSE ([`fuse`]), and a process of its own writes into it ([`writer`]), so that
//! it can be killed between any two operations of the very code that runs in a manager. Where nothing can be mounted, the
//! tests say "skipped" and why. `cargo xtask powerloss --rounds N` plays many rounds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod disk;
mod disk_errors;
mod fuse;
mod power_loss;
mod upgrade;
mod writer;
