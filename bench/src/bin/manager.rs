//! One manager, as `vouch manager run` starts it, without the rest of the `vouch` binary: that takes long to optimise.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use tokio_util::sync::CancellationToken;
use vouch_manager::Config;

/// The one of `vouch`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Args {
    /// Configuration of the manager
    config: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::load(&Args::parse().config, |_| None)?;
    vouch_manager::run(config, CancellationToken::new()).await?;
    Ok(())
}
