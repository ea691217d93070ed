//! `cargo xtask`: the developer commands of vouch.
//!
//! One entry for everything that a developer or a CI machine runs, so that both run the same. Nothing here is part of
//! the product, and nothing here depends on it: what has to be built is built by calling cargo.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool for developers talks to its terminal"
)]

mod bench;
mod chaos;
mod demo;
mod deps;
mod gate;
mod image;
mod languages;
mod licences;
mod metadata;
mod phases;
mod powerloss;
mod prerequisites;
mod shell;
mod sim;
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of vouch")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The gate: formatting, clippy, licences and sources, import rules, then every test. Never writes to the sources
    Ci,
    /// Writes what the gate would complain about: formatting and the fixes that clippy can make by itself
    Fix,
    /// Checks who may depend on whom
    Deps,
    /// Installs what is missing, builds everything, runs the unit tests and then the whole-system tests
    Test,
    /// Does all the set-up and plays the story on real guests, or on `local` where those can't be had
    Demo {
        /// End after the story instead of leaving the cluster up
        #[arg(long)]
        once: bool,
    },
    /// Runs benchmarks: figures for people, nothing passes or fails
    Bench {
        #[arg(value_enum)]
        what: bench::What,
    },
    /// Kills a writing manager, or cuts its power, at random operations; fails if anything that it acknowledged is lost
    Powerloss {
        /// How many times
        #[arg(long, default_value_t = 500)]
        rounds: u64,
        /// The first seed; each round has the next one
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Builds the image of the watcher VM, or of another machine, into target/images
    Image {
        #[arg(value_enum, default_value = "watcher")]
        which: image::Which,
    },
    /// Builds the simulator with optimisation and runs it: `sim run|explore|row|score ...`, `sim --help`
    #[command(disable_help_flag = true)]
    Sim {
        /// Without the checks of a development build, for hours of a large fleet: `sim --long n2`
        #[arg(long)]
        long: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Plays real managers against a nemesis and checks the history: `chaos --seed N --minutes M`; needs root
    Chaos {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Ci => gate::ci(),
        Command::Fix => gate::fix(),
        Command::Deps => deps::check(),
        Command::Test => tests::run(),
        Command::Demo { once } => demo::run(if once { demo::Stay::Once } else { demo::Stay::Up }),
        Command::Bench { what } => bench::run(what),
        Command::Powerloss { rounds, seed } => powerloss::run(rounds, seed),
        Command::Image { which } => image::build(which),
        Command::Sim { long, arguments } => {
            sim::run(if long { sim::Built::Long } else { sim::Built::Checked }, &arguments)
        }
        Command::Chaos { arguments } => chaos::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
