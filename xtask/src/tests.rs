//! `cargo xtask test`: from a clean checkout to the last whole-system test.
//!
//! Everything is built before the first test runs, so that nothing compiles while time is measured; the simulator and
//! its tests are built with optimisation, everything else as it is developed. The whole-system tests run one at a
//! time, since each of them is a whole cluster.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::{
    image::{self, Which},
    languages,
    metadata::Metadata,
    phases::{Phases, Went},
    prerequisites, shell, sim,
};

/// The crate of the whole-system tests.
const SYSTEM: &str = "vouch-tests";
/// What is built as it is developed: all but the simulator, which has a profile of its own.
///
/// All calls of cargo name the same crates: cargo unites the features of those that are named, and would build what they
/// depend on anew for another selection.
const CRATES: [&str; 3] = ["--workspace", "--exclude", sim::PACKAGE];
/// What is tested of each crate; there are no examples in the documentation that would have to compile.
const TARGETS: [&str; 3] = ["--lib", "--bins", "--tests"];

/// Runs all phases; the last line is the summary.
pub(crate) fn run() -> Result<()> {
    let mut phases = Phases::begin();
    self::phases(&mut phases);
    phases.finish("test")
}

/// Adds the phases of the tests to a run.
pub(crate) fn phases(phases: &mut Phases) {
    let set_up = phases.run("set-up", || {
        prerequisites::ensure_room()?;
        prerequisites::ensure_rust_targets()?;
        prerequisites::ensure(prerequisites::BUILD)?;
        prerequisites::ensure(prerequisites::IMAGE)?;
        languages()?;
        servers()?;
        system_tools()
    });
    if set_up == Went::Wrong {
        return;
    }
    let build = phases.run("build", || {
        // One call for all: what is built with the tests of another selection of crates would be built twice.
        shell::run(shell::cargo().args(["build", "--locked"]).args(CRATES).args(TARGETS))
    });
    let build_sim = phases.run("build the simulator", || sim::build_tests(&TARGETS));
    let _ = phases.run("fuzz targets", fuzz_targets);
    let _ = phases.run("image watcher", || image::build(Which::Watcher));
    let _ = phases.run("image guest", || image::build(Which::Guest));
    if build == Went::Well {
        let _ = phases.run("unit tests", || {
            let metadata = Metadata::read()?;
            let tests = metadata.integration_tests(|name| name != SYSTEM && name != sim::PACKAGE);
            test(["--lib", "--bins"].into_iter().chain(chosen(&tests)), &["--quiet"], &[])
        });
    }
    if build_sim == Went::Well {
        let _ = phases.run("tests of the simulator", || sim::test(&TARGETS));
        let _ = phases.run("a fleet of 1,000 VMs for an hour", || {
            // Each network is the bad one once; any false `down` or `lost` is an error.
            sim::run_built(sim::Built::Checked, &fleet(&["--loss-management", "1", "--loss-service", "30"]))?;
            sim::run_built(sim::Built::Checked, &fleet(&["--loss-management", "30", "--loss-service", "1"]))
        });
    }
    if build == Went::Well {
        let _ = phases.run("whole-system tests", || {
            let metadata = Metadata::read()?;
            let tests = metadata.integration_tests(|name| name == SYSTEM);
            test(chosen(&tests), &[], &["--test-threads=1", "--nocapture"])
        });
    }
}

/// Checks that the fuzz targets, a workspace of their own, still compile against what they feed. They are run by hand.
fn fuzz_targets() -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["check", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    shell::run(cargo.arg(shell::target().join("fuzz")))
}

/// Runs the tests of these targets of all crates but the simulator.
fn test<'a>(targets: impl Iterator<Item = &'a str>, options: &[&str], of_the_tests: &[&str]) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--locked", "--no-fail-fast"]).args(CRATES).args(options).args(targets);
    shell::run(cargo.arg("--").args(of_the_tests))
}

/// Returns the arguments that choose these integration tests.
fn chosen<'a>(tests: &'a BTreeSet<&str>) -> impl Iterator<Item = &'a str> {
    tests.iter().flat_map(|&name| ["--test", name])
}

/// The arguments of the simulator for a fleet over these networks.
fn fleet(networks: &[&str]) -> Vec<String> {
    let size = ["n2", "--vms", "1000", "--nodes", "20", "--hours", "1", "--seed", "1"];
    size.iter().chain(networks).map(|&text| text.to_owned()).collect()
}

/// What probes in other languages are built with: as with the tools of the whole-system tests, only CI cannot do without.
fn languages() -> Result<()> {
    for (language, ensured) in [("C", languages::ensure_c()), ("JavaScript", languages::ensure_js())] {
        match ensured {
            Err(error) if prerequisites::in_ci() => return Err(error),
            Err(error) => println!("note: {error:#}. The test of probes in {language} will be left out"),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// The servers that the shipped probes are tested against.
fn servers() -> Result<()> {
    match prerequisites::ensure_servers() {
        Err(error) if !prerequisites::in_ci() => {
            println!("note: {error:#}. The tests of probes on these servers will be left out");
            Ok(())
        }
        ensured => ensured,
    }
}

/// The tools of the whole-system tests. A machine of a developer without root can do without them, as the tests that
/// need them say when they are left out; in CI nothing may be left out.
fn system_tools() -> Result<()> {
    let in_ci = prerequisites::in_ci();
    match prerequisites::ensure(prerequisites::SYSTEM) {
        Err(error) if in_ci => Err(error),
        Err(error) => {
            println!("note: {error:#}. The tests on QEMU will be left out");
            Ok(())
        }
        Ok(()) if in_ci && !shell::is_root() => bail!("CI=true, but the tests on QEMU need root"),
        Ok(()) => Ok(()),
    }
}
