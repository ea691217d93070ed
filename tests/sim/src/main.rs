//! `vouch-sim`: plays simulations from the command line. `cargo xtask sim` builds it with optimisation and runs it.

#![expect(clippy::print_stderr, reason = "a command line tool talks to its terminal")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vouch_sim::cluster::commands::{self, ClusterCommand};
use vouch_sim::fleet;

/// A fleet's events are millions of small allocations a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "cargo xtask sim",
    about = "Plays managers and watchers under virtual time against models that have a truth"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Cluster(ClusterCommand),
    /// A fleet of which nothing dies, over two bad networks: fails on any false `down` or `lost`
    N2(fleet::command::N2),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Cluster(command) => commands::run(&command),
        Command::N2(n2) => fleet::command::run(&n2).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
