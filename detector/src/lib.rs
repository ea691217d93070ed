//! The heart of vouch: evidence in, verdicts and effects out.
//!
//! [`Detector::handle`] is the only door. It takes the moment and one [`Event`] and hands back [`Effect`]s; it reads
//! no clock, draws no random number, touches no file or socket, and the same events in the same order always give
//! the same effects (I8). Each manager feeds one; only the leader's effects are carried out.
//!
//! ```text
//!  Event --> evidence (per observer, VM, network, probe) --> judge (pure) --> verdict --> Effect::Propose
//!        --> paths    (per node and manager)             --> judge (pure) --> path    --/
//! ```

mod asks;
mod detector;
pub mod effect;
pub mod event;
mod intake;
mod judge;
mod node_track;
mod paths;
mod silence;
mod verdicts;
pub mod view;
mod vm_track;
mod watcher_track;

pub use detector::Detector;
pub use effect::{Ask, Effect, Proposal};
pub use event::{
    Event, Inventory, LinkMeasure, NodeEntry, NodeReport, OpenIncident, ServiceWord, Settlement, StreamChange, VmEntry,
    VmWord, WatcherEntry,
};
pub use paths::ASK_VMS_MAX;
pub use view::{CheckView, VmEvidence};
pub use vm_track::{OBSERVERS_MAX, PROBES_MAX};
