//! The pure heart of a watcher: events in, effects out. No async, no clock, no random number, no socket.
//!
//! [`Logic`] ties the parts together: [`Schedule`] says when checks are due, [`Ledger`] holds the latest observation of
//! each, [`Asks`] the questions that are open, [`Bursts`] the runs in flight for them, [`Places`] which runs may begin,
//! [`Ticks`] which tick of which manager came last. [`Peers`] watches other watchers.

mod asks;
mod assignment;
mod bursts;
mod checks;
mod durations;
mod echo_meter;
mod event;
mod health;
mod ledger;
mod loss;
mod message;
mod peers;
mod places;
mod probes;
mod run_limit;
mod running;
mod schedule;
mod sessions;
mod ticks;
mod watcher;

#[cfg(test)]
mod tests;

pub use asks::{ASKS_MAX, Answering, AskId, Asked, Asks, Serves};
pub use assignment::{Assigned, AssignmentError, CHECKS_MAX};
pub use bursts::{BURST_IN_FLIGHT_MAX, BURST_VMS_MAX, Bursts, WANTED_MAX};
pub use checks::{AssignedCheck, CheckNumber, Checks};
use durations::Durations;
pub use echo_meter::{Echo, EchoMeter};
pub use event::{
    Check, CheckSpec, CloseReason, Conduct, Effect, Ended, Event, ProbeSpec, RelaySpec, Run, RunId, SessionId,
};
pub use health::HealthState;
pub use ledger::{Entry, Ledger};
pub use loss::LossMeter;
pub use peers::{Came, EchoRound, Peers, RoundId};
pub use places::{Cause, Lane, Origin, Pace, Place, Places, WINDOW_FIRST};
pub use run_limit::RunLimit;
pub use schedule::{Planned, Schedule};
pub use ticks::{TickStamp, Ticks};
pub use watcher::Logic;
