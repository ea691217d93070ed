//! What the imports of all versions of the contract come to: echo requests, questions to the agent, lines for the log.
//!
//! Every call is held against what the run was lent and against its limits here, once for all versions.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vouch_types::VmId;

use super::RunState;
use crate::limits::{AGENT_QUESTIONS_MAX, AGENT_REPLY_MAX, ECHO_INTERVAL_MIN, LOG_LINE_MAX};
use crate::outcome::cut;
use crate::{AgentQuery, EchoReply, EchoRequest, GuestAgent, GuestAgentError, IcmpError};

/// Why no echo request was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum EchoRefusal {
    /// The run was not lent any.
    NotGranted,
    /// The address is not one of the target's.
    NotTheTarget,
    /// There is no route from here.
    NoRoute(String),
    /// Beyond a limit.
    OutOfBounds(String),
    /// Anything else.
    Other(String),
}

/// Why a question to the agent has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AgentRefusal {
    /// Beyond a limit.
    OutOfBounds(String),
    /// The host does not carry this command.
    NotCarried(String),
    /// What whoever carries it says.
    Agent(GuestAgentError),
}

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// For the author of the probe.
    Debug,
    /// For whoever reads the log.
    Info,
    /// Something is wrong.
    Warn,
}

impl RunState {
    /// Sends echo requests to an address of the target.
    pub(crate) async fn send_echoes(
        &mut self,
        address: &str,
        count: u32,
        interval_ms: u32,
        timeout_ms: u32,
    ) -> Result<Vec<EchoReply>, EchoRefusal> {
        let sender = self.reach.icmp.clone().ok_or(EchoRefusal::NotGranted)?;
        let address: Option<IpAddr> = address.parse().ok();
        let address = address.filter(|a| self.reach.filter.is_target(*a)).ok_or(EchoRefusal::NotTheTarget)?;
        if count == 0 || count > self.echoes_left {
            return Err(EchoRefusal::OutOfBounds(format!(
                "count is {count}: must be from 1 to {} in the rest of this run",
                self.echoes_left
            )));
        }
        let (left, interval) = (self.left(), Duration::from_millis(interval_ms.into()).max(ECHO_INTERVAL_MIN));
        let sending = interval.saturating_mul(count - 1);
        // Requests that are never sent would look like replies that never came.
        let Some(waiting) = left.checked_sub(sending) else {
            return Err(EchoRefusal::OutOfBounds(format!(
                "{count} requests, one every {interval:?}, take {sending:?}: at most {left:?} are left of this run"
            )));
        };
        self.echoes_left -= count;
        let timeout = Duration::from_millis(timeout_ms.into()).min(waiting);
        let series = EchoRequest { address: address.to_canonical(), count, interval, timeout };
        sender.echo(series).await.map_err(|error| match error {
            IcmpError::NoRoute(text) => EchoRefusal::NoRoute(text),
            IcmpError::NoSocket(_) | IcmpError::Send(_) => EchoRefusal::Other(error.to_string()),
        })
    }

    /// Asks the target's agent for a sign of life.
    pub(crate) async fn ping_agent(&mut self, timeout_ms: u32) -> Result<Duration, AgentRefusal> {
        let (agent, vm) = self.agent()?;
        agent.ping(&vm, self.within_run(timeout_ms)).await.map_err(AgentRefusal::Agent)
    }

    /// Has the target's agent run a command that only reads.
    pub(crate) async fn ask_agent(&mut self, command: &str, timeout_ms: u32) -> Result<String, AgentRefusal> {
        let Some(query) = AgentQuery::of(command) else {
            let carried = AgentQuery::ALL.map(AgentQuery::as_str).join(", ");
            let shown = cut(command.to_owned(), LOG_LINE_MAX);
            return Err(AgentRefusal::NotCarried(format!("command {shown:?}: must be one of {carried}")));
        };
        let (agent, vm) = self.agent()?;
        let reply = agent.query(&vm, query, self.within_run(timeout_ms)).await.map_err(AgentRefusal::Agent)?;
        match reply.len() {
            0..=AGENT_REPLY_MAX => Ok(reply),
            size => {
                let text = format!("the agent's answer has {size} bytes: at most {AGENT_REPLY_MAX} are taken");
                Err(AgentRefusal::OutOfBounds(text))
            }
        }
    }

    /// Returns whom to ask about whom, and counts the question.
    fn agent(&mut self) -> Result<(Arc<dyn GuestAgent>, VmId), AgentRefusal> {
        let (Some(agent), Some(vm)) = (self.reach.guest_agent.clone(), self.reach.vm) else {
            return Err(AgentRefusal::Agent(GuestAgentError::NotGranted));
        };
        let Some(left) = self.questions_left.checked_sub(1) else {
            return Err(AgentRefusal::OutOfBounds(format!("more than {AGENT_QUESTIONS_MAX} questions in one run")));
        };
        self.questions_left = left;
        Ok((agent, vm))
    }

    /// Tells of a call of the probe and what it came to.
    pub(crate) fn note_call(&self, interface: &'static str, begun: Instant, call: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            trace.call(interface, format!("{}, after {:.1?}", call(), begun.elapsed()));
        }
    }

    /// Writes a line of the probe into the log.
    pub(crate) fn write_line(&mut self, level: Level, message: String) {
        let Some(left) = self.lines_left.checked_sub(1) else { return };
        self.lines_left = left;
        let (probe, message) = (&*self.probe, cut(message, LOG_LINE_MAX));
        let vm_id = self.reach.vm.map(|vm| vm.to_string());
        match level {
            Level::Debug => tracing::debug!(probe, vm_id, message, "probe says"),
            Level::Info => tracing::info!(probe, vm_id, message, "probe says"),
            Level::Warn => tracing::warn!(probe, vm_id, message, "probe says"),
        }
    }
}
