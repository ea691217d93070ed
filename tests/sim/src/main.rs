//! `vouch-sim`: plays simulations from the command line. `cargo xtask sim` builds it with optimisation and runs it.

#![expect(clippy::print_stderr, reason = "a command talks to its terminal")]

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "vouch-sim", about = "Plays the detector against models that have a truth")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A fleet of which nothing dies, over two bad networks: fails on any false `down` or `lost`
    N2(vouch_sim::fleet::command::N2),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::N2(n2) => vouch_sim::fleet::command::run(&n2),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
