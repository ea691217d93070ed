//! Questions to a VM's guest agent, carried by the relay of the VM's node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use vouch_probe_host::{GuestAgent, GuestAgentError};
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

#[async_trait]
impl GuestAgent for RelayedGuestAgent {
    async fn ping(&self, vm: &VmId, timeout: Duration) -> Result<Duration, GuestAgentError> {
        let request = proto::GuestAgentRequest {
            grant: Some(self.relay.grant.clone()),
            vm: vm_bytes(*vm),
            query: proto::GuestAgentQuery::Ping.into(),
            timeout_micros: u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX),
        };
        let begun = Instant::now();
        match self.link.guest_agent(&self.relay.node, self.relay.address, request).await {
            Ok(response) => match response.result {
                Some(Answered::Reply(_)) => Ok(begun.elapsed()),
                Some(Answered::Silent(_)) => Err(GuestAgentError::Silent),
                Some(Answered::Unavailable(_)) => Err(GuestAgentError::NoChannel),
                None => Err(GuestAgentError::Other("the relay's answer is empty".to_owned())),
            },
            Err(LinkError::Refused(_)) => Err(GuestAgentError::NotGranted),
            Err(error) => Err(GuestAgentError::Unreachable(error.to_string())),
        }
    }
}
