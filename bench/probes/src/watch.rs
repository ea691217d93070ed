//! A watcher with 500 VMs and three probes each, every second: its real driver, runner and probes, against loopback.
//!
//! The manager is played in the same process, over a link in memory: what TLS to the managers costs is not in the figures.
//! All else is as in a watcher: one thread for all tasks, native code from files, a grant for each probe.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use vouch_probe_host::{Icmp, IcmpSockets, ProbeHost};
use vouch_types::{Digest, Incarnation, ManagerId, Network, NodeId, Outcome, ProbeGrant, ProbeName, Timing, WatcherId};
use vouch_watcher::driver::{HostRunner, ProbeRunner, WatcherConfig, WatcherParts, host_limits, run};
use vouch_watcher::logic::RunLimit;
use vouch_watcher::logic::{Ended, Origin, ProbeSpec};
use vouch_watcher::shipped::Shipped;
use vouch_wire::links::{LinkError, ManagerEndpoint, RelayLink, SESSION_QUEUE, Session, WatcherLink};
use vouch_wire::proto;
use vouch_wire::proto::to_watcher::Message as Heard;

use crate::measured::{tell, told_by};
use crate::process::{own_cpu, peak_kib};
use crate::services::Ports;
use crate::targets::address;

/// VMs of the watcher.
const VMS: usize = 500;
/// How long the watcher runs before it is looked at: every check has been made a few times.
const WARM_UP: Duration = Duration::from_secs(5);
/// The share of a core that it may take, in per cent.
const SHARE_MAX: f64 = 20.0;
/// The memory that it may take, in MiB.
const MEMORY_MAX: f64 = 64.0;

/// What the VMs are, and which probes look at them; each has a watcher of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Fleet {
    /// They have SSH: `ping`, `tcp`, `ssh`.
    Ssh,
    /// They are desktops: `ping`, `tcp`, `rdp`, which does a TLS handshake each time.
    Rdp,
    /// None of them answers: `tcp`, `ssh`, `rdp`, each run waits until its deadline. (On loopback a ping is always answered.)
    Silent,
}

impl Fleet {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Ssh, Self::Rdp, Self::Silent];

    /// Returns the probes of each VM, with the ports that they look at; `ping` has none.
    const fn probes(self, ports: Ports) -> [(&'static str, Option<u16>); 3] {
        match self {
            Self::Ssh => [("ping", None), ("tcp", Some(ports.tcp)), ("ssh", Some(ports.ssh))],
            Self::Rdp => [("ping", None), ("tcp", Some(ports.tcp)), ("rdp", Some(ports.rdp))],
            Self::Silent => [("tcp", Some(ports.silent)), ("ssh", Some(ports.silent)), ("rdp", Some(ports.silent))],
        }
    }

    /// Returns it in words.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ping, tcp, ssh",
            Self::Rdp => "ping, tcp, rdp",
            Self::Silent => "tcp, ssh, rdp, and nothing answers",
        }
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh => "ssh",
            Self::Rdp => "rdp",
            Self::Silent => "silent",
        })
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Watch {
    #[arg(long)]
    fleet: Fleet,
    /// The ports of the services
    #[arg(long)]
    ports: Ports,
    /// Folder of the compiled probes
    #[arg(long)]
    probes: PathBuf,
    #[arg(long)]
    seconds: u64,
    /// As many runs as a watcher VM has that begins with so much free memory; by default as a watcher that is a process
    #[arg(long)]
    free_mib: Option<u64>,
}

/// What a watcher took.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Watched {
    up: u64,
    other: u64,
    lasted: Duration,
    cpu: Duration,
    peak_kib: u64,
}

impl Watched {
    /// Runs a child that tells one.
    ///
    /// # Errors
    /// When it fails or tells something else.
    pub(crate) fn of_child(command: &mut Command) -> Result<Self> {
        told_by(command)
    }

