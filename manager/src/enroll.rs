//! Enrolment: a watcher shows its one-time secret and gets a certificate. Only the leader signs.

use std::time::Duration;

use vouch_types::{Applied, Command, Incarnation, WatcherId};
use vouch_wire::convert;
use vouch_wire::links::LinkError;
use vouch_wire::pki::{CertificateAuthority, PeerIdentity};
use vouch_wire::proto;

use crate::fleet::FORWARD_WITHIN;
use crate::manager::ManagerHandle;
use crate::raft::ProposeError;
use crate::secrets::hash_of;

/// How long a watcher's certificate is valid. A watcher is replaced before that: renewal is not there yet.
pub(crate) const WATCHER_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

fn unreachable(why: impl ToString) -> LinkError {
    LinkError::Unreachable { to: "the leader".to_owned(), address: String::new(), why: why.to_string() }
}

impl ManagerHandle {
    /// Serves an enrolment, or has the leader serve it.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when secret or request are wrong; others when no leader answers.
    pub(crate) async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError> {
        match self.enroll_here(&request).await {
            Err(EnrollError::NotLeader(Some(leader))) if leader != self.0.manager => {
                let forward = proto::ForwardRequest { request: Some(proto::forward_request::Request::Enroll(request)) };
                let answer = tokio::time::timeout(FORWARD_WITHIN, self.0.peer_link.forward(leader, forward))
                    .await
                    .map_err(|_| LinkError::Timeout(FORWARD_WITHIN))??;
                match answer.response {
                    Some(proto::forward_response::Response::Enrolled(response)) => Ok(response),
                    Some(proto::forward_response::Response::Failed(why)) => Err(LinkError::Refused(why)),
                    Some(_) | None => Err(unreachable("it does not lead any more")),
                }
            }
            Err(EnrollError::NotLeader(_)) => Err(unreachable("nobody leads")),
            Err(EnrollError::Refused(why)) => Err(LinkError::Refused(why)),
            Ok(response) => Ok(response),
        }
    }

    /// Serves an enrolment as the leader.
    pub(crate) async fn enroll_here(
        &self,
        request: &proto::EnrollRequest,
    ) -> Result<proto::EnrollResponse, EnrollError> {
        let refused = |why: &dyn std::fmt::Display| EnrollError::Refused(why.to_string());
        let status = self.0.consensus.status();
        if !status.leads() {
            return Err(EnrollError::NotLeader(status.leader));
        }
        let watcher: WatcherId = convert::watcher_id("enroll.watcher", request.watcher).map_err(|e| refused(&e))?;
        let secrets = self.0.consensus.read_state(|state| state.cluster().map(|c| c.secrets.clone()));
        let secrets = secrets.ok_or_else(|| refused(&"there is no cluster yet"))?;
        // First the certificate: a request that cannot be signed must not use the secret up.
        let ca = CertificateAuthority::from_pem(&secrets.ca_certificate, &secrets.ca_key).map_err(|e| refused(&e))?;
        let owner = PeerIdentity::Watcher(watcher);
        let at = self.0.wall_clock.now();
        let certificate = ca.sign_request(&request.csr, &owner, at, WATCHER_VALIDITY).map_err(|e| refused(&e))?;
        let command = Command::RedeemSecret {
            watcher,
            secret_hash: hash_of(&request.secret),
            incarnation: Incarnation::new(request.incarnation),
            at,
        };
        match self.0.consensus.propose(command).await {
            Ok(Applied::Denied(reason)) => {
                tracing::warn!(watcher_id = %watcher, %reason, "enrolment refused");
                Err(refused(&reason))
            }
            Ok(_) => {
                tracing::info!(watcher_id = %watcher, incarnation = request.incarnation, "watcher enrolled");
                Ok(proto::EnrollResponse { certificate })
            }
            Err(ProposeError::NotLeader { leader }) => Err(EnrollError::NotLeader(leader)),
            Err(error) => Err(refused(&error)),
        }
    }
}

/// Why an enrolment was not served here.
pub(crate) enum EnrollError {
    /// Another manager leads, if that is known.
    NotLeader(Option<vouch_types::ManagerId>),
    /// Secret or request are wrong.
    Refused(String),
}
