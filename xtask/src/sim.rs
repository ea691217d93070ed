//! Builds the simulator with optimisation and runs it with the rest of the arguments; its tests run so as well.

use anyhow::Result;

use crate::shell;

/// The crate of the simulator.
pub(crate) const PACKAGE: &str = "vouch-sim";
/// The profile of the simulator in the root manifest, and the folder of its binaries.
const PROFILE: &str = "sim";

/// How the simulator is built to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Built {
    /// With the checks of a development build.
    Checked,
    /// For days of a large fleet: without those checks, and optimised as one, which takes minutes to build.
    Long,
}

impl Built {
    /// Returns the profile in the root manifest, and the folder of its binaries.
    const fn profile(self) -> &'static str {
        match self {
            Self::Checked => PROFILE,
            Self::Long => "long",
        }
    }
}

/// Builds `vouch-sim` and runs it with these arguments; its exit code is an error when it is not 0.
pub(crate) fn run(built: Built, arguments: &[String]) -> Result<()> {
    let build = ["build", "--locked", "--quiet", "--profile", built.profile(), "--package", PACKAGE];
    shell::run(shell::cargo().args(build))?;
    run_built(built, arguments)
}

/// Runs the `vouch-sim` that was built last with these arguments.
pub(crate) fn run_built(built: Built, arguments: &[String]) -> Result<()> {
    let mut simulator = std::process::Command::new(shell::target().join(built.profile()).join("vouch-sim"));
    shell::run(simulator.current_dir(shell::workspace()).args(arguments))
}

/// Builds `vouch-sim` and its tests.
pub(crate) fn build_tests(targets: &[&str]) -> Result<()> {
    shell::run(shell::cargo().args(["build", "--locked", "--profile", PROFILE, "--package", PACKAGE]).args(targets))
}

/// Runs the tests of the simulator: a play takes a tenth of the time that it takes without optimisation.
pub(crate) fn test(targets: &[&str]) -> Result<()> {
    let test = ["test", "--locked", "--profile", PROFILE, "--package", PACKAGE, "--no-fail-fast", "--quiet"];
    shell::run(shell::cargo().args(test).args(targets))
}
