//! `cargo xtask bench`: the benchmarks, optimised; they print figures and judge nothing.

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::image::watcher;
use crate::{prerequisites, shell};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// The detector: single operations, then cost and memory from 1,000 to 1,000,000 VMs, with a plot
    Detector,
    /// Durable replicated writes, side by side with etcd from Debian
    Writes,
    /// What the replicated state costs at 10,000, 100,000 and 1,000,000 VMs
    Growth,
    /// How long the next verdict takes after the leader is killed: 300 kills
    Failover,
    /// Checks by the shipped probes, side by side with blackbox_exporter and fping from Debian and with native Rust; then what
    /// a watcher with 500 VMs takes
    Probes,
}

/// Builds and runs the benchmarks.
pub(crate) fn run(what: What) -> Result<()> {
    match what {
        What::Detector => {
            let bench = ["bench", "--locked", "-p", "vouch-bench", "--profile", "sim", "--bench", "detector"];
            shell::run(shell::cargo().args(bench))?;
            let curve = ["run", "--locked", "-p", "vouch-bench", "--profile", "sim", "--bin", "vouch-bench-curve"];
            shell::run(shell::cargo().args(curve))
        }
        What::Writes => {
            prerequisites::ensure(prerequisites::PEERS)?;
            // As a manager is deployed: what is measured is what is run.
            let build = ["build", "--locked", "-p", "vouch-bench", "--release", "--bins"];
            shell::run(shell::cargo().args(build))?;
            let target = shell::workspace().join("target");
            let etcd = shell::find_program("etcd").context("etcd was there a moment ago")?;
            let writes = || {
                let mut writes = std::process::Command::new(target.join("release/vouch-bench-writes"));
                writes.arg("--etcd").arg(&etcd).arg("--folder").arg(&target);
                writes
            };
            shell::run(&mut writes())?;
            shell::run(writes().args(["--events", "--clients", "64"]))
        }
        What::Growth => {
            let growth = ["run", "--locked", "-p", "vouch-bench", "--release", "--bin", "vouch-bench-growth"];
            shell::run(shell::cargo().args(growth).arg("--").arg("--folder").arg(shell::workspace().join("target")))
        }
        What::Failover => {
            shell::run(shell::cargo().args(["build", "--locked"]))?;
            let kills = ["run", "--locked", "--quiet", "-p", "vouch-tests", "--bin", "vouch-failovers"];
            shell::run(shell::cargo().args(kills))
        }
        What::Probes => {
            prerequisites::ensure(prerequisites::BUILD)?;
            prerequisites::ensure(prerequisites::PROBE_PEERS)?;
            // As the watcher of the image is built: what is measured is what is shipped.
            let build = ["build", "--locked", "-p", "vouch-bench-probes", "--profile", watcher::PROFILE, "--target"];
            shell::run(shell::cargo().args(build).arg(watcher::TARGET))?;
            let folder = shell::target().join(watcher::TARGET).join(watcher::PROFILE);
            let mut probes = std::process::Command::new(folder.join("vouch-bench-probes"));
            let peer = |name| shell::find_program(name).with_context(|| format!("{name} was there a moment ago"));
            probes.arg("compare").arg("--blackbox").arg(peer("prometheus-blackbox-exporter")?);
            shell::run(probes.arg("--fping").arg(peer("fping")?).arg("--folder").arg(shell::target()))
        }
    }
}
