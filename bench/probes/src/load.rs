//! As many checks as a process can make with a fixed number of them under way, and what they cost it.
//!
//! One thread runs all tasks, as in a watcher.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use vouch_probe_host::{Capabilities, IcmpSockets, Probe, ProbeHost, Target};
use vouch_types::{Network, Outcome, VmId};
use vouch_watcher::driver::host_limits;
use vouch_watcher::logic::RunLimit;
use vouch_watcher::shipped::Shipped;

use crate::blackbox::CONNECTIONS;
use crate::measured::Measured;
use crate::process::{own_cpu, peak_kib};
use crate::targets::address;
use crate::{native, targets};

/// The deadline of each check: the default of the cluster's timing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(1);
/// How long a subject warms up before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// One echo request, as blackbox_exporter sends: two, 50 ms apart, are the default.
pub(crate) const PING_SETTINGS: &str = r#"{"count": 1}"#;

/// What is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Check {
    /// A port accepts a connection.
    Tcp,
    /// One echo request is answered.
    Icmp,
}

/// How it is checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Way {
    /// By the shipped probe, in an instance of its own.
    Probe,
    /// By the same probe with the sockets of the standard library: of TCP alone.
    Sockets,
    /// By the same code without WASM.
    Native,
    /// Not at all: an instance is made and looks at its settings.
    Instance,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Icmp => "icmp",
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probe => "probe",
            Self::Sockets => "sockets",
            Self::Native => "native",
            Self::Instance => "instance",
        })
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Load {
    #[arg(long)]
    check: Check,
    #[arg(long)]
    way: Way,
    /// The port of the targets
    #[arg(long)]
    port: u16,
    /// Folder of the compiled probes
    #[arg(long)]
    probes: PathBuf,
    #[arg(long)]
    seconds: u64,
    /// Checks under way: as many as blackbox_exporter is asked for at a time
    #[arg(long, default_value_t = CONNECTIONS)]
    concurrency: usize,
}

/// What makes one check of the target with this number; returns whether it is up.
enum Subject {
    Probe { probe: Probe, settings: String, lent: Capabilities },
    Instance { probe: Probe, settings: String },
    NativeTcp { settings: String },
    NativeIcmp { sockets: Arc<IcmpSockets> },
}

impl Load {
    /// Makes the checks and returns what they cost.
    ///
    /// # Errors
    /// When the probe cannot be loaded.
    pub(crate) fn run(&self) -> Result<Measured> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let subject = Arc::new(self.subject().await?);
            let tally = Arc::new(Tally::default());
            let mut workers = JoinSet::new();
            for first in 0..self.concurrency {
                let (subject, tally, step) = (Arc::clone(&subject), Arc::clone(&tally), self.concurrency);
                workers.spawn(async move {
                    for number in (first..).step_by(step) {
                        tally.count(subject.check(number).await);
                    }
                });
            }
            tokio::time::sleep(WARM_UP).await;
            let (begun, before) = (tally.get(), own_cpu());
            tokio::time::sleep(Duration::from_secs(self.seconds)).await;
            let (ended, cpu) = (tally.get(), own_cpu().saturating_sub(before));
            workers.abort_all();
            let (runs, failed) = (ended.0 - begun.0, ended.1 - begun.1);
            Ok(Measured { runs, failed, cpu, peak_kib: Some(peak_kib(None)?) })
        })
    }

    async fn subject(&self) -> Result<Subject> {
        let tcp = format!(r#"{{"port": {}}}"#, self.port);
        let (name, settings) = match self.check {
            Check::Tcp => ("tcp", tcp),
            Check::Icmp => ("ping", PING_SETTINGS.to_owned()),
        };
        Ok(match (self.way, self.check) {
            (Way::Native, Check::Tcp) => Subject::NativeTcp { settings },
            (Way::Native, Check::Icmp) => Subject::NativeIcmp { sockets: Arc::new(IcmpSockets::open()) },
            (Way::Probe, check) => {
                let icmp = (check == Check::Icmp).then(|| Arc::new(IcmpSockets::open()) as Arc<_>);
                let lent = Capabilities { icmp, ..Capabilities::default() };
                Subject::Probe { probe: self.probe(name).await?, settings, lent }
            }
            (Way::Sockets, Check::Tcp) => {
                let probe =
                    ProbeHost::new(host_limits(RunLimit::LEAST))?.compile(vouch_probe_bundle::with_sockets().bytes)?;
                Subject::Probe { probe, settings, lent: Capabilities::default() }
            }
            (Way::Sockets, Check::Icmp) => bail!("sockets send no echo requests"),
            (Way::Instance, _) => Subject::Instance { probe: self.probe(name).await?, settings },
        })
    }

    async fn probe(&self, name: &str) -> Result<Probe> {
        let host = ProbeHost::new(host_limits(RunLimit::LEAST))?;
        let shipped = Shipped::open(&host, &self.probes).await?;
        let bundled = vouch_probe_bundle::by_name(name).with_context(|| format!("probe {name} is not shipped"))?;
        let loaded = shipped.load(&host, &bundled.digest()).with_context(|| format!("probe {name} is not compiled"))?;
        Ok(loaded?)
    }
}

impl Subject {
    async fn check(&self, number: usize) -> bool {
        match self {
            Self::Probe { probe, settings, lent } => {
                let target = Target {
                    vm: VmId::new(uuid::Uuid::from_u128((number % targets::TARGETS) as u128)),
                    addresses: vec![address(number).into()],
                    network: Network::Service,
                    labels: Vec::new(),
                };
                let found = probe.run(&target, settings, DEADLINE, lent).await;
                found.is_ok_and(|found| found.outcome == Outcome::Up)
            }
            Self::Instance { probe, settings } => {
                let taken = probe.validate(settings).await.is_ok();
                // Nothing is waited for, and the clock has to have its turn.
                tokio::task::yield_now().await;
                taken
            }
            Self::NativeTcp { settings } => native::tcp(address(number), settings).await,
            Self::NativeIcmp { sockets } => native::icmp(sockets.as_ref(), address(number), PING_SETTINGS).await,
        }
    }
}

/// Checks that found their target up, and those that did not.
#[derive(Default)]
struct Tally {
    up: AtomicU64,
    other: AtomicU64,
}

impl Tally {
    fn count(&self, up: bool) {
        let counter = if up { &self.up } else { &self.other };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.other.load(Ordering::Relaxed))
    }
}
