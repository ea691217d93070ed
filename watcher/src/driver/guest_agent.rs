//! Questions to a VM's guest agent, carried by the relay of the VM's node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use vouch_probe_host::{AgentQuery, GuestAgent, GuestAgentError};
use vouch_types::VmId;
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
    async fn ask(
        &self,
        vm: &VmId,
        query: proto::GuestAgentQuery,
        timeout: Duration,
    ) -> Result<String, GuestAgentError> {
        let request = proto::GuestAgentRequest {
            grant: Some(self.relay.grant.clone()),
            vm: vm_bytes(*vm),
            query: query.into(),
            timeout_micros: u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX),
        };
        match self.link.guest_agent(&self.relay.node, self.relay.address, request).await {
            Ok(response) => match response.result {
                Some(Answered::Reply(reply)) => Ok(reply),
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
        self.ask(vm, proto::GuestAgentQuery::Ping, timeout).await.map(|_reply| begun.elapsed())
    }

    async fn query(&self, vm: &VmId, query: AgentQuery, timeout: Duration) -> Result<String, GuestAgentError> {
        let query = match query {
            AgentQuery::Info => proto::GuestAgentQuery::Info,
        };
        self.ask(vm, query, timeout).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use vouch_types::NodeId;

    use super::*;

    /// A relay that has one answer.
    struct OneAnswer(Option<Answered>);

    #[async_trait]
    impl RelayLink for OneAnswer {
        async fn state(
            &self,
            _: &NodeId,
            _: SocketAddr,
            _: proto::StateRequest,
        ) -> Result<proto::StateResponse, LinkError> {
            Err(LinkError::Refused("not here".to_owned()))
        }

        async fn guest_agent(
            &self,
            _: &NodeId,
            _: SocketAddr,
            _: proto::GuestAgentRequest,
        ) -> Result<proto::GuestAgentResponse, LinkError> {
            Ok(proto::GuestAgentResponse { result: self.0.clone() })
        }
    }

    fn asked(answer: Option<Answered>) -> RelayedGuestAgent {
        let address = "127.0.0.1:1".parse().unwrap();
        let relay = RelaySpec { node: NodeId::new("n1").unwrap(), address, grant: proto::Signed::default() };
        RelayedGuestAgent { link: Arc::new(OneAnswer(answer)), relay: Arc::new(relay) }
    }

    #[tokio::test]
    async fn what_a_relay_answers_is_told_apart() {
        let (vm, limit) = (VmId::new(uuid::Uuid::from_u128(1)), Duration::from_secs(1));
        let info = asked(Some(Answered::Reply("{}".to_owned()))).query(&vm, AgentQuery::Info, limit).await;
        assert_eq!(info, Ok("{}".to_owned()));
        for (answer, error) in [
            (Some(Answered::Silent(true)), GuestAgentError::Silent),
            (Some(Answered::Unavailable("agent socket".to_owned())), GuestAgentError::NoChannel),
            (Some(Answered::NotPut("busy".to_owned())), GuestAgentError::Unreachable("busy".to_owned())),
            (None, GuestAgentError::Other("the relay's answer is empty".to_owned())),
        ] {
            assert_eq!(asked(answer).ping(&vm, limit).await, Err(error));
        }
    }
}
