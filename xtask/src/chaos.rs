//! `cargo xtask chaos`: real managers in network namespaces against a nemesis; the history is checked afterwards.

use anyhow::Result;

use crate::{prerequisites, shell};

/// Builds what is needed and plays one run.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    prerequisites::ensure_rust_targets()?;
    prerequisites::ensure(prerequisites::SYSTEM)?;
    shell::run(shell::cargo().args(["build", "--locked"]))?;
    let chaos = ["run", "--locked", "--quiet", "-p", "vouch-tests", "--bin", "vouch-chaos", "--"];
    shell::run(shell::cargo().args(chaos).args(arguments))
}
