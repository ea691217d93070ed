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

pub mod effect;
pub mod event;

pub use effect::{Ask, Effect, Proposal};
pub use event::{Event, Inventory, NodeEntry, NodeReport, Settlement, StreamChange, VmEntry, VmWord, WatcherEntry};
