//! `/v1/cluster/members` and `/v1/cluster/transfer`: managers added, given a vote, removed, and who leads.
//!
//! The leader decides; a manager that follows hands the request over.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{ManagerId, ManagerNode, Network};

use crate::api::forward::{self, Hop};
use crate::api::live::MemberChange;
use crate::api::params::{JsonBody, Params};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{ClusterView, MemberRequest, TransferRequest};
use crate::api::{Api, compose, published};
use crate::raft::MembershipError;

fn manager_of(field: &str, id: &str) -> Result<ManagerId, Problem> {
    let rule = "must be the id of a manager, such as m4";
    id.parse().map_err(|_| Problem::field(ProblemKind::BadParameter, field, id, rule))
}

fn address(field: &str, text: &str) -> Result<std::net::SocketAddr, Problem> {
    let rule = "must be an address and a port, such as 10.1.0.4:7001";
    text.parse().map_err(|_| Problem::field(ProblemKind::BadParameter, field, text, rule))
}

fn problem(error: MembershipError) -> Problem {
    let kind = match error {
        MembershipError::NotLeader { .. } => ProblemKind::NoLeader,
        MembershipError::NotMember(_) => ProblemKind::MemberNotFound,
        MembershipError::AlreadyMember(_)
        | MembershipError::AlreadyVoter(_)
        | MembershipError::TooMany
        | MembershipError::Behind { .. }
        | MembershipError::Silent(_)
        | MembershipError::Leads(_)
        | MembershipError::Alone(_)
        | MembershipError::NoQuorumLeft { .. }
        | MembershipError::InProgress(_) => ProblemKind::MembersUnchanged,
        MembershipError::Unknown => ProblemKind::Timeout,
        MembershipError::Stopped(_) => ProblemKind::Internal,
    };
    Problem::new(kind, error.to_string())
}

/// Has the leader make the change: this manager, or the one that it hands the request over to.
async fn change(
    api: &Api,
    (hop, method, uri): (&Hop, &Method, &Uri),
    body: Bytes,
    change: MemberChange,
) -> Result<Response, Problem> {
    if let Some(answer) = forward::to_leader(api, hop, method, uri.path(), body).await? {
        return Ok(answer);
    }
    api.live().change_members(change).await.map_err(problem)?;
    let (status, hashes) = (api.published().status(), api.live().state_hashes());
    Ok(Json(published::read(api.published(), |state| compose::cluster_view(state, &status, hashes))).into_response())
}

/// Adds a manager without a vote. Start it with a data folder of its own, and promote it once it has caught up.
#[utoipa::path(
    post, path = "/v1/cluster/members", tag = "cluster",
    request_body = MemberRequest,
    responses(
        (status = 200, description = "The cluster with its new member", body = ClusterView),
        (status = 409, description = "Not changed", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn add(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    params: Params,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let request: MemberRequest = body.parse()?;
    let id = manager_of("id", &request.id)?;
    let mut addresses = vec![(Network::Management, address("management", &request.management)?)];
    if let Some(service) = &request.service {
        addresses.push((Network::Service, address("service", service)?));
    }
    change(
        &api,
        (&hop, &Method::POST, &uri),
        body.0,
        MemberChange::Add(id, ManagerNode { addresses, api: request.api.unwrap_or_default() }),
    )
    .await
}

/// Gives a member a vote.
#[utoipa::path(
    post, path = "/v1/cluster/members/{id}/promote", tag = "cluster",
    params(("id" = String, Path, description = "Id of the manager")),
    responses(
        (status = 200, description = "The cluster", body = ClusterView),
        (status = 404, description = "No such member", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not changed", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn promote(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let id = manager_of("id", &id)?;
    change(&api, (&hop, &Method::POST, &uri), Bytes::new(), MemberChange::Promote(id)).await
}

/// Removes a member; refused when that would lose the quorum. The manager is not told: end its process.
#[utoipa::path(
    delete, path = "/v1/cluster/members/{id}", tag = "cluster",
    params(("id" = String, Path, description = "Id of the manager")),
    responses(
        (status = 200, description = "The cluster without it", body = ClusterView),
        (status = 404, description = "No such member", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not changed", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let id = manager_of("id", &id)?;
    change(&api, (&hop, &Method::DELETE, &uri), Bytes::new(), MemberChange::Remove(id)).await
}

/// Hands the leadership to another manager, and answers once another one leads.
#[utoipa::path(
    post, path = "/v1/cluster/transfer", tag = "cluster",
    request_body = TransferRequest,
    responses(
        (status = 200, description = "The cluster under its new leader", body = ClusterView),
        (status = 404, description = "No such member", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Not changed", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn transfer(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    params: Params,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let request: TransferRequest = body.parse()?;
    let to = request.to.as_deref().map(|to| manager_of("to", to)).transpose()?;
    change(&api, (&hop, &Method::POST, &uri), body.0, MemberChange::Transfer(to)).await
}
