//! The driver of the detector: one task feeds it, and carries out its effects while this manager leads.

mod checks;
mod commands;
mod gathered;
mod inventory;
mod task;
mod views;

pub use commands::commands_of;
pub use inventory::{inventory_of, records_of};
pub(crate) use task::{DETECTOR_QUEUE, DetectorInput, DetectorTask, lease_check_interval};
pub(crate) use views::{Messages, RelayWord};
