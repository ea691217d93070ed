//! Builds the simulator with optimisation and runs it with the rest of the arguments.

use anyhow::Result;

use crate::shell;

/// The profile of the simulator in the root manifest, and the folder of its binaries.
const PROFILE: &str = "sim";

/// Runs `vouch-sim` with these arguments; its exit code is an error when it is not 0.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--locked", "--quiet", "--profile", PROFILE, "--package", "vouch-sim"]))?;
    let mut simulator = std::process::Command::new(shell::target().join(PROFILE).join("vouch-sim"));
    shell::run(simulator.current_dir(shell::workspace()).args(arguments))
}
