//! Joining: somebody shows the secret of a join token and gets a certificate. Only the leader signs.
//!
//! The name in the certificate is the one that the token lets in, never one of the signing request. A secret that no
//! token has costs a comparison; it is counted and logged with its sender, and nothing is signed or proposed for it.
//! Whether a name is taken is the leader's knowledge of now, and so judged before the proposal; all else is judged in
//! the log as well.

use std::net::SocketAddr;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use vouch_types::{Applied, Command, DenyReason, Digest, Incarnation, JoinRefusal, JoinRole, JoinUse, Joiner};
use vouch_wire::links::LinkError;
use vouch_wire::pki::{PeerIdentity, PkiError, certificates_of, key_digest};
use vouch_wire::proto;

use crate::certificates::signing;
use crate::counters::Count;
use crate::enroll::{EnrollError, no_longer, unreachable};
use crate::join_limit::{REFUSALS_MAX, RefusedSources};
use crate::manager::ManagerHandle;
use crate::seams::digest_of;

/// How long the certificate of one who joined is valid. It is renewed when half of that is over.
pub(crate) const JOINED_VALIDITY: Duration = Duration::from_secs(365 * 24 * 3600);

fn owner_of(joiner: &Joiner) -> PeerIdentity {
    match joiner {
        Joiner::Manager(id) => PeerIdentity::Manager(*id),
        Joiner::Node(id) => PeerIdentity::Node(id.clone()),
        Joiner::Watcher(id) => PeerIdentity::Watcher(*id),
    }
}

/// Returns which key a certificate is of.
fn key_of(certificate_pem: &str) -> Result<Digest, PkiError> {
    let chain = certificates_of(certificate_pem)?;
    let first = chain.first().ok_or_else(|| PkiError::Certificate("none was signed".to_owned()))?;
    Ok(Digest::new(key_digest(first)?))
}

/// Returns who the request says that it is.
fn joiner_of(request: &proto::JoinRequest) -> Result<Joiner, String> {
    let short = |text: &str| text.chars().take(80).collect::<String>();
    let role = JoinRole::parse(&request.role)
        .ok_or_else(|| format!("role: {:?} must be manager, node or watcher", short(&request.role)))?;
    Joiner::parse(role, &request.name)
        .ok_or_else(|| format!("name: {:?} must be an id of a {role}, as m4, n3 or w12", short(&request.name)))
}

impl ManagerHandle {
    /// Serves a join, or has the leader serve it. `from` is for the log, and for turning those away who ask too often.
    ///
    /// # Errors
    /// [`LinkError::Refused`] says in one line why not; others when no leader answers.
    pub(crate) async fn join(
        &self,
        request: proto::JoinRequest,
        from: Option<SocketAddr>,
    ) -> Result<proto::JoinResponse, LinkError> {
        self.is_source_welcome(from)?;
        let Ok(_permit) = self.0.enrolling.try_acquire() else { return Err(unreachable("too many enrol at once")) };
        let (role, name) = (request.role.clone(), request.name.clone());
        let joined = self.join_anywhere(request).await;
        if let (Err(LinkError::Refused(_)), Some(from)) = (&joined, from) {
            self.refused_sources().refused(from.ip(), self.0.clock.now());
        }
        match &joined {
            Ok(_) => tracing::info!(role, name, ?from, "joined"),
            Err(error) => tracing::warn!(role, name, ?from, %error, "join refused"),
        }
        joined
    }

    fn refused_sources(&self) -> MutexGuard<'_, RefusedSources> {
        self.0.refused_joins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns a source away that was refused too often. Not told in the log each time: its refusals were.
    fn is_source_welcome(&self, from: Option<SocketAddr>) -> Result<(), LinkError> {
        let now = self.0.clock.now();
        let Some(wait) = from.and_then(|from| self.refused_sources().wait_of(from.ip(), now)) else { return Ok(()) };
        self.0.counters.add(Count::JoinsRefused, "too_many", 1);
        let wait = wait.as_secs() + 1;
        let why = format!("{REFUSALS_MAX} joins from this address were refused within a minute: try again in {wait} s");
        // No word on this join: an earlier try of the same may have been let in.
        Err(unreachable(why))
    }

