//! Asks a node's relay for statements, and says what came of it.

use std::time::Duration;

use tokio::time::timeout;
use vouch_types::{ManagerId, Nonce, RelayOutcome};
use vouch_wire::convert::limits::MANAGERS_MAX;
use vouch_wire::links::{LinkError, RelayLink};
use vouch_wire::proto;

use crate::logic::{Ended, RelaySpec};

/// The most time that one question may take, should the link have no limit of its own.
const ASK_MAX: Duration = Duration::from_secs(10);

/// Asks once.
pub(super) async fn ask(link: &dyn RelayLink, spec: &RelaySpec, nonce: Nonce) -> Ended {
    let request = proto::StateRequest { grant: Some(spec.grant.clone()), nonce: nonce.get() };
    let answer = timeout(ASK_MAX, link.state(&spec.node, spec.address, request)).await;
    let (outcome, hears, statements) = match answer.unwrap_or(Err(LinkError::Timeout(ASK_MAX))) {
        Ok(response) => {
            let hears = response.hears.into_iter().filter(|id| *id > 0).take(MANAGERS_MAX).map(ManagerId::new);
            (RelayOutcome::Reached, hears.collect(), response.statements)
        }
        Err(error) => {
            tracing::debug!(node_id = %spec.node, %error, "relay did not answer");
            (outcome_of(&error), Vec::new(), Vec::new())
        }
    };
    Ended::Relay { outcome, hears, statements }
}

fn outcome_of(error: &LinkError) -> RelayOutcome {
    match error {
        LinkError::Unreachable { .. } => RelayOutcome::Silent,
        LinkError::NotListening { .. } => RelayOutcome::Refused,
        LinkError::Timeout(_) | LinkError::Reset(_) => RelayOutcome::Stalled,
        // Somebody answered, and did not give what was asked for.
        LinkError::Refused(_) | LinkError::Removed(_) | LinkError::Malformed(_) => RelayOutcome::Denied,
    }
}
