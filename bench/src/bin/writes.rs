//! Measures durable replicated writes of vouch and of etcd in turns, and prints them as ratios.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use vouch_bench::writes::etcd::Etcd;
use vouch_bench::writes::load::{self, Measured};
use vouch_bench::writes::vouch::Vouch;

/// Clients share so many connections.
const CONNECTIONS: usize = 4;

#[derive(Debug, Parser)]
struct Args {
    /// The binary `vouch-bench-manager`; by default the one beside this binary
    #[arg(long)]
    manager: Option<PathBuf>,
    /// etcd's server (Debian's package etcd-server); without it vouch is measured alone
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,64,512")]
    clients: Vec<usize>,
    /// How long a run lasts, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many runs of each, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes of a command
    #[arg(long, default_value_t = 256)]
    bytes: usize,
    /// Whether each write makes an event as well
    #[arg(long)]
    events: bool,
    /// Where the data folders are made: on a disk, or fsync costs nothing
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

#[derive(Debug, Default)]
struct Runs(Vec<Measured>);

impl Runs {
    /// The run in the middle by throughput.
    fn median(&self) -> Option<Measured> {
        let mut runs = self.0.clone();
        runs.sort_unstable_by(|a, b| a.per_second.total_cmp(&b.per_second));
        runs.get(runs.len() / 2).copied()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let manager = match &args.manager {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("vouch-bench-manager"),
    };
    let folder = tempfile::tempdir_in(&args.folder).context("no folder for the data")?;
    let home = |name: &str| -> Result<PathBuf> {
        let path = std::path::absolute(folder.path())?.join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    let vouch = Vouch::start(&manager, &home("vouch")?, CONNECTIONS).await?;
    let etcd = match &args.etcd {
        Some(program) => Some(Etcd::start(program, &home("etcd")?, CONNECTIONS).await?),
        None => None,
    };
    let bytes = Vouch::command_bytes(args.bytes)?;
    println!("commands of {bytes} bytes; {} rounds of {} s; the median round", args.rounds, args.seconds);
    println!("| clients | system | writes/s | p50 ms | p99 ms | throughput / etcd | p50 / etcd | p99 / etcd |");
    println!("|---|---|---|---|---|---|---|---|");
    let lasts = Duration::from_secs(args.seconds);
    for clients in &args.clients {
        let (mut ours, mut theirs) = (Runs::default(), Runs::default());
        for _ in 0..args.rounds {
            ours.0.push(load::run(vouch.writes(bytes, args.events)?, *clients, lasts).await?);
            if let Some(etcd) = &etcd {
                theirs.0.push(load::run(etcd.writes(bytes), *clients, lasts).await?);
            }
        }
        let theirs = theirs.median();
        if let Some(measured) = ours.median() {
            row(*clients, "vouch", measured, theirs);
        }
        if let Some(measured) = theirs {
            row(*clients, "etcd", measured, None);
        }
    }
    let (resident, disk) = vouch.weight();
    println!("a manager afterwards: {} MiB resident, {} MiB on disk", resident / 1024, disk / (1024 * 1024));
    Ok(())
}

fn row(clients: usize, system: &str, measured: Measured, peer: Option<Measured>) {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let ratios = peer.map_or_else(
        || " - | - | - ".to_owned(),
        |peer| {
            format!(
                " {:.2} | {:.2} | {:.2} ",
                measured.per_second / peer.per_second,
                measured.p50.as_secs_f64() / peer.p50.as_secs_f64(),
                measured.p99.as_secs_f64() / peer.p99.as_secs_f64()
            )
        },
    );
    println!(
        "| {clients} | {system} | {:.0} | {:.2} | {:.2} |{ratios}|",
        measured.per_second,
        millis(measured.p50),
        millis(measured.p99)
    );
}