    async fn join_anywhere(&self, request: proto::JoinRequest) -> Result<proto::JoinResponse, LinkError> {
        match self.join_here(&request).await {
            Ok(response) => Ok(response),
            Err(error) => match self.ask_leader(error, proto::forward_request::Request::Join(request)).await? {
                proto::forward_response::Response::Joined(response) => Ok(response),
                _ => Err(no_longer()),
            },
        }
    }

    /// Serves a join as the leader.
    pub(crate) async fn join_here(&self, request: &proto::JoinRequest) -> Result<proto::JoinResponse, EnrollError> {
        let refused = |why: &dyn std::fmt::Display| EnrollError::Refused(why.to_string());
        let joiner = joiner_of(request).map_err(EnrollError::Refused)?;
        // A new leader may not have applied yet that the token was made, or revoked.
        self.lead_now().await?;
        let (at, secret_hash) = (self.0.wall_clock.now(), digest_of(&request.secret));
        let wanted = JoinUse { joiner: joiner.clone(), request: digest_of(&request.csr), at };
        let (allowed, secrets) = self.0.consensus.read_state(|state| {
            let allowed = state.join_allowed(&secret_hash, &wanted).map(|_| ());
            (allowed, state.cluster().map(|cluster| cluster.secrets.clone()))
        });
        allowed.map_err(|refusal| self.count_refusal(&refusal))?;
        // Only one who knows the secret learns who is heard.
        if self.is_heard(&joiner) {
            return Err(self.count_refusal(&JoinRefusal::Taken(joiner)));
        }
        let secrets = secrets.ok_or_else(|| refused(&DenyReason::NotInitialised))?;
        // First the certificate: a request that cannot be signed must not use the token up.
        let ca = signing(&secrets).map_err(|e| refused(&e))?;
        let certificate = ca
            .sign_request(&request.csr, &owner_of(&joiner), at, JOINED_VALIDITY)
            .map_err(|_| refused(&"signing request: must be PKCS #10 (DER), signed by its own key"))?;
        let key = key_of(&certificate).map_err(|e| refused(&e))?;
        let command = Command::RedeemJoinToken {
            secret_hash,
            joiner,
            request: wanted.request,
            key: Some(key),
            incarnation: Incarnation::new(request.incarnation),
            at,
        };
        match self.0.consensus.propose(command).await {
            Ok(Applied::Denied(DenyReason::JoinRefused(refusal))) => Err(self.count_refusal(&refusal)),
            Ok(Applied::Denied(reason)) => Err(refused(&reason)),
            Ok(_) => Ok(proto::JoinResponse { certificate, ca_certificate: secrets.trusted_cas() }),
            Err(error) => Err(error.into()),
        }
    }

    fn count_refusal(&self, refusal: &JoinRefusal) -> EnrollError {
        self.0.counters.add(Count::JoinsRefused, refusal.as_str(), 1);
        EnrollError::Refused(refusal.to_string())
    }

    /// Returns whether one of this name is there now.
    fn is_heard(&self, joiner: &Joiner) -> bool {
        match joiner {
            Joiner::Manager(id) => {
                let since = self.0.clock.now() - self.0.timing.window;
                *id == self.0.manager || self.0.fleet.managers_heard(since).contains(id)
            }
            Joiner::Node(id) => self.0.fleet.node_route(id).is_some(),
            // The log says whether it waits for its certificate.
            Joiner::Watcher(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_role_or_with_a_name_of_another_one_is_refused_with_field_value_and_rule() {
        let of = |role: &str, name: &str| {
            joiner_of(&proto::JoinRequest { role: role.to_owned(), name: name.to_owned(), ..Default::default() })
        };
        assert_eq!(of("manager", "m4").unwrap().to_string(), "manager m4");
        for (role, name, parts) in [
            ("root", "m4", ["role", "root", "must"]),
            ("manager", "n3", ["name", "n3", "must"]),
            ("node", "", ["name", "\"\"", "must"]),
        ] {
            let why = of(role, name).expect_err("must be refused");
            assert!(parts.iter().all(|part| why.contains(part)), "{why}");
        }
    }
}
