//! `vouch-sim n2`: plays a fleet of which nothing dies, and fails when anything was called `down` or `lost`.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::{FleetConfig, SimFleet};

/// How often progress is told, at the least.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// How much is played between two looks at the real clock.
const SLICE: Duration = Duration::from_secs(10);

/// What `vouch-sim n2` is told.
#[derive(Args, Debug)]
pub struct N2 {
    /// VMs in all
    #[arg(long, default_value_t = 10_000)]
    pub vms: usize,
    /// Nodes, each with one watcher
    #[arg(long, default_value_t = 200)]
    pub nodes: usize,
    /// Hours to play; parts of an hour too
    #[arg(long, default_value_t = 24.0)]
    pub hours: f64,
    /// Probes per VM: rdp, then ping, then guest-agent
    #[arg(long, default_value_t = 1)]
    pub probes: usize,
    /// Per cent of packets that the management network loses, each way
    #[arg(long, default_value_t = 1.0)]
    pub loss_management: f32,
    /// Per cent of packets that the service network loses, each way
    #[arg(long, default_value_t = 30.0)]
    pub loss_service: f32,
    /// The seed: the same one plays the same
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Returns the time that this process has had a processor, where the system tells it (Linux).
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

/// Plays the fleet, tells how it goes, and what was said.
///
/// # Errors
/// When a number is out of range, or when anything was called `down` or `lost`.
#[expect(clippy::print_stdout, reason = "a command talks to its terminal")]
pub fn run(n2: &N2) -> Result<()> {
    let config = FleetConfig {
        probes: n2.probes,
        loss_management: n2.loss_management / 100.0,
        loss_service: n2.loss_service / 100.0,
        ..FleetConfig::n2(n2.vms, n2.nodes, n2.seed)
    };
    if !(n2.hours > 0.0 && n2.hours <= 10_000.0) {
        bail!("hours: {} must be above 0 and at most 10000", n2.hours);
    }
    let total = Duration::from_secs_f64(n2.hours * 3_600.0);
    let mut fleet = SimFleet::new(config).map_err(|e| anyhow!(e))?;
    let (begun, worked) = (Instant::now(), processor_time());
    let (mut played, mut told, mut outages) = (Duration::ZERO, begun, 0);
    while played < total {
        let slice = SLICE.min(total - played);
        fleet.run(slice);
        played += slice;
        for line in &fleet.score().outages[outages..] {
            println!("outage: {line}");
        }
        outages = fleet.score().outages.len();
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            let ratio = played.as_secs_f64() / begun.elapsed().as_secs_f64();
            println!(
                "{:.2} h of {:.2} h, {ratio:.1} x real time, cut_nodes={} {}",
                played.as_secs_f64() / 3_600.0,
                n2.hours,
                fleet.cut_nodes(),
                fleet.score()
            );
        }
    }
    let real = begun.elapsed().as_secs_f64();
    // On a machine that does other things, too, the processor's time tells how fast it really is.
    let cpu = worked.zip(processor_time()).map_or(real, |(from, to)| (to.saturating_sub(from)).as_secs_f64());
    let score = fleet.score();
    for line in &score.false_verdicts {
        println!("false: {line}");
    }
    println!(
        "n2 vms={} nodes={} probes={} loss_management={} loss_service={} seed={} simulated_s={:.0} real_s={real:.1} ratio={:.1} cpu_s={cpu:.1} cpu_ratio={:.1} {score}",
        n2.vms,
        n2.nodes,
        n2.probes,
        n2.loss_management,
        n2.loss_service,
        n2.seed,
        total.as_secs_f64(),
        total.as_secs_f64() / real,
        total.as_secs_f64() / cpu,
    );
    if score.false_down_or_lost() > 0 {
        bail!("{} VMs that live were called down or lost", score.false_down_or_lost());
    }
    Ok(())
}
