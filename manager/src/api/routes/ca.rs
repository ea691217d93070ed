//! `/v1/cluster/ca`: which CAs are trusted, and another CA in place of the first, step by step.
//!
//! The leader knows who is ready, and decides; a manager that follows hands the request over.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::DenyReason;
use vouch_wire::pki::PeerIdentity;

use crate::api::Api;
use crate::api::ca_view::{CaStepRequest, CaView};
use crate::api::forward::{self, Hop};
use crate::api::live::{CaError, CaStep};
use crate::api::params::{JsonBody, Params};
use crate::api::problem::{Problem, ProblemKind};

fn problem(error: CaError) -> Problem {
    let kind = match &error {
        CaError::NotLeader => ProblemKind::NoLeader,
        CaError::Refused(DenyReason::NotInitialised) => ProblemKind::NotInitialised,
        CaError::Refused(_) | CaError::Behind { .. } | CaError::NoRoom { .. } => ProblemKind::CaUnchanged,
        CaError::Unknown(_) => ProblemKind::Timeout,
        CaError::Internal(_) => ProblemKind::Internal,
    };
    Problem::new(kind, error.to_string())
}

fn without(body: &JsonBody) -> Result<BTreeSet<PeerIdentity>, Problem> {
    let request: CaStepRequest = if body.0.is_empty() { CaStepRequest::default() } else { body.parse()? };
    let rule = "must be ID.manager.vouch, ID.node.vouch or ID.watcher.vouch";
    let owner = |name: String| {
        PeerIdentity::from_server_name(&name)
            .map_err(|_| Problem::field(ProblemKind::BadParameter, "without", &name, rule))
    };
    request.without.into_iter().map(owner).collect()
}

async fn step(api: &Api, hop: &Hop, uri: &Uri, body: Bytes, step: CaStep) -> Result<Response, Problem> {
    if let Some(answer) = forward::to_leader(api, hop, &Method::POST, uri.path(), body).await? {
        return Ok(answer);
    }
    api.live().rotate_ca(step).await.map(|view| Json(view).into_response()).map_err(problem)
}

/// The CAs that are trusted, and who is not ready for the next step of their rotation.
#[utoipa::path(
    get, path = "/v1/cluster/ca", tag = "cluster",
    responses(
        (status = 200, description = "The CAs", body = CaView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(State(api): State<Api>, hop: Hop, uri: Uri, params: Params) -> Result<Response, Problem> {
    params.finish(&[])?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::GET, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    api.live().ca().await.map(|view| Json(view).into_response()).map_err(problem)
}

/// Makes a new CA and has it trusted beside the old one, which goes on signing.
#[utoipa::path(
    post, path = "/v1/cluster/ca/rotate", tag = "cluster",
    responses(
        (status = 200, description = "The CAs", body = CaView),
        (status = 409, description = "A rotation is under way, or so many CAs are trusted already that there is no room for one more",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn rotate(State(api): State<Api>, hop: Hop, uri: Uri, params: Params) -> Result<Response, Problem> {
    params.finish(&[])?;
    step(&api, &hop, &uri, Bytes::new(), CaStep::Begin).await
}

/// Has the new CA sign, once everybody trusts it; everybody then gets a certificate of it.
#[utoipa::path(
    post, path = "/v1/cluster/ca/switch", tag = "cluster",
    request_body = CaStepRequest,
    responses(
        (status = 200, description = "The CAs", body = CaView),
        (status = 409, description = "Not now, or some do not trust it yet: who",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn switch(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    params: Params,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let without = without(&body)?;
    step(&api, &hop, &uri, body.0, CaStep::Switch { without }).await
}

/// Trusts the old CA no more, once everybody has a certificate of the new one.
#[utoipa::path(
    post, path = "/v1/cluster/ca/finish", tag = "cluster",
    request_body = CaStepRequest,
    responses(
        (status = 200, description = "The CA", body = CaView),
        (status = 409, description = "Not now, or some would be locked out: who",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn finish(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    params: Params,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let without = without(&body)?;
    step(&api, &hop, &uri, body.0, CaStep::Finish { without }).await
}
