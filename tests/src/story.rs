//! The story that vouch exists for, told step by step on a stage: what is broken, what the managers say of it, how long
//! that took, and that nobody said more than is true.
//!
//! The steps know nothing of where they play: a [`Stage`] is a running cluster whose paths can be cut and whose parts
//! can be killed, on real QEMU guests or on `local`. Tests and the demo tell the same story.

mod claims;
mod events;
mod local;
mod qemu;
mod stage;
mod steps;

pub use claims::{Claim, Row, Shared, claim, open_incidents, well};
pub use events::{Cursor, Events};
pub use local::LocalStage;
pub use qemu::{OneWay, QemuStage, Scene};
pub use stage::{CUT, Expected, Profile, Stage, VM_ONE, VM_THREE, VM_TWO, WELL};
pub use steps::{
    Took, calm, calm_of, step_a, step_b, step_c, step_d_cable, step_d_process, step_e_rdp, step_e_watcher, whole,
};
