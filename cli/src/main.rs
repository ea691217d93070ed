//! The `vouch` command: manager, node, the loopback cluster, and everything that an operator asks of a cluster.
//!
//! It parses, calls one command, and turns what went wrong into one report and an exit code. Commands live in
//! `commands/`, the loopback cluster in `dev/`; nothing here decides anything.

mod args;
mod client;
mod commands;
mod dev;
mod exit;
mod output;
mod private_file;
mod tell;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use exit::{CliError, Exit};

/// A manager makes many small allocations per write, across threads: with the allocator of the C library it takes a quarter
/// fewer of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(e) => e.report(),
    }
}

fn run(cli: Cli) -> Result<Exit, CliError> {
    let done = match cli.command {
        // What a probe finds is told by the exit code too.
        Command::Probe(command) => return commands::probe::run(&cli.global, &command),
        Command::Manager(args) => commands::daemon::manager(&args),
        Command::Node(args) => match args.command {
            None => commands::daemon::node(&args.run),
            Some(command) => commands::node::run(&cli.global, &command),
        },
        Command::LocalVm(args) => commands::daemon::local_vm(args),
        Command::Dev(args) => dev::run(&args),
        Command::Pki(command) => commands::pki::run(&cli.global, &command),
        Command::Cluster(command) => commands::cluster::run(&cli.global, &command),
        Command::Token(command) => commands::token::run(&cli.global, &command),
        Command::Join(args) => commands::join::run(&args),
        Command::Vm(command) => commands::vm::run(&cli.global, &command),
        Command::Incident(command) => commands::incident::run(&cli.global, &command),
        Command::Trace(args) => commands::trace::run(&cli.global, &args),
        Command::Policy(command) => commands::policy::run(&cli.global, &command),
        Command::Maintenance(command) => commands::maintenance::run(&cli.global, &command),
        Command::Watcher(command) => commands::watcher::run(&cli.global, &command),
        Command::Event(command) => commands::event::run(&cli.global, &command),
        Command::Debug(command) => commands::debug::run(&cli.global, &command),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "vouch", &mut std::io::stdout());
            Ok(())
        }
    };
    done.map(|()| Exit::Ok)
}

#[cfg(test)]
mod tests;
