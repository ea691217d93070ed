//! `cargo xtask demo`: does all the set-up, then plays the story on real guests; without root, QEMU or musl-tools it
//! says what is missing and plays it on `local`.

use anyhow::Result;

use crate::image::{self, Which};
use crate::{prerequisites, shell};

/// Whether the demo ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    Up,
    Once,
}

/// Builds what is needed and plays the story.
pub(crate) fn run(stay: Stay) -> Result<()> {
    prerequisites::ensure_rust_targets()?;
    let real = if shell::is_root() {
        prerequisites::ensure(prerequisites::BUILD)
            .and_then(|()| prerequisites::ensure(prerequisites::IMAGE))
            .and_then(|()| prerequisites::ensure(prerequisites::SYSTEM))
    } else {
        Err(anyhow::anyhow!("network namespaces and bridges need root"))
    };
    shell::run(shell::cargo().args(["build", "--locked"]))?;
    let once = match stay {
        Stay::Up => [].as_slice(),
        Stay::Once => ["--once"].as_slice(),
    };
    if let Err(why) = real {
        println!(
            "Real guests can't be had here: {why:#}.\nThe story is played on `local` instead: VMs are processes.\n"
        );
        let demo = ["run", "--locked", "--quiet", "-p", "vouch-tests", "--bin", "vouch-demo", "--", "--local"];
        return shell::run(shell::cargo().args(demo).args(once));
    }
    image::build(Which::Watcher)?;
    image::build(Which::Guest)?;
    let demo = ["run", "--locked", "--quiet", "-p", "vouch-tests", "--bin", "vouch-demo", "--"];
    shell::run(shell::cargo().args(demo).args(once))
}
