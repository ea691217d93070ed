//! `/v1/nodes/{id}/fence-proof`: the word from outside that a node does not run, which alone makes it safe to start its
//! VMs elsewhere; and `/v1/vms/{id}/pins`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{BootId, Command, FenceKind, LogIndex, NodeId};

use super::vms::find;
use crate::api::etag::{self, Conditions};
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::propose::propose;
use crate::api::view::{FenceProofRequest, NodeView, VmView};
use crate::api::{Api, compose, published};

/// The reason of a withdrawal that comes from this route.
const WITHDRAWN: &str = "an operator withdrew it";

fn parse_kind(text: &str) -> Result<FenceKind, Problem> {
    let kinds = [FenceKind::PowerOff, FenceKind::Fenced];
    kinds
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| Problem::field(ProblemKind::BadParameter, "kind", text, "must be power_off or fenced"))
}

/// Returns the node of a path, and the boot in which it was last heard.
fn node_of(api: &Api, id: &str) -> Result<(NodeId, BootId), Problem> {
    let node = published::read(api.published(), |state| {
        let node = state.nodes().get(&NodeId::new(id).ok()?)?;
        Some((node.id.clone(), node.boot))
    });
    let rule = "must be the name of a node that a manager has heard";
    node.ok_or_else(|| Problem::field(ProblemKind::NodeNotFound, "id", id, rule))
}

/// Answers with the node as it is now.
async fn node_now(api: &Api, id: &str) -> Result<Response, Problem> {
    let hearing = api.live().hearing().await;
    let view = published::read(api.published(), |state| {
        let node = state.nodes().get(&NodeId::new(id).ok()?)?;
        Some((node.modified, compose::node_view(state, node, &hearing)))
    });
    let gone = || Problem::new(ProblemKind::Internal, "the node has gone meanwhile");
    let (version, view): (LogIndex, NodeView) = view.ok_or_else(gone)?;
    let mut headers = headers(api, Wanted::Default);
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)).into_response())
}

/// Records that a boot of a node does not run. Whoever says so answers for it: its VMs may be started elsewhere after
/// that. Refused while any manager hears the node; withdrawn by any later sign of life.
#[utoipa::path(
    post, path = "/v1/nodes/{id}/fence-proof", tag = "nodes",
    params(
        ("id" = String, Path, description = "Name of the node"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
        ("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this request is sent"),
    ),
    request_body = FenceProofRequest,
    responses(
        (status = 200, description = "The node with its proof", body = NodeView),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The node is heard (`node-is-heard`), or was last heard in another boot \
            (`other-boot`)", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The key was used for another request",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn prove(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
    conditions: Conditions,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let request: FenceProofRequest = body.parse()?;
    let kind = parse_kind(&request.kind)?;
    let rule = "must be the boot id of the node, a UUID";
    let wrong = |text: &String| Problem::field(ProblemKind::BadParameter, "boot", text, rule);
    let told: Option<BootId> = request.boot.as_ref().map(|text| text.parse().map_err(|_| wrong(text))).transpose()?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::POST, uri.path(), body.0.clone()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let (node, recorded) = node_of(&api, &id)?;
    let (boot, at) = (told.unwrap_or(recorded), api.wall().now());
    let command = Command::RecordFenceProof { node, boot, kind, note: request.note, at };
    propose(&api, conditions.guard(command, ("POST", uri.path(), &body.0), at)).await?;
    node_now(&api, &id).await
}

/// Withdraws the proof that a node does not run.
#[utoipa::path(
    delete, path = "/v1/nodes/{id}/fence-proof", tag = "nodes",
    params(
        ("id" = String, Path, description = "Name of the node"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "The node without a proof", body = NodeView),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn withdraw(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
    conditions: Conditions,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::DELETE, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let (node, _) = node_of(&api, &id)?;
    let at = api.wall().now();
    let command = Command::WithdrawFenceProof { node, reason: WITHDRAWN.to_owned(), at };
    propose(&api, conditions.guard(command, ("DELETE", uri.path(), &[]), at)).await?;
    node_now(&api, &id).await
}

/// Forgets whom the probes of a VM are to find behind its addresses: after a new certificate, say.
#[utoipa::path(
    delete, path = "/v1/vms/{id}/pins", tag = "vms",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "The VM without pins", body = VmView),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn forget_pins(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
    conditions: Conditions,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::DELETE, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let (vm, _) = published::read(api.published(), |state| find(state, &id))?;
    let at = api.wall().now();
    propose(&api, conditions.guard(Command::ForgetPins { vm, at }, ("DELETE", uri.path(), &[]), at)).await?;
    let (version, view) = published::read(api.published(), |state| {
        find(state, &vm.to_string()).map(|(id, vm)| (vm.modified, compose::vm_view(state, id, &vm)))
    })?;
    let mut headers = headers(&api, Wanted::Default);
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)).into_response())
}
