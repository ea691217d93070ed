//! Where the harness finds what was built, and where it leaves its logs.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// Returns the folder where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
}

/// Returns the `vouch` binary: that of the same profile as the tests, or the one in `VOUCH_BIN`.
///
/// # Errors
/// Fails if it isn't built, with the command that builds it.
pub fn vouch() -> Result<PathBuf> {
    if let Some(file) = env::var_os("VOUCH_BIN") {
        return Ok(file.into());
    }
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let file = target().join(profile).join("vouch");
    if !file.is_file() {
        bail!("{} is not there: run `cargo build` first (`cargo xtask test` does)", file.display());
    }
    Ok(file)
}

/// Returns where a program is; the sbin folders count even if PATH lacks them.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// What a test does where something that it needs can't be had: says so, for the test to end; in CI (`CI=true`) nothing
/// may be left out.
///
/// # Panics
/// In CI.
#[expect(clippy::print_stderr, reason = "a test that is left out says so where the tests' output goes")]
pub fn leave_out(test: &str, why: &str) {
    let in_ci = env::var_os("CI").is_some_and(|value| value == "true");
    assert!(!in_ci, "{test} can't run: {why}, and in CI nothing is left out");
    eprintln!("SKIPPED {test}: {why}");
}

/// Returns the folder of an image, `watcher` or `guest`.
///
/// # Errors
/// Fails if it isn't built, with the command that builds it.
pub fn image(name: &str) -> Result<PathBuf> {
    let folder = target().join("images").join(name);
    if !folder.join("manifest.json").is_file() {
        bail!("{} is not there: run `cargo xtask image {name}` first (`cargo xtask test` does)", folder.display());
    }
    Ok(folder)
}

/// Returns an empty folder for the logs of one test; the logs of its last run are gone.
///
/// # Errors
/// Fails if it can't be made.
pub fn logs(test: &str) -> Result<PathBuf> {
    let folder = target().join("test-logs").join(test);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}
