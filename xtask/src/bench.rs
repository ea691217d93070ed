//! `cargo xtask bench`: the benchmarks, optimised; they print figures and judge nothing.

use anyhow::Result;
use clap::ValueEnum;

use crate::shell;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The detector: single operations, then cost and memory from 1,000 to 1,000,000 VMs, with a plot
    Detector,
}

/// Builds and runs the benchmarks.
pub(crate) fn run(what: What) -> Result<()> {
    match what {
        What::Detector => {
            let bench = ["bench", "--locked", "-p", "vouch-bench", "--profile", "sim", "--bench", "detector"];
            shell::run(shell::cargo().args(bench))?;
            let curve = ["run", "--locked", "-p", "vouch-bench", "--profile", "sim", "--bin", "vouch-bench-curve"];
            shell::run(shell::cargo().args(curve))
        }
    }
}