    /// Tells the parent.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn tell(&self) -> Result<()> {
        tell(self)
    }

    /// Returns the line of the table.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(crate) fn row(&self, fleet: Fleet, free_mib: Option<u64>) -> String {
        let places = free_mib.map_or_else(String::new, |mib| format!(", with {mib} MiB"));
        let share = self.cpu.as_secs_f64() / self.lasted.as_secs_f64() * 100.0;
        let rate = (self.up + self.other) as f64 / self.lasted.as_secs_f64();
        let memory = self.peak_kib as f64 / 1024.0;
        format!(
            "| {}{places} | {rate:.0} | {share:.1} % | {:.2} | {memory:.1} | {:.2} | {} |",
            fleet.as_str(),
            share / SHARE_MAX,
            memory / MEMORY_MAX,
            self.other
        )
    }
}

/// Runs probes as a watcher does, and counts what they come to.
struct Counted {
    runner: HostRunner,
    up: AtomicU64,
    other: AtomicU64,
}

#[async_trait]
impl ProbeRunner for Counted {
    async fn prepare(&self, probe: &ProbeName, digest: &Digest) -> Result<Origin, String> {
        self.runner.prepare(probe, digest).await
    }

    fn forget(&self, digest: &Digest) {
        self.runner.forget(digest);
    }

    async fn run(&self, spec: &ProbeSpec, timeout: Duration) -> Ended {
        let ended = self.runner.run(spec, timeout).await;
        let counter = match &ended {
            Ended::Probe { outcome: Outcome::Up, .. } => &self.up,
            Ended::Probe { .. } | Ended::Relay { .. } => &self.other,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        ended
    }
}

impl Counted {
    fn get(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.other.load(Ordering::Relaxed))
    }
}

/// The manager's end of a stream.
type ManagerSide = Session<proto::FromWatcher, proto::ToWatcher>;

/// The way to the manager that is played here.
struct MemoryLink {
    dialled: mpsc::UnboundedSender<ManagerSide>,
}

#[async_trait]
impl WatcherLink for MemoryLink {
    async fn open(&self, _: &ManagerEndpoint) -> Result<Session<proto::ToWatcher, proto::FromWatcher>, LinkError> {
        let (here, there) = Session::pair(SESSION_QUEUE);
        self.dialled.send(there).map_err(|_| LinkError::Reset("the benchmark is over".to_owned()))?;
        Ok(here)
    }

    async fn fetch_probe(&self, _: &ManagerEndpoint, _: &[u8; 32]) -> Result<Vec<u8>, LinkError> {
        Err(LinkError::Refused("all probes are shipped ones".to_owned()))
    }
}

/// No relay is asked for.
struct NoRelay;

#[async_trait]
impl RelayLink for NoRelay {
    async fn state(
        &self,
        _: &NodeId,
        _: SocketAddr,
        _: proto::StateRequest,
    ) -> Result<proto::StateResponse, LinkError> {
        Err(LinkError::Refused("no relay".to_owned()))
    }

