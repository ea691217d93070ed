//! The command line of what operators ask and set: incidents, the story, policies, maintenance, proofs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use vouch_manager::api::trace::When;
use vouch_types::{BootId, IncidentId, MaintenanceId, NodeId, PolicyScope, ProbeName, duration};

/// Reads a duration as `10m`.
pub(super) fn duration_of(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| format!("must be {}", duration::DURATION_RULE))
}

/// Checks a place in the story; the manager reads it again.
fn when(text: &str) -> Result<String, String> {
    When::parse(text).map(|_| text.to_owned())
}

/// Incidents.
#[derive(Debug, Subcommand)]
pub enum IncidentCommand {
    /// List incidents, the last one first.
    Ls {
        /// Which.
        #[arg(long, value_enum, default_value_t = IncidentState::Open)]
        state: IncidentState,
    },
    /// Tell what is broken, which VMs it touches now, and how it went.
    Show {
        /// Its id, as i3.
        incident: IncidentId,
    },
}

/// Which incidents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IncidentState {
    /// What is broken now.
    Open,
    /// What is over.
    Closed,
    /// Both.
    All,
}

/// The story of a VM.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// UUID, or a name that only one VM has; the UUID of a VM that is gone.
    pub vm: String,
    /// From when on: so long ago (10m), an RFC 3339 time, or the position INDEX.ORDINAL of an event.
    #[arg(long, value_parser = when)]
    pub since: Option<String>,
    /// Up to when, in the same forms.
    #[arg(long, value_parser = when)]
    pub until: Option<String>,
}

/// Policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List the policies, the widest scope first.
    Ls,
    /// Show the policy of a scope, or every setting as it holds for a VM with the scope that it comes from.
    Show {
        /// cluster, node:NAME, tag:KEY=VALUE or vm:UUID.
        #[arg(required_unless_present = "vm", conflicts_with = "vm")]
        scope: Option<PolicyScope>,
        /// UUID, or a name that only one VM has: all that holds for it.
        #[arg(long)]
        vm: Option<String>,
    },
    /// Set the policy of a scope; it replaces the one before. What is not named is left to the next wider scope.
    Set(PolicySetArgs),
    /// Remove the policy of a scope.
    Rm {
        /// cluster, node:NAME, tag:KEY=VALUE or vm:UUID.
        scope: PolicyScope,
    },
}

/// A policy that is to be set.
#[derive(Debug, Args)]
pub struct PolicySetArgs {
    /// cluster, node:NAME, tag:KEY=VALUE or vm:UUID.
    pub scope: PolicyScope,
    /// What it says.
    #[command(flatten)]
    pub settings: PolicySettingsArgs,
}

/// Settings of a policy, at least one.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct PolicySettingsArgs {
    /// How often each probe runs, as 5s.
    #[arg(long, value_parser = duration_of)]
    pub probe_interval: Option<Duration>,
    /// How long one run of a probe may take.
    #[arg(long, value_parser = duration_of)]
    pub probe_timeout: Option<Duration>,
    /// How long a VM may be silent on every path before it is lost.
    #[arg(long, value_parser = duration_of)]
    pub lost_after: Option<Duration>,
    /// How long a guest may take to boot before it counts as hung.
    #[arg(long, value_parser = duration_of)]
    pub boot_budget: Option<Duration>,
    /// Failures in a row before silence is believed.
    #[arg(long)]
    pub silence_failures: Option<u32>,
    /// A probe whose failure lowers the state; may be given again. Failures of others are notes then.
    #[arg(long)]
    pub required_probe: Vec<ProbeName>,
}

/// Maintenance windows.
#[derive(Debug, Subcommand)]
pub enum MaintenanceCommand {
    /// List the windows that hold.
    Ls,
    /// Begin a window; it ends by itself.
    Begin {
        /// cluster, node:NAME, tag:KEY=VALUE or vm:UUID.
        scope: PolicyScope,
        /// How long it lasts, as 2h.
        #[arg(long = "for", value_name = "DURATION", value_parser = duration_of)]
        lasts: Duration,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// End a window before its time.
    End {
        /// Its id, as x1.
        maintenance: MaintenanceId,
    },
}

/// A proof that a node does not run.
#[derive(Debug, Args)]
pub struct FenceProofArgs {
    /// Name of the node.
    pub node: NodeId,
    /// How it is known.
    #[arg(long, value_enum, required_unless_present = "withdraw")]
    pub kind: Option<FenceKindArg>,
    /// The boot that it speaks of; default: the one in which the node was last heard.
    #[arg(long)]
    pub boot: Option<BootId>,
    /// What is worth knowing of it.
    #[arg(long, default_value = "")]
    pub note: String,
    /// Take the proof back.
    #[arg(long, conflicts_with_all = ["kind", "boot", "note"])]
    pub withdraw: bool,
}

/// How a node is known not to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FenceKindArg {
    /// Its power is off, as its management controller or somebody on the spot says.
    #[value(name = "power_off", alias = "power-off")]
    PowerOff,
    /// A fence agent acknowledged that it can't reach storage or network any more.
    Fenced,
}

impl FenceKindArg {
    /// Returns the word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerOff => "power_off",
            Self::Fenced => "fenced",
        }
    }
}

impl IncidentState {
    /// Returns the word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::All => "all",
        }
    }
}

/// What a person who helps needs to see.
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// Collect status, readiness, metrics, events and incidents of every manager that is named with --api into one tar
    /// file, without tokens and keys. Works without a quorum.
    Bundle {
        /// Where to; readable by its owner alone.
        file: PathBuf,
        /// Add this configuration.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Add the end of this log file.
        #[arg(long, value_name = "FILE")]
        log: Option<PathBuf>,
    },
}
