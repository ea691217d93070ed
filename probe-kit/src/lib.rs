//! What the author of a probe works with: look at a component, run it for real, and test it, without a cluster.
//!
//! ```text
//! project::create --build--> component
//! ProbeFile::open --check--> CheckReport
//!                 --Trial::start, run--> Ran (outcome or fault, and what was traced)
//!                                --bench--> Benched
//! ```
//!
//! [`testing`] is the same for the tests of an author. Everything runs in the host of the watchers, with real sockets
//! and the same limits and grants, so that what works here works there. It must never know a manager or a node: the
//! tests of an author's project are built with it.

pub mod bench;
mod build;
mod check;
pub mod fakes;
mod probe_file;
pub mod project;
mod ran;
mod recorder;
mod schema;
pub mod testing;
mod trial;

pub use bench::{Benched, Load, bench};
pub use build::{BuildError, build};
pub use check::{AtSilence, BrokenRule, CheckReport, Described, SettingsAnswer, check};
pub use fakes::Fake;
pub use probe_file::{OpenError, ProbeFile};
pub use ran::{Ran, TraceLine};
pub use schema::{Setting, settings as settings_of_schema};
pub use trial::{Aim, Plan, Trial, TrialError};
