//! `vouch-bench-probes`: what a check costs in the shipped probes, beside blackbox_exporter, fping and native Rust, and what
//! a watcher with 500 VMs takes.
//!
//! ```text
//! this program --starts--> services (the targets)
//!              --starts, in turns--> load (shipped probes; the same natively), blackbox_exporter, fping
//!              --starts--> watch (the driver of a watcher)
//! ```
//!
//! Every subject is a process of its own, so that its processor time and memory are its alone. What answers lives in
//! another one and is not counted. It prints figures and judges nothing.

#![expect(clippy::print_stdout, reason = "a command talks to its terminal")]

mod blackbox;
mod fping;
mod load;
mod measured;
mod native;
mod process;
mod services;
mod table;
mod targets;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use load::{Check, Load, Way};
use measured::Measured;
use services::{Ports, Services};
use watch::{Fleet, Watch, Watched};

/// What a watcher VM of 256 MiB, the default, begins with: it has more places than a watcher that is a process.
const FREE_MIB: Option<u64> = Some(153);

/// The one of the watcher.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures everything, in turns, and prints the tables
    Compare(Compare),
    /// Measures one subject: how this program calls itself
    #[command(hide = true)]
    Load(Load),
    /// Runs a watcher: how this program calls itself
    #[command(hide = true)]
    Watch(Watch),
    /// Serves the targets: how this program calls itself
    #[command(hide = true)]
    Serve,
    /// Compiles the shipped probes: how this program calls itself
    #[command(hide = true)]
    Precompile {
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Compare {
    /// blackbox_exporter, of Debian's package prometheus-blackbox-exporter
    #[arg(long)]
    blackbox: PathBuf,
    /// fping, of Debian's package fping
    #[arg(long)]
    fping: PathBuf,
    /// Where files are made
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// How long each subject is measured in each round
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the middle one counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for which each watcher is looked at
    #[arg(long, default_value_t = 30)]
    watch_seconds: u64,
}

fn main() -> Result<()> {
    // As the watcher does.
    vouch_watcher::memory::use_small_pages()?;
    match Arguments::parse().command {
        Command::Compare(compare) => compare.run(),
        Command::Load(load) => load.run()?.tell(),
        Command::Watch(watch) => watch.run()?.tell(),
        Command::Serve => services::serve(),
        Command::Precompile { out } => vouch_watcher::precompile::precompile(&out),
    }
}

impl Compare {
    fn run(&self) -> Result<()> {
        let home = tempfile::tempdir_in(&self.folder).context("no folder for the files")?;
        let probes = home.path().join("probes");
        let compiled = Process::new(std::env::current_exe()?).arg("precompile").arg("--out").arg(&probes).output();
        let compiled = compiled.context("the compiler cannot be started")?;
        ensure!(compiled.status.success(), "precompile: {}", String::from_utf8_lossy(&compiled.stderr));
        let services = Services::start()?;
        let blackbox = blackbox::Blackbox::start(&self.blackbox, home.path())?;
        let lasts = Duration::from_secs(self.seconds);
        let mut rows = table::rows();
        for _ in 0..self.rounds.max(1) {
            for row in &mut rows {
                let measured = match row.subject {
                    table::Subject::Blackbox(check) => blackbox.measure(check, services.ports, lasts)?,
                    table::Subject::Fping(pace) => fping::measure(&self.fping, home.path(), pace, lasts)?,
                    table::Subject::Own(check, way) => self.own(check, way, &probes, services.ports)?,
                };
                row.measured.push(measured);
            }
        }
        table::print(&rows);
        drop(blackbox);
        println!();
        println!(
            "| 500 VMs, every second | runs/s | share of a core | / 20 % | peak memory, MiB | / 64 MiB | not up |"
        );
        println!("|---|---|---|---|---|---|---|");
        for (fleet, free_mib) in Fleet::ALL.map(|fleet| (fleet, None)).into_iter().chain([(Fleet::Silent, FREE_MIB)]) {
            println!("{}", self.watched(fleet, free_mib, &probes, services.ports)?.row(fleet, free_mib));
        }
        Ok(())
    }

    fn own(&self, check: Check, way: Way, probes: &Path, ports: Ports) -> Result<Measured> {
        let (check, way) = (check.to_string(), way.to_string());
        let (seconds, port) = (self.seconds.to_string(), ports.tcp.to_string());
        let args = ["load", "--check", &check, "--way", &way, "--seconds", &seconds, "--port", &port];
        Measured::of_child(Process::new(std::env::current_exe()?).args(args).arg("--probes").arg(probes))
    }

    fn watched(&self, fleet: Fleet, free_mib: Option<u64>, probes: &Path, ports: Ports) -> Result<Watched> {
        let (fleet, ports, seconds) =
            (fleet.to_string(), serde_json::to_string(&ports)?, self.watch_seconds.to_string());
        let args = ["watch", "--fleet", &fleet, "--ports", &ports, "--seconds", &seconds];
        let mut child = Process::new(std::env::current_exe()?);
        child.args(args).arg("--probes").arg(probes);
        child.args(free_mib.map(|mib| format!("--free-mib={mib}")));
        Watched::of_child(&mut child)
    }
}
