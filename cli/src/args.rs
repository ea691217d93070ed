//! The command line: what can be said, and nothing of what it does.

mod joining;
mod operating;
mod probes;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vouch_types::VmId;

pub use joining::{JoinArgs, TokenCommand};
pub use operating::{
    DebugCommand, FenceProofArgs, IncidentCommand, MaintenanceCommand, PolicyCommand, PolicySettingsArgs, TraceArgs,
};
pub use probes::{
    PROBE_RUNS_MAX, ProbeAimArgs, ProbeAssignArgs, ProbeBenchArgs, ProbeCheckArgs, ProbeCommand, ProbeGrantArgs,
    ProbeKeyCommand, ProbeLanguage, ProbeNetwork, ProbePushArgs, ProbeRolloutEnd, ProbeRunArgs, ProbeScopeArgs, Switch,
};

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed
  2   the command line is wrong
  3   not found
  4   unavailable: no leader, no quorum, or no manager can be reached
  5   denied: token or role; of a node: the cluster has removed it
  74  storage error of a manager
  78  the configuration is wrong";

/// Tells what state each VM is in, and keeps telling the truth when part of the network is broken.
#[derive(Debug, Parser)]
#[command(name = "vouch", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// For every command that asks a cluster.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach a cluster, and how to print.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Global {
    /// Base URL of a manager's API; several may be given, and the next is tried when one does not answer.
    /// `https://ADDRESS#m1` expects the certificate of manager m1.
    #[arg(
        long,
        global = true,
        env = "VOUCH_API",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7080",
        hide_env_values = true
    )]
    pub api: Vec<String>,
    /// File with the bearer token.
    #[arg(long, global = true, env = "VOUCH_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
    /// Certificate of the cluster's CA (PEM), for https.
    #[arg(long, global = true, env = "VOUCH_CA", value_name = "FILE", hide_env_values = true)]
    pub ca: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: the documents of the API.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a manager.
    Manager(ConfigArgs),
    /// Run the agent of a compute node (--config), or ask and say something about nodes (ls, fence-proof, rm).
    Node(NodeArgs),
    /// One VM of the driver `local`: a process that answers as a guest would.
    #[command(name = "local-vm", hide = true)]
    LocalVm(LocalVmArgs),
    /// A whole cluster on loopback, for trying out: three managers, two nodes, four VMs, watchers.
    Dev(DevArgs),
    /// Make the CA of a cluster and certificates.
    #[command(subcommand)]
    Pki(PkiCommand),
    /// The control cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Join tokens: they let new managers, nodes and watchers ask for a certificate.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Join a cluster by a token: make a key here, and have it certified by a manager.
    Join(JoinArgs),
    /// VMs and their verdicts.
    #[command(subcommand)]
    Vm(VmCommand),
    /// Shared faults: what is broken, and what it touches.
    #[command(subcommand)]
    Incident(IncidentCommand),
    /// Tell the story of past verdicts on a VM, from the events that are kept.
    Trace(TraceArgs),
    /// How VMs are watched and judged, per cluster, node, tag and VM.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Windows in which VMs are watched and nothing is said against them.
    #[command(subcommand)]
    Maintenance(MaintenanceCommand),
    /// Watchers.
    #[command(subcommand)]
    Watcher(WatcherCommand),
    /// Probes: those of the cluster, and the kit to write your own.
    #[command(subcommand)]
    Probe(ProbeCommand),
    /// What happened.
    #[command(subcommand)]
    Event(EventCommand),
    /// What a person who helps needs to see.
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// A daemon's configuration.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Its configuration (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// The node agent, or a question about nodes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    /// The agent's configuration.
    #[command(flatten)]
    pub run: OptionalConfigArgs,
    /// A question about nodes.
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
}

/// A daemon's configuration where a subcommand may stand instead.
#[derive(Debug, Args)]
pub struct OptionalConfigArgs {
    /// Its configuration (TOML).
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
}

/// Questions about nodes, and what only people can say of them.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List the compute nodes.
    Ls,
    /// Say that a node does not run, or take that back. Its VMs may be started elsewhere after that: whoever says so
    /// answers for it.
    FenceProof(FenceProofArgs),
    /// Remove a node that is dead or retired, with all that is recorded of it. Its certificate is worth nothing after
    /// that: to come back it has to join again with a join token. Refused while it is heard, and while VMs on it may
    /// run.
    Rm {
        /// Its name.
        node: String,
        /// Forget VMs on it that may run. Nothing proves that they do not: whoever starts one elsewhere answers for it.
        #[arg(long)]
        forget_vms: bool,
    },
}

/// One VM of the driver `local`.
#[derive(Debug, Args)]
pub struct LocalVmArgs {
    /// Its UUID.
    #[arg(long)]
    pub id: VmId,
    /// Its address, in 127.0.0.0/8.
    #[arg(long)]
    pub address: IpAddr,
    /// Where it speaks X.224.
    #[arg(long)]
    pub rdp_port: u16,
    /// Folder of its sockets.
    #[arg(long)]
    pub run_dir: PathBuf,
}

/// The loopback cluster.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folder of everything that it makes; default: vouch-dev-UID in the folder for temporary files.
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What to do; `up` when absent.
    #[command(subcommand)]
    pub command: Option<DevCommand>,
}

