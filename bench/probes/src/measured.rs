//! What was measured of one subject, and how a child process tells its parent.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// What one subject did in one round.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Checks that found their target up.
    pub(crate) runs: u64,
    /// Checks that did not.
    pub(crate) failed: u64,
    /// Processor time of the subject, user and system.
    pub(crate) cpu: Duration,
    /// The most memory that it had resident, in KiB; `None` where it is not known.
    pub(crate) peak_kib: Option<u64>,
}

impl Measured {
    /// Returns the processor time of one check, in microseconds.
    pub(crate) fn micros_per_run(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let runs = (self.runs + self.failed).max(1) as f64;
        self.cpu.as_secs_f64() * 1e6 / runs
    }

    /// Runs a child that tells one.
    ///
    /// # Errors
    /// When it fails or tells something else.
    pub(crate) fn of_child(command: &mut Command) -> Result<Self> {
        told_by(command)
    }

    /// Tells the parent.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn tell(&self) -> Result<()> {
        tell(self)
    }
}

/// Prints what a child has to tell.
pub(crate) fn tell(what: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// Runs a child and reads what it tells.
pub(crate) fn told_by<T: for<'a> Deserialize<'a>>(command: &mut Command) -> Result<T> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} tells nothing"))
}