    async fn guest_agent(
        &self,
        _: &NodeId,
        _: SocketAddr,
        _: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError> {
        Err(LinkError::Refused("no relay".to_owned()))
    }
}

impl Watch {
    /// Watches for so long, and returns what that took.
    ///
    /// # Errors
    /// When the watcher cannot begin.
    pub(crate) fn run(&self) -> Result<Watched> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.watch())
    }

    async fn watch(&self) -> Result<Watched> {
        let (sender, dialled) = mpsc::unbounded_channel();
        let link: Arc<dyn WatcherLink> = Arc::new(MemoryLink { dialled: sender });
        let relays: Arc<dyn RelayLink> = Arc::new(NoRelay);
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let managers = vec![ManagerEndpoint { manager: ManagerId::new(1), network: Network::Management, address }];
        let runs = self.free_mib.map_or(RunLimit::LEAST, |mib| RunLimit::of_memory(mib << 20));
        let host = ProbeHost::new(host_limits(runs))?;
        let shipped = Shipped::open(&host, &self.probes).await?;
        let icmp: Arc<dyn Icmp> = Arc::new(IcmpSockets::open());
        let (lent, to_managers) = (Arc::clone(&icmp), Arc::clone(&link));
        let runner = HostRunner::new(host, shipped, None, lent, to_managers, Arc::clone(&relays), managers.clone());
        let counted = Arc::new(Counted { runner, up: AtomicU64::new(0), other: AtomicU64::new(0) });
        let (watcher, incarnation) = (WatcherId::new(1), Incarnation::new(1));
        let config = WatcherConfig { watcher, incarnation, managers, timing: Timing::default(), runs };
        let probes = Arc::clone(&counted);
        let watching = tokio::spawn(run(config, WatcherParts { link, relays, probes, icmp }));
        let played = tokio::spawn(play(dialled, self.assignment()?));
        tokio::time::sleep(WARM_UP).await;
        let ((up, other), before, begun) = (counted.get(), own_cpu(), tokio::time::Instant::now());
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let (ended, cpu, lasted) = (counted.get(), own_cpu().saturating_sub(before), begun.elapsed());
        if played.is_finished() || watching.is_finished() {
            bail!("the watcher ended before its time");
        }
        Ok(Watched { up: ended.0 - up, other: ended.1 - other, lasted, cpu, peak_kib: peak_kib(None)? })
    }

    fn assignment(&self) -> Result<proto::Assignment> {
        let probes = self.fleet.probes(self.ports).map(|(probe, port)| {
            let settings = port.map_or_else(|| "{}".to_owned(), |port| format!(r#"{{"port": {port}}}"#));
            (probe, settings)
        });
        let network = proto::Network::Service;
        let target = |number: usize| proto::Target {
            vm: uuid::Uuid::from_u128(number as u128).as_bytes().to_vec(),
            node: "n1".to_owned(),
            addresses: vec![proto::Address { network: network.into(), address: address(number).to_string() }],
            probes: probes
                .iter()
                .map(|(probe, settings)| proto::ProbeAssignment {
                    probe: (*probe).to_owned(),
                    network: network.into(),
                    settings: settings.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        let component = |name: &str| {
            let bundled = vouch_probe_bundle::by_name(name).with_context(|| format!("probe {name} is not shipped"))?;
            let grant = ProbeGrant::parse(&["icmp", "sockets", "tls"], &["service"], &["settings"])?;
            let digest = bundled.digest().as_bytes().to_vec();
            Ok(proto::ProbeComponent { name: name.to_owned(), digest, grant: Some((&grant).into()) })
        };
        Ok(proto::Assignment {
            fence: Some(proto::Fence { term: 1, log_index: 1 }),
            generation: 1,
            targets: (0..VMS).map(target).collect(),
            probes: probes.iter().map(|(name, _)| component(name)).collect::<Result<_>>()?,
            ..Default::default()
        })
    }
}

/// Plays the manager: on each stream it welcomes, assigns, ticks as often as the default says, and takes whatever is reported.
async fn play(mut dialled: mpsc::UnboundedReceiver<ManagerSide>, assignment: proto::Assignment) {
    // On a machine that is too busy for its ticks the watcher dials anew.
    while let Some(manager) = dialled.recv().await {
        if let Err(error) = lead(manager, assignment.clone()).await {
            tracing::debug!(reason = format!("{error:#}"), "a stream of the watcher ended");
        }
    }
}

async fn lead(mut manager: ManagerSide, assignment: proto::Assignment) -> Result<()> {
    let timing = Timing::default();
    let welcome = proto::ManagerWelcome { timing: serde_json::to_string(&timing)?, ..Default::default() };
    for message in [Heard::Welcome(welcome), Heard::Assignment(assignment)] {
        manager.outbound.send(proto::ToWatcher { message: Some(message) }).await?;
    }
    let mut tick = tokio::time::interval(timing.tick_interval);
    let mut sequence = 0;
    loop {
        tokio::select! {
            _ = tick.tick() => {
                sequence += 1;
                let tick = Heard::Tick(proto::Tick { sequence });
                manager.outbound.send(proto::ToWatcher { message: Some(tick) }).await?;
            }
            report = manager.inbound.recv() => {
                report.context("the watcher hung up")??;
            }
        }
    }
}
