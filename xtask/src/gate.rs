//! The gate (`cargo xtask ci`) and its counterpart that writes (`cargo xtask fix`).
//!
//! The gate runs every check even after one has failed and lists every failure; it never changes a source file.

use anyhow::{Context, Result};

use crate::{deps, licences, phases::Phases, shell, tests};

/// Runs every check, then every test.
pub(crate) fn ci() -> Result<()> {
    let mut phases = Phases::begin();
    checks(&mut phases);
    tests::phases(&mut phases);
    phases.finish("ci")
}

/// Writes what can be put right by itself.
pub(crate) fn fix() -> Result<()> {
    shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty"]))?;
    shell::run(shell::cargo().args(["fmt", "--all"]))
}

/// The checks that need no test to run.
fn checks(phases: &mut Phases) {
    let _ = phases.run("fmt", || shell::run(shell::cargo().args(["fmt", "--all", "--check"])));
    let _ = phases.run("deps", deps::check);
    let _ = phases.run("deny", deny);
    let _ = phases.run("clippy", || {
        shell::run(shell::cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
    });
}

/// Bans, licences and sources: by cargo-deny where it is installed, else by our own smaller check, which is said.
///
/// The advisory database is not asked: the gate has to give the same answer on a machine without a network.
fn deny() -> Result<()> {
    let cargo_home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let in_home = cargo_home.is_some_and(|home| home.join("bin/cargo-deny").is_file());
    if !in_home && shell::find_program("cargo-deny").is_none() {
        println!(
            "cargo-deny is not installed (`cargo install cargo-deny --locked` takes minutes), so licences and sources \
             are checked by xtask itself, and duplicate versions are not"
        );
        return licences::check();
    }
    shell::run(shell::cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
        .context("see deny.toml for what is allowed and why")
}
