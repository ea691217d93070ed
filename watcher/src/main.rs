//! `vouch-watcher`: PID 1 of a watcher VM, a watcher as a process of a host, or the compiler of its probes.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tracing::error;
use tracing_subscriber::EnvFilter;
use vouch_watcher::boot::{self, Folders, pid1, read_boot};
use vouch_watcher::compiled::CompiledFolder;
use vouch_watcher::logic::RunLimit;
use vouch_watcher::memory;
use vouch_watcher::precompile::precompile;

/// A run allocates and frees some hundred times, and the allocator of musl takes a tenth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Watches virtual machines for vouch. As PID 1 it takes everything from its node and no arguments.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile the shipped probes ahead of time, for an image or a folder of a node.
    Precompile {
        /// Folder for NAME.cwasm and manifest.json.
        #[arg(long)]
        out: PathBuf,
    },
    /// Watch, as a process of this host.
    Run {
        /// Boot configuration that the node wrote (JSON).
        #[arg(long)]
        boot: PathBuf,
        /// Folder that `precompile` wrote.
        #[arg(long)]
        probes_dir: PathBuf,
        /// Folder for the native code of custom probes, which this watcher compiles: for that alone, and this user's alone.
        /// Made if it is not there. Without it, each watcher compiles what it needs.
        #[arg(long)]
        compiled_dir: Option<PathBuf>,
    },
}

/// The most native code of custom probes that is kept on a disk, in bytes.
const COMPILED_MAX: u64 = 64 << 20;

fn main() -> ExitCode {
    // Where it is refused, memory is all that is lost.
    let _ = memory::use_small_pages();
    if std::process::id() == 1 {
        pid1::open_console();
        log_to_stderr();
        let error = match watch_as_pid1() {
            Ok(never) => match never {},
            Err(error) => error,
        };
        error!(reason = format!("{error:#}"), "watcher ends");
        pid1::end_machine();
    }
    log_to_stderr();
    match command(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(reason = format!("{error:#}"), "watcher ends");
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> Result<()> {
    match command {
        Command::Precompile { out } => precompile(&out),
        Command::Run { boot, probes_dir, compiled_dir } => {
            let boot = read_boot(&boot)?;
            let compiled = compiled_dir.as_deref().map(|path| CompiledFolder { path, most_bytes: COMPILED_MAX });
            let folders = Folders { shipped: &probes_dir, compiled };
            // Where it may not, probes find no file at times, which says nothing of their targets.
            boot::allow_files_of(RunLimit::LEAST);
            match runtime()?.block_on(boot::start(boot, folders, RunLimit::LEAST))? {}
        }
    }
}

fn watch_as_pid1() -> Result<std::convert::Infallible> {
    let boot = pid1::set_up()?;
    let watch = async {
        let _reaper = tokio::spawn(pid1::reap());
        boot::start(boot, pid1::folders(), pid1::run_limit()).await
    };
    Ok(runtime()?.block_on(watch)?)
}

/// One thread runs all tasks: a watcher has one CPU, and every thread costs it memory.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("VOUCH_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
