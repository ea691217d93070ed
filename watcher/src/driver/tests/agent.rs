//! Questions to guest agents, and what a relay answers.

use proto::guest_agent_response::Result as Answered;
use vouch_probe_host::{AgentQuery, GuestAgent, GuestAgentError};

use super::*;
use crate::driver::guest_agent::RelayedGuestAgent;
use crate::logic::RelaySpec;

fn asked(answer: Option<proto::GuestAgentResponse>) -> RelayedGuestAgent {
    let address = "127.0.0.1:1".parse().unwrap();
    let relay = RelaySpec { node: NodeId::new("n1").unwrap(), address, grant: proto::Signed::default() };
    RelayedGuestAgent { link: Arc::new(SimRelay(answer)), relay: Arc::new(relay) }
}

#[tokio::test]
async fn what_a_relay_answers_is_told_apart() {
    let (vm, limit) = (VmId::new(uuid::Uuid::from_u128(1)), Duration::from_secs(1));
    let response = |result| Some(proto::GuestAgentResponse { result });
    let info = asked(response(Some(Answered::Reply("{}".to_owned())))).query(&vm, AgentQuery::Info, limit).await;
    assert_eq!(info, Ok("{}".to_owned()));
    for (answer, error) in [
        (response(Some(Answered::Silent(true))), GuestAgentError::Silent),
        (response(Some(Answered::Unavailable("agent socket".to_owned()))), GuestAgentError::NoChannel),
        (response(Some(Answered::NotPut("busy".to_owned()))), GuestAgentError::Unreachable("busy".to_owned())),
        (response(Some(Answered::TooLong(true))), GuestAgentError::TooLong),
        (response(None), GuestAgentError::Other("the relay's answer is empty".to_owned())),
        (None, GuestAgentError::NotGranted),
    ] {
        assert_eq!(asked(answer).ping(&vm, limit).await, Err(error));
    }
}
