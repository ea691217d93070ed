//! Questions to a VM's guest agent, carried by the relay of the VM's node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use vouch_probe_host::{AgentQuery, GuestAgent, GuestAgentError};
use vouch_types::{AgentQuestion, VmId};
use vouch_wire::convert::vm_bytes;
use vouch_wire::links::{LinkError, RelayLink};
use vouch_wire::proto;
use vouch_wire::proto::guest_agent_response::Result as Answered;

use crate::logic::RelaySpec;

/// [`GuestAgent`] through a node's relay, on the grant of the assignment.
pub(super) struct RelayedGuestAgent {
    pub(super) link: Arc<dyn RelayLink>,
    pub(super) relay: Arc<RelaySpec>,
}

impl RelayedGuestAgent {
    /// Has the relay put a question to the agent; returns the agent's answer.
    async fn ask(&self, vm: &VmId, question: AgentQuestion, timeout: Duration) -> Result<String, GuestAgentError> {
        let request = proto::GuestAgentRequest {
            grant: Some(self.relay.grant.clone()),
            vm: vm_bytes(*vm),
            query: proto::GuestAgentQuery::from(question).into(),
            timeout_micros: u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX),
        };
        match self.link.guest_agent(&self.relay.node, self.relay.address, request).await {
            Ok(response) => match response.result {
                Some(Answered::Reply(reply)) => Ok(reply),
                Some(Answered::TooLong(_)) => Err(GuestAgentError::TooLong),
                Some(Answered::Silent(_)) => Err(GuestAgentError::Silent),
                Some(Answered::Unavailable(_)) => Err(GuestAgentError::NoChannel),
                Some(Answered::NotPut(why)) => Err(GuestAgentError::Unreachable(why)),
                None => Err(GuestAgentError::Other("the relay's answer is empty".to_owned())),
            },
            Err(LinkError::Refused(_)) => Err(GuestAgentError::NotGranted),
            Err(error) => Err(GuestAgentError::Unreachable(error.to_string())),
        }
    }
}

#[async_trait]
impl GuestAgent for RelayedGuestAgent {
    async fn ping(&self, vm: &VmId, timeout: Duration) -> Result<Duration, GuestAgentError> {
        let begun = Instant::now();
        self.ask(vm, AgentQuestion::Ping, timeout).await.map(|_reply| begun.elapsed())
    }

    async fn query(&self, vm: &VmId, query: AgentQuery, timeout: Duration) -> Result<String, GuestAgentError> {
        self.ask(vm, query.into(), timeout).await
    }
}
