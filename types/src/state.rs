//! The states of a VM: what its hypervisor says, and what a verdict says.

use std::fmt;

use serde::{Deserialize, Serialize};

/// State of a VM in a verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmState {
    /// It runs, and nothing that ever worked has stopped working.
    Up,
    /// It runs, but a service, its network card or the like does not work.
    Degraded,
    /// It is paused, by an operator or by an I/O error.
    Paused,
    /// It executes but makes no progress.
    Hung,
    /// It restarts from inside.
    Rebooting,
    /// It was stopped on purpose.
    Stopped,
    /// There is positive proof that it does not run.
    Down,
    /// It is silent on every path, and there is no proof of anything.
    Lost,
    /// It executes on two nodes outside a migration.
    Conflict,
    /// It has not been judged yet.
    Unknown,
}

impl VmState {
    /// Returns the word for it in the API, the CLI, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Hung => "hung",
            Self::Rebooting => "rebooting",
            Self::Stopped => "stopped",
            Self::Down => "down",
            Self::Lost => "lost",
            Self::Conflict => "conflict",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a VM is paused (QEMU RunState `paused`, `io-error`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// An operator paused it.
    Operator,
    /// A disk of it reported an I/O error.
    IoError,
    /// A migration holds it: its execution has moved to another node, or has not arrived here yet (QEMU run states
    /// `inmigrate`, `finish-migrate` and `postmigrate`).
    Migration,
    /// The hypervisor gives no reason.
    Other,
}

/// How a VM's process ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The process died: a signal, a crash, an exit code that is not zero.
    Process,
    /// The guest's kernel panicked and the process ended for it.
    Panic,
    /// It is gone, and nobody saw how: found missing by an agent that was started again.
    Unknown,
}

/// The word of the hypervisor on one VM: the base of every verdict.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "reason")]
pub enum HypervisorState {
    /// Its vCPUs execute.
    Running,
    /// Its vCPUs are stopped.
    Paused(PauseReason),
    /// It restarts from inside (a guest reset).
    Rebooting,
    /// It was shut down, by the guest or by an operator.
    Stopped,
    /// The guest's kernel panicked (pvpanic) and the process still stands.
    Panicked,
    /// Its process is gone and nobody stopped it.
    Gone(ExitReason),
    /// The hypervisor cannot be asked about it now.
    Unknown,
}
