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
mod boots;
mod check;
mod coverage;
mod detector;
pub mod effect;
pub mod event;
mod evidence;
mod groups;
mod hand_backs;
mod incidents;
mod intake;
mod judge;
mod link_track;
mod loss;
mod node_track;
mod path_changes;
mod paths;
mod placements;
mod records;
mod silence;
mod suspicion;
mod verdicts;
pub mod view;
mod vm_table;
mod vm_track;
mod watcher_track;

pub use detector::Detector;
pub use effect::{Ask, Effect, Proposal, Weight};
pub use event::{
    DiskWord, Event, Inventory, LinkMeasure, NodeEntry, NodeReport, OpenIncident, Records, ServiceWord, Settlement,
    StreamChange, VmEntry, VmWord, WatcherEntry,
};
pub use paths::ASK_VMS_MAX;
pub use suspicion::SUSPECTS_MAX;
pub use verdicts::PROPOSALS_PER_TICK_MAX;
pub use view::{CheckView, VmEvidence};
pub use vm_track::{OBSERVERS_MAX, PROBES_MAX};
