//! The command line of probes: what the cluster has, and the kit of their authors.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use vouch_probe_kit::Fake;
use vouch_types::{ProbeKeyName, ProbeName};

use super::operating::duration_of;

/// Probes.
#[derive(Debug, Subcommand)]
pub enum ProbeCommand {
    /// List probes.
    Ls,
    /// Tell all that the cluster has of a probe, and which VMs it is assigned to.
    Show {
        /// Its name.
        name: ProbeName,
    },
    /// Upload a probe component, and grant it what it may do.
    ///
    /// It is recorded under the name and version that it gives itself. Without a grant, a name that has one keeps it; a
    /// new one is refused with what the component imports and describes, and the command line that grants it.
    Push(ProbePushArgs),
    /// Grant an uploaded probe something else. Watchers are told at once.
    Grant {
        /// Its name.
        name: ProbeName,
        /// What.
        #[command(flatten)]
        grant: ProbeGrantArgs,
    },
    /// Assign a probe to VMs, beside those that their own files name; or take it from them with --remove.
    ///
    /// Of several assignments of one probe over one network the closest rules: the VM's file before the VM before a tag
    /// before a node before all. A VM has at most 8 probes.
    Assign(ProbeAssignArgs),
    /// Tell of the version of a probe that is on its way to all watchers, or end that before it ends itself.
    ///
    /// It is begun by `vouch probe push FILE --rollout`.
    Rollout {
        /// Name of the probe.
        name: ProbeName,
        /// What becomes of it.
        #[command(flatten)]
        end: ProbeRolloutEnd,
    },
    /// Make a key pair for signatures under probes: the private half in FILE (0600), the public half in FILE.pub.
    Keygen {
        /// Where to write it; not over a file that is there.
        file: PathBuf,
    },
    /// Sign a component under the name and version that it gives itself; the signature is written to FILE.sig.
    Sign {
        /// The component (wasm32-wasip2).
        file: PathBuf,
        /// The private key: PEM, PKCS #8 (Ed25519).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Keys whose signatures under probes the cluster trusts.
    #[command(subcommand)]
    Key(ProbeKeyCommand),
    /// Set whether the cluster takes a probe without a signature of a trusted key. Recorded probes stay.
    RequireSignature {
        /// Whether a signature is required.
        #[arg(value_enum)]
        switch: Switch,
    },
    /// Tell what a component is, what it may use, what it says to settings, and which rules it breaks, also when it is run at
    /// a fake that gives no answer. No cluster is asked.
    Check(ProbeCheckArgs),
    /// Run a component as a watcher would, at a target or at a fake, and tell what it finds. No cluster is asked.
    Run(ProbeRunArgs),
    /// Run a component again and again, and tell how fast it is and what it costs. No cluster is asked.
    Bench(ProbeBenchArgs),
    /// Make a project for a new probe: a folder of its name that builds with the ordinary tools of its language.
    New {
        /// Its name.
        name: ProbeName,
        /// The language.
        #[arg(long = "lang", value_enum, default_value_t = ProbeLanguage::Rust)]
        language: ProbeLanguage,
        /// Take the crate for the project's tests from this folder: probe-kit/ in a copy of vouch's sources. Without,
        /// the project names its release.
        #[arg(long, value_name = "DIR")]
        kit: Option<PathBuf>,
    },
    /// Build the component of a project with the tools of its language, and tell where it lies.
    Build {
        /// Folder of the project.
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
}

/// What is uploaded, and with which grant.
#[derive(Debug, Args)]
pub struct ProbePushArgs {
    /// The component (wasm32-wasip2).
    pub file: PathBuf,
    /// The name that it must give itself.
    #[arg(long)]
    pub name: Option<String>,
    /// The version that it must give itself.
    #[arg(long = "probe-version")]
    pub version: Option<String>,
    /// What it may do.
    #[command(flatten)]
    pub grant: ProbeGrantArgs,
    /// Take it though it is granted fewer networks or ports than it describes: runs that need those are `unknown`, with
    /// the reason `not_granted`.
    #[arg(long)]
    pub narrow: bool,
    /// Its signature, as `vouch probe sign` writes it; FILE.sig when that is there.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Not to all watchers at once: first to one, and back at once if it faults more there than the recorded version.
    #[arg(long)]
    pub rollout: bool,
    /// Runs that it has to show there, 5 to 10000; 30 without.
    #[arg(long, requires = "rollout", value_parser = clap::value_parser!(u32).range(5..=10_000))]
    pub runs: Option<u32>,
    /// For how long at least, from 10s to 60m; 60s without.
    #[arg(long = "for", value_name = "DURATION", requires = "rollout", value_parser = duration_of)]
    pub lasts: Option<Duration>,
}

/// Which rollout, and what becomes of it.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct ProbeRolloutEnd {
    /// Tell how far it is; so it is without a flag.
    #[arg(long)]
    pub status: bool,
    /// Let all watchers run the version that is on its way, whatever it has shown by now.
    #[arg(long)]
    pub promote: bool,
    /// Take the version back that is on its way.
    #[arg(long)]
    pub abort: bool,
}

/// What is assigned, and to which VMs.
#[derive(Debug, Args)]
pub struct ProbeAssignArgs {
    /// Name of a recorded probe.
    pub name: ProbeName,
    /// To which VMs.
    #[command(flatten)]
    pub scope: ProbeScopeArgs,
    /// Over which network.
    #[arg(long, value_enum, default_value_t = ProbeNetwork::Service)]
    pub network: ProbeNetwork,
    /// Its settings: JSON, or @FILE; refused unless the probe's schema takes them.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub settings: String,
    /// How often it runs, as 5s; without, as policies say, else as it proposes.
    #[arg(long, value_parser = duration_of)]
    pub interval: Option<Duration>,
    /// How long one run may take; as above.
    #[arg(long, value_parser = duration_of)]
    pub timeout: Option<Duration>,
    /// Assign it to them no more.
    #[arg(long, conflicts_with_all = ["settings", "interval", "timeout"])]
    pub remove: bool,
}

/// A group of VMs.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ProbeScopeArgs {
    /// One VM: UUID, or a name that only one VM has.
    #[arg(long, value_name = "VM")]
    pub vm: Option<String>,
    /// The VMs with this label.
    #[arg(long, value_name = "KEY=VALUE")]
    pub tag: Option<String>,
    /// The VMs of this node.
    #[arg(long)]
    pub node: Option<String>,
    /// All VMs.
    #[arg(long)]
    pub all: bool,
}

