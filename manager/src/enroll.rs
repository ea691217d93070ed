//! Enrolment: a watcher shows its one-time secret and gets a certificate. Only the leader signs.
//!
//! Anybody who reaches the port may ask, so a wrong secret costs a comparison: nothing is signed or proposed for it,
//! and only a few enrolments are worked on at once. The same life may ask again with the same secret: its certificate
//! may have been lost on the way.

use std::time::Duration;

use vouch_types::{Applied, Command, DenyReason, Incarnation, WatcherId};
use vouch_wire::convert;
use vouch_wire::links::LinkError;
use vouch_wire::pki::PeerIdentity;
use vouch_wire::proto;

use crate::certificates::signing;
use crate::fleet::FORWARD_WITHIN;
use crate::manager::ManagerHandle;
use crate::raft::{Consistency, ProposeError};
use crate::secrets::hash_of;
use crate::store::{Redemption, redemption};

/// How long a watcher's certificate is valid. It is renewed when half of that is over, and kept in memory alone.
pub(crate) const WATCHER_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many enrolments are worked on at once; who comes on top of that tries again.
pub(crate) const ENROLMENTS_MAX: usize = 16;

pub(crate) fn no_longer() -> LinkError {
    unreachable("it does not lead any more")
}

pub(crate) fn unreachable(why: impl ToString) -> LinkError {
    LinkError::Unreachable { to: "the leader".to_owned(), address: String::new(), why: why.to_string() }
}

/// Whoever refused the connection to the leader has not judged the request: that must not be taken for a final word.
fn not_heard(error: LinkError) -> LinkError {
    match error {
        LinkError::Refused(why) => unreachable(why),
        LinkError::Unreachable { .. }
        | LinkError::NotListening { .. }
        | LinkError::Removed(_)
        | LinkError::Reset(_)
        | LinkError::Timeout(_)
        | LinkError::Malformed(_) => error,
    }
}

impl ManagerHandle {
    /// Serves an enrolment, or has the leader serve it.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when secret or request are wrong; others when no leader answers.
    pub(crate) async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError> {
        let Ok(_permit) = self.0.enrolling.try_acquire() else { return Err(unreachable("too many enrol at once")) };
        match self.enroll_here(&request).await {
            Ok(response) => Ok(response),
            Err(error) => match self.ask_leader(error, proto::forward_request::Request::Enroll(request)).await? {
                proto::forward_response::Response::Enrolled(response) => Ok(response),
                _ => Err(no_longer()),
            },
        }
    }

    /// Has the leader serve what could not be served here because another manager leads.
    pub(crate) async fn ask_leader(
        &self,
        error: EnrollError,
        request: proto::forward_request::Request,
    ) -> Result<proto::forward_response::Response, LinkError> {
        let leader = match error {
            EnrollError::NotLeader(Some(leader)) if leader != self.0.manager => leader,
            EnrollError::NotLeader(_) => return Err(unreachable("nobody leads")),
            EnrollError::Unavailable(why) => return Err(unreachable(why)),
            EnrollError::Refused(why) => return Err(LinkError::Refused(why)),
            EnrollError::Removed(why) => return Err(LinkError::Removed(why)),
        };
        let forward = proto::ForwardRequest { request: Some(request) };
        let answer = tokio::time::timeout(FORWARD_WITHIN, self.0.peer_link.forward(leader, forward))
            .await
            .map_err(|_| LinkError::Timeout(FORWARD_WITHIN))?
            .map_err(not_heard)?;
        match answer.response {
            Some(proto::forward_response::Response::Failed(why)) => Err(LinkError::Refused(why)),
            Some(proto::forward_response::Response::Unavailable(why)) => Err(unreachable(why)),
            Some(proto::forward_response::Response::Removed(why)) => Err(LinkError::Removed(why)),
            Some(response) => Ok(response),
            None => Err(no_longer()),
        }
    }