/// What to do with the loopback cluster.
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Start it, and stay until Ctrl-C ends it and all its processes.
    Up(DevUpArgs),
    /// Cut links: nothing that is sent arrives any more, and nobody is told.
    Cut {
        /// Name of a link, or a pattern with *: `n1-m*` cuts node n1 from all managers.
        link: String,
        /// Take the carrier away: connections are reset and refused instead.
        #[arg(long)]
        carrier: bool,
    },
    /// Let links work again.
    Heal {
        /// Name of a link, or a pattern with *.
        link: String,
    },
    /// List the links.
    Links,
}

/// How the loopback cluster is started.
#[derive(Debug, Default, Args)]
pub struct DevUpArgs {
    /// Timing profile of the cluster.
    #[arg(long, value_enum, default_value_t = Profile::Default)]
    pub profile: Profile,
}

/// Timing profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Profile {
    /// As on real clusters.
    #[default]
    Default,
    /// For a small, busy machine.
    Slow,
}

/// CA and certificates: in a folder, and of a running cluster.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Show the CAs that the cluster trusts, and who is not ready for the next step of their rotation.
    Show {
        /// The certificates alone, for a ca.pem.
        #[arg(long)]
        pem: bool,
    },
    /// Make a new CA in the cluster, and have it trusted beside the old one.
    Rotate,
    /// Have the new CA sign, once everybody trusts it.
    Switch(PkiStepArgs),
    /// Trust the old CA no more, once everybody has a certificate of the new one.
    Finish(PkiStepArgs),
    /// Make a CA: ca.pem and ca.key.
    Init {
        /// Folder to make them in.
        dir: PathBuf,
    },
    /// Make a certificate and its key, signed by the CA in the folder.
    Issue {
        /// Folder of the CA; ID.pem and ID.key are made in it.
        dir: PathBuf,
        /// Whose certificate it is.
        #[arg(long, value_enum)]
        role: PkiRole,
        /// Its id: m1 for a manager, the name of a node.
        #[arg(long)]
        id: String,
        /// How many days it is valid.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(7..=3650))]
        days: u32,
    },
}

/// Whom a step of the rotation of the CA does not wait for.
#[derive(Debug, Args)]
pub struct PkiStepArgs {
    /// One that will not come back, as n3.node.vouch; it has to join again if it does.
    #[arg(long, value_name = "NAME")]
    pub without: Vec<String>,
}

/// Whose certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PkiRole {
    /// A manager.
    Manager,
    /// A compute node.
    Node,
}

/// The control cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make the cluster out of the configured managers; asked of the one that has the CA's key.
    Init,
    /// Show members, leader, term and what is not right.
    Status,
    /// Add a manager without a vote; start it, and promote it once it has caught up.
    Add {
        /// Its id, as m4.
        id: String,
        /// Its mutually authenticated port on the management network, as 10.1.0.4:7001.
        #[arg(long, value_name = "ADDRESS")]
        management: String,
        /// The same on the service network.
        #[arg(long, value_name = "ADDRESS")]
        service: Option<String>,
        /// Base URL of its API, for people.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Give a manager a vote.
    Promote {
        /// Its id.
        id: String,
    },
    /// Remove a manager; refused when that would lose the quorum.
    Remove {
        /// Its id.
        id: String,
    },
    /// Hand the leadership to another manager.
    Transfer {
        /// To this one; the best prepared one when left out.
        #[arg(long, value_name = "ID")]
        to: Option<String>,
    },
    /// Make a backup: all that is replicated, at one point, with a checksum. It holds the keys of the cluster.
    Backup {
        /// Where to; readable by its owner alone. One that is there is replaced once the new one is whole.
        file: PathBuf,
    },
    /// Fill the empty data folder of one manager from a backup. The other members of its configuration then start with
    /// empty folders. No manager is asked.
    Restore {
        /// The backup.
        file: PathBuf,
        /// The configuration of the manager (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// VMs.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// List VMs.
    Ls {
        /// Only in this state.
        #[arg(long)]
        state: Option<String>,
        /// Only on this node.
        #[arg(long)]
        node: Option<String>,
    },
    /// Tell what is known of a VM, from whom, over which network, and what is cut.
    Show {
        /// UUID, or a name that only one VM has.
        vm: String,
    },
    /// Have its watchers look at a VM now.
    Check {
        /// UUID, or a name that only one VM has.
        vm: String,
    },
    /// List what happened to a VM and to the paths of its node.
    History {
        /// UUID, or a name that only one VM has.
        vm: String,
    },
    /// List the evidence that the leader holds on a VM.
    Evidence {
        /// UUID, or a name that only one VM has.
        vm: String,
    },
    /// Tell why its verdict is what it is: the evidence used, the evidence discounted, and what would change it.
    Explain {
        /// UUID, or a name that only one VM has.
        vm: String,
    },
    /// Forget whom the probes of a VM are to find behind its addresses: after a new certificate, say.
    ForgetPins {
        /// UUID, or a name that only one VM has.
        vm: String,
    },
}

/// Watchers.
#[derive(Debug, Subcommand)]
pub enum WatcherCommand {
    /// List watchers.
    Ls,
}

/// Events.
#[derive(Debug, Subcommand)]
pub enum EventCommand {
    /// List the events that are kept.
    Ls(EventArgs),
    /// Follow events as they come.
    Tail(EventArgs),
}

/// Which events.
#[derive(Debug, Args)]
pub struct EventArgs {
    /// Only those after this position, INDEX.ORDINAL.
    #[arg(long)]
    pub after: Option<String>,
    /// Only those of the VM with this UUID.
    #[arg(long)]
    pub vm: Option<VmId>,
    /// Only those of this node.
    #[arg(long)]
    pub node: Option<String>,
}
