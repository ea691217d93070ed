//! Questions to a VM's guest agent, as whoever runs the probes carries them (the node's relay, for a watcher).

use std::time::Duration;

use vouch_types::{AgentQuery, VmId};

/// Why the guest agent gave no answer.
#[derive(Clone, PartialEq, Eq, thiserror::Error, Debug)]
pub enum GuestAgentError {
    /// The relay refuses this question.
    #[error("questions to the guest agent are not granted")]
    NotGranted,
    /// The VM has no channel for an agent.
    #[error("the VM has no channel for a guest agent")]
    NoChannel,
    /// The agent was asked and stayed silent: this speaks of the agent.
    #[error("the guest agent stayed silent")]
    Silent,
    /// The agent answered, with more than is carried.
    #[error("the guest agent's answer has more bytes than are carried")]
    TooLong,
    /// The question did not reach the agent: this says nothing of it.
    #[error("the question could not be carried: {0}")]
    Unreachable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Carries questions to guest agents.
#[async_trait::async_trait]
pub trait GuestAgent: Send + Sync {
    /// Asks the agent of this VM for a sign of life; returns how long the answer took.
    ///
    /// # Errors
    /// [`GuestAgentError`]; only `Silent` speaks against the agent.
    async fn ping(&self, vm: &VmId, timeout: Duration) -> Result<Duration, GuestAgentError>;

    /// Has the agent of this VM run a command that only reads; returns its answer, JSON with `return` or `error`.
    ///
    /// # Errors
    /// [`GuestAgentError`]; only `Silent` speaks against the agent.
    async fn query(&self, vm: &VmId, query: AgentQuery, timeout: Duration) -> Result<String, GuestAgentError>;
}