    /// Makes sure that this manager leads, and has applied what others before it had agreed on.
    pub(crate) async fn lead_now(&self) -> Result<(), EnrollError> {
        let status = self.0.consensus.status();
        if !status.leads() {
            return Err(EnrollError::NotLeader(status.leader));
        }
        self.0.consensus.ensure_current(Consistency::Lease).await.map_err(|_| EnrollError::NotLeader(None))
    }

    /// Serves an enrolment as the leader.
    pub(crate) async fn enroll_here(
        &self,
        request: &proto::EnrollRequest,
    ) -> Result<proto::EnrollResponse, EnrollError> {
        let refused = |why: &dyn std::fmt::Display| EnrollError::Refused(why.to_string());
        let watcher: WatcherId = convert::watcher_id("enroll.watcher", request.watcher).map_err(|e| refused(&e))?;
        let incarnation = Incarnation::new(request.incarnation);
        let secret_hash = hash_of(&request.secret);
        // A new leader may not have applied yet that the watcher was placed.
        self.lead_now().await?;
        let (worth, secrets) = self.0.consensus.read_state(|state| {
            let record = state.watchers().get(&watcher);
            let worth = record.map_or(Redemption::Refused, |record| redemption(record, &secret_hash, incarnation));
            (worth, state.cluster().map(|c| c.secrets.clone()))
        });
        if worth == Redemption::Refused {
            tracing::warn!(watcher_id = %watcher, "enrolment refused: the secret is worth nothing");
            return Err(refused(&DenyReason::BadSecret(watcher)));
        }
        let secrets = secrets.ok_or_else(|| refused(&"there is no cluster yet"))?;
        // First the certificate: a request that cannot be signed must not use the secret up.
        let ca = signing(&secrets).map_err(|e| refused(&e))?;
        let owner = PeerIdentity::Watcher(watcher);
        let at = self.0.wall_clock.now();
        let certificate = ca.sign_request(&request.csr, &owner, at, WATCHER_VALIDITY).map_err(|e| refused(&e))?;
        // Again too: the log says whether this leader still leads, and whether the watcher's life is over.
        let command = Command::RedeemSecret { watcher, secret_hash, incarnation, at };
        match self.0.consensus.propose(command).await {
            Ok(Applied::Denied(reason)) => {
                tracing::warn!(watcher_id = %watcher, %reason, "enrolment refused");
                Err(refused(&reason))
            }
            Ok(_) => {
                tracing::info!(watcher_id = %watcher, incarnation = request.incarnation, "watcher enrolled");
                Ok(proto::EnrollResponse { certificate })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Why an enrolment was not served here.
pub(crate) enum EnrollError {
    /// Another manager leads, if that is known.
    NotLeader(Option<vouch_types::ManagerId>),
    /// Not now: the same may be asked again.
    Unavailable(String),
    /// Secret or request are wrong.
    Refused(String),
    /// The cluster has removed who asks.
    Removed(String),
}

impl From<ProposeError> for EnrollError {
    /// Nothing of it is final. What was proposed with an unknown end may be proposed again: the same request is the
    /// same use of a secret.
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } | ProposeError::Unknown { leader } => Self::NotLeader(leader),
            ProposeError::NoRoom | ProposeError::Stopped(_) => Self::Unavailable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::ManagerId;

    use super::*;

    #[test]
    fn a_command_that_was_not_decided_on_is_never_told_as_a_refusal() {
        let leader = Some(ManagerId::new(2));
        for error in [ProposeError::NotLeader { leader }, ProposeError::Unknown { leader }] {
            assert!(matches!(error.into(), EnrollError::NotLeader(to) if to == leader));
        }
        for error in [ProposeError::NoRoom, ProposeError::Stopped("the disk".to_owned())] {
            let text = error.to_string();
            assert!(matches!(error.into(), EnrollError::Unavailable(why) if why == text));
        }
        let refused = LinkError::Refused("m2 is no member".to_owned());
        assert!(matches!(not_heard(refused), LinkError::Unreachable { why, .. } if why.contains("no member")));
    }
}