/// Keys whose signatures under probes the cluster trusts.
#[derive(Debug, Subcommand)]
pub enum ProbeKeyCommand {
    /// List them, with the probes that each signed, and whether a signature is required.
    Ls,
    /// Trust a key.
    Add {
        /// What it is called.
        name: ProbeKeyName,
        /// Its public half: PEM (Ed25519), as `vouch probe keygen` writes it.
        file: PathBuf,
    },
    /// Trust a key no more. Probes that it signed stay, and are told.
    Rm {
        /// What it is called.
        name: ProbeKeyName,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// What a probe may do.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ProbeGrantArgs {
    /// Interfaces that it may use, with commas: sockets, icmp, guest-agent, tls.
    #[arg(long = "grant", value_name = "INTERFACES", value_delimiter = ',')]
    pub interfaces: Vec<String>,
    /// A network over which it may run: management or service; may be given again.
    #[arg(long = "network", value_name = "NETWORK", value_delimiter = ',')]
    pub networks: Vec<String>,
    /// A port that it may reach, at most 64; may be given again. `settings`: the `port` of the settings that a VM gives it,
    /// else those that it describes.
    #[arg(long = "port", value_name = "PORT|settings", value_delimiter = ',')]
    pub ports: Vec<String>,
}

/// Which component is looked at.
#[derive(Debug, Args)]
pub struct ProbeCheckArgs {
    /// The component (wasm32-wasip2).
    pub file: PathBuf,
    /// Settings that it is to take: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE")]
    pub settings: Option<String>,
    /// A signature that is to fit it; FILE.sig when that is there.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
}

/// How a component is run.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXIT_CODES)]
pub struct ProbeRunArgs {
    /// The component (wasm32-wasip2).
    pub file: PathBuf,
    /// At what it is aimed.
    #[command(flatten)]
    pub aim: ProbeAimArgs,
    /// How often it runs, one run after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Tell what the probe logs, what travels over its connections, and each question to the network or the guest agent,
    /// with its time.
    #[arg(long)]
    pub trace: bool,
}

const RUN_EXIT_CODES: &str = "\
Exit codes, of the worst of the runs:
  0   up
  10  degraded
  11  unknown: the run says nothing about the target
  12  down
  13  fault: the probe could not check, crashed, or overstayed its deadline
The others are those of every command: see \"vouch --help\".";

/// At what a component is aimed, and what it is lent.
#[derive(Debug, Args)]
pub struct ProbeAimArgs {
    /// An address of the target; may be given again, the one to use first in front.
    #[arg(long, value_name = "IP", required_unless_present = "fake", conflicts_with = "fake")]
    pub target: Vec<IpAddr>,
    /// Start a fake on 127.0.0.1 and aim at it: tcp:accept|refuse|hang, http:200|500|hang|slow,
    /// rdp:ok|refuse|hang|tls-hang|nla[=NAME]|nla-hang, qga:ok|hang|stale|disabled, ssh:ok|hang|busy|old,
    /// vnc:ok|refuse|hang, spice:ok|secured|hang, dns:ok|servfail|silent|truncated. Settings without `port` are given
    /// its port.
    #[arg(long)]
    pub fake: Option<Fake>,
    /// The network that the probe is told.
    #[arg(long, value_enum, default_value_t = ProbeNetwork::Service)]
    pub network: ProbeNetwork,
    /// A port that it may reach; may be given again. Without: the `port` of its settings, else those that it describes.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,
    /// Settings: JSON, or @FILE.
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    pub settings: String,
    /// The deadline of each run.
    #[arg(long, default_value = "2s", value_parser = duration_of)]
    pub timeout: Duration,
}

/// A network, as the probe is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProbeNetwork {
    /// The one on which VMs offer their services.
    Service,
    /// The one of nodes and managers.
    Management,
}

impl ProbeNetwork {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Management => "management",
        }
    }
}

/// How a component is measured.
#[derive(Debug, Args)]
pub struct ProbeBenchArgs {
    /// The component (wasm32-wasip2).
    pub file: PathBuf,
    /// At what it is aimed. A fake runs in the same process, and what it costs is counted with the probe.
    #[command(flatten)]
    pub aim: ProbeAimArgs,
    /// How long.
    #[arg(long = "for", value_name = "DURATION", default_value = "5s", value_parser = duration_of)]
    pub lasts: Duration,
    /// How many runs at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(PROBE_RUNS_MAX)))]
    pub concurrency: u32,
}

/// The most runs at a time of one command.
pub const PROBE_RUNS_MAX: u32 = 64;

/// A language for probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProbeLanguage {
    /// Rust, with cargo and the target wasm32-wasip2.
    Rust,
    /// C, with make, zig, and the C library of Rust's target wasm32-wasip2.
    C,
    /// JavaScript, with npm and componentize-qjs.
    Js,
}
