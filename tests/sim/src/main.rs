//! `vouch-sim`: plays simulations from the command line. `cargo xtask sim` builds it with optimisation and runs it.

#![expect(clippy::print_stderr, reason = "a command line tool talks to its terminal")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vouch_sim::cluster::commands::{self, ClusterCommand};

#[derive(Parser)]
#[command(name = "cargo xtask sim", about = "Plays clusters under virtual time against the fault table")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(flatten)]
    Cluster(ClusterCommand),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Cluster(command) => commands::run(&command),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
