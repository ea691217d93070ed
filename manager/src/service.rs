//! What a manager does with the streams and requests of others: each goes to the part that owns it.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use vouch_types::{Digest, ManagerId, NodeId, WatcherId};
use vouch_wire::convert;
use vouch_wire::links::{Caller, LinkError, LogNames, ManagerService, RaftCall, RaftCallKind, RaftService, Session};
use vouch_wire::pki::ShownCertificate;
use vouch_wire::proto;
use vouch_wire::proto::forward_request::Request;
use vouch_wire::proto::forward_response::Response;

use crate::enroll::EnrollError;
use crate::manager::ManagerHandle;
use crate::members::{Members, Standing};
use crate::raft::ProposeError;
use crate::store::Logged;
use crate::store::codec::encode;

/// What nodes, watchers and other managers call.
pub(crate) struct Service(pub(crate) ManagerHandle);

fn failed(why: impl std::fmt::Display) -> Response {
    Response::Failed(why.to_string())
}

fn not_leader(leader: Option<ManagerId>) -> Response {
    Response::NotLeader(leader.map_or(0, ManagerId::get))
}

fn not_enrolled(error: EnrollError) -> Response {
    match error {
        EnrollError::NotLeader(leader) => not_leader(leader),
        EnrollError::Unavailable(why) => Response::Unavailable(why),
        EnrollError::Refused(why) => failed(why),
        EnrollError::Removed(why) => Response::Removed(why),
    }
}

impl Service {
    async fn command(&self, bytes: &[u8]) -> Response {
        let command = match Logged::read(bytes) {
            Ok(command) => command,
            Err(error) => return failed(error),
        };
        match self.0.consensus().propose_logged(command).await {
            Ok(applied) => encode("applied command", &applied).map_or_else(failed, Response::Applied),
            Err(ProposeError::NotLeader { leader }) => not_leader(leader),
            Err(error) => failed(error),
        }
    }

    async fn certificate(&self, request: proto::ForwardCertificate) -> Response {
        // A member says what it was shown: TLS there has checked it.
        let shown = match ShownCertificate::new(request.shown.into()) {
            Ok(shown) => shown,
            Err(error) => return failed(error),
        };
        match self.0.check_certificate_here(&shown, &request.check.unwrap_or_default()).await {
            Ok(answer) => Response::Certificate(answer),
            Err(error) => not_enrolled(error),
        }
    }

    async fn serve(&self, request: Request) -> Response {
        match request {
            Request::Command(bytes) => self.command(&bytes).await,
            Request::Enroll(request) => match self.0.enroll_here(&request).await {
                Ok(response) => Response::Enrolled(response),
                Err(error) => not_enrolled(error),
            },
            Request::Join(request) => match self.0.join_here(&request).await {
                Ok(response) => Response::Joined(response),
                Err(error) => not_enrolled(error),
            },
            Request::Certificate(request) => self.certificate(request).await,
            Request::ToWatcher(forward) => {
                match (convert::watcher_id("forward.watcher", forward.watcher), forward.message) {
                    (Ok(watcher), Some(message)) => {
                        Response::Sent(self.0.0.fleet.send_to_own_watcher(watcher, &message))
                    }
                    (Err(error), _) => failed(error),
                    (Ok(_), None) => failed("no message"),
                }
            }
            Request::ToNode(forward) => match (convert::node_id("forward.node", &forward.node), forward.message) {
                (Ok(node), Some(message)) => Response::Sent(self.0.0.fleet.send_to_own_node(&node, &message)),
                (Err(error), _) => failed(error),
                (Ok(_), None) => failed("no message"),
            },
            Request::Api(request) => match self.0.0.api.get() {
                Some(api) => Response::Api(api.forwarded(request).await),
                None => failed("this manager serves no API"),
            },
        }
    }
}

/// Raft, for members; a manager that was never heard of here may bring the log, and one that was removed nothing.
pub(crate) struct MembersRaft {
    pub(crate) members: Members,
    pub(crate) raft: Arc<dyn RaftService>,
}

impl MembersRaft {
    fn admit(&self, from: ManagerId, call: RaftCallKind) -> Result<(), LinkError> {
        admitted(from, self.members.standing(from), call)
    }
}

fn admitted(from: ManagerId, standing: Standing, call: RaftCallKind) -> Result<(), LinkError> {
    if standing.may(call) {
        return Ok(());
    }
    tracing::warn!(manager_id = %from, ?standing, ?call, "raft call refused: no member");
    Err(LinkError::Refused(format!("{from} is no member")))
}

#[async_trait]
impl RaftService for MembersRaft {
    async fn call(&self, from: ManagerId, request: RaftCall) -> Result<Vec<u8>, LinkError> {
        self.admit(from, request.kind)?;
        self.raft.call(from, request).await
    }

    async fn append_stream(
        &self,
        from: ManagerId,
        names: LogNames,
        requests: BoxStream<'static, Result<Vec<u8>, LinkError>>,
    ) -> BoxStream<'static, Result<Vec<u8>, LinkError>> {
        match self.admit(from, RaftCallKind::Append) {
            Ok(()) => self.raft.append_stream(from, names, requests).await,
            Err(refused) => Box::pin(futures::stream::iter([Err(refused)])),
        }
    }
}

#[async_trait]
impl ManagerService for Service {
    async fn node_session(
        &self,
        node: Caller<NodeId>,
        session: Session<proto::FromNode, proto::ToNode>,
    ) -> Result<(), LinkError> {
        self.0.admit_node(&node).await?;
        self.0.0.fleet.accept_node(node, session);
        Ok(())
    }

    async fn watcher_session(
        &self,
        watcher: Caller<WatcherId>,
        session: Session<proto::FromWatcher, proto::ToWatcher>,
    ) {
        self.0.0.fleet.accept_watcher(watcher, session);
    }

    async fn evidence_session(
        &self,
        manager: Caller<ManagerId>,
        session: Session<proto::EvidenceFrame, proto::EvidenceFrame>,
    ) {
        if self.0.0.members.contains(manager.id) {
            self.0.0.fleet.accept_evidence(manager, session);
        } else {
            tracing::warn!(manager_id = %manager.id, "evidence stream refused: no member");
        }
    }

    async fn forward(&self, manager: ManagerId, request: proto::ForwardRequest) -> proto::ForwardResponse {
        let response = match request.request {
            Some(request) if self.0.0.members.contains(manager) => self.serve(request).await,
            Some(_) => failed(format!("{manager} is no member")),
            None => failed("no request"),
        };
        proto::ForwardResponse { response: Some(response) }
    }

    async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError> {
        self.0.enroll(request).await
    }

    async fn join(
        &self,
        request: proto::JoinRequest,
        from: Option<SocketAddr>,
    ) -> Result<proto::JoinResponse, LinkError> {
        self.0.join(request, from).await
    }

    async fn check_certificate(
        &self,
        shown: ShownCertificate,
        check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError> {
        self.0.check_certificate(shown, check).await
    }

    async fn probe_bytes(&self, digest: [u8; 32]) -> Option<bytes::Bytes> {
        match self.0.0.blobs.get(Digest::new(digest)) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "probe component cannot be read");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_removed_is_refused_by_name() {
        let m3 = ManagerId::new(3);
        assert!(admitted(m3, Standing::Member, RaftCallKind::Vote).is_ok());
        let refused = admitted(m3, Standing::Removed, RaftCallKind::Append).expect_err("refused");
        assert!(matches!(refused, LinkError::Refused(why) if why.contains("m3")));
    }
}
