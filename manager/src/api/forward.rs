//! Requests that only the leader can serve, between managers.
//!
//! A manager that does not lead hands a request over once; a request that came from another manager is never handed on,
//! so two managers that each take the other for the leader do not play ball with it. What comes in here has passed the
//! mutual authentication of managers, and so needs no token.

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use vouch_types::{Digest, LogIndex, ManagerId};
use vouch_wire::proto;

use super::etag::Conditions;
use super::limits::{COMPONENT_MAX, FORWARD_TIMEOUT};
use super::problem::{Problem, ProblemKind};
use super::{Api, freshness, node_removal, passed, probe_orders};
use crate::raft::Consistency;

/// Whether a request came from a client or from another manager.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// From a client.
    Client,
    /// From another manager.
    Manager,
}

/// Where a request came from, and what of its headers goes on with it.
#[derive(Clone, PartialEq, Debug)]
pub struct Hop {
    /// Where it came from.
    pub from: Origin,
    headers: Vec<proto::ApiHeader>,
}

impl Hop {
    /// Returns what of the headers goes on.
    pub(super) fn headers(&self) -> &[proto::ApiHeader] {
        &self.headers
    }

    /// Returns it for another write than the one that was asked for: what the headers say does not hold for that.
    pub(super) fn without_headers(&self) -> Self {
        Self { from: self.from, headers: Vec::new() }
    }

    /// Returns what the headers say must hold for a write.
    ///
    /// # Errors
    /// A problem that names the header and its rule.
    pub(super) fn conditions(&self) -> Result<Conditions, Problem> {
        Conditions::of(&passed::request_headers(&self.headers))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Hop {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let from = parts.extensions.get::<Origin>().copied().unwrap_or(Origin::Client);
        Ok(Self { from, headers: passed::of_request(&parts.headers) })
    }
}

/// Hands a request to the leader, if that is another manager. `None`: this one leads, serve it here.
///
/// # Errors
/// A problem when no leader is known or answers, or when the request has been handed over before.
pub async fn to_leader(
    api: &Api,
    hop: &Hop,
    method: &Method,
    path: &str,
    body: Bytes,
) -> Result<Option<Response>, Problem> {
    match leader_elsewhere(api, hop)? {
        Some(leader) => send(api, leader, method, path, body, &hop.headers).await.map(Some),
        None => Ok(None),
    }
}

/// As [`to_leader`], for what this manager adds something to: the leader takes `given` at the internal route `path`.
///
/// # Errors
/// As [`to_leader`].
pub(super) async fn give_leader<T: serde::de::DeserializeOwned>(
    api: &Api,
    hop: &Hop,
    path: &str,
    given: &impl Serialize,
) -> Result<Option<T>, Problem> {
    let Some(leader) = leader_elsewhere(api, hop)? else { return Ok(None) };
    let body = serde_json::to_vec(given).map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
    ask(api, leader, &Method::POST, path, body.into(), hop.headers()).await.map(Some)
}

/// Returns the leader that a request is handed to; `None` where this manager leads.
fn leader_elsewhere(api: &Api, hop: &Hop) -> Result<Option<ManagerId>, Problem> {
    let status = api.published().status();
    match status.leader {
        _ if status.leads() => Ok(None),
        Some(leader) if hop.from == Origin::Client && leader != api.manager() => Ok(Some(leader)),
        _ if status.voters.is_empty() => Err(Problem::new(ProblemKind::NotInitialised, "there is no cluster yet")),
        _ => Err(Problem::new(ProblemKind::NoLeader, "no leader is known")),
    }
}

async fn call(
    api: &Api,
    to: ManagerId,
    method: &Method,
    path: &str,
    body: Bytes,
    headers: &[proto::ApiHeader],
) -> Result<proto::ForwardedApi, Problem> {
    use proto::{forward_request::Request, forward_response::Response};
    let (method, path, headers) = (method.to_string(), path.to_owned(), headers.to_vec());
    let request = proto::ForwardApi { method, path, body: body.to_vec(), headers };
    let request = proto::ForwardRequest { request: Some(Request::Api(request)) };
    let unavailable = |why: String| Problem::new(ProblemKind::NoLeader, format!("{to} did not serve it: {why}"));
    let answer = tokio::time::timeout(FORWARD_TIMEOUT, api.peers().forward(to, request))
        .await
        // It may still be done: not a 503, which says that it may be sent again.
        .map_err(|_| Problem::new(ProblemKind::Timeout, format!("{to} did not answer within {FORWARD_TIMEOUT:?}")))?
        .map_err(|e| unavailable(e.to_string()))?;
    match answer.response {
        Some(Response::Api(answer)) => Ok(answer),
        Some(Response::Failed(why) | Response::Unavailable(why) | Response::Removed(why)) => Err(unavailable(why)),
        Some(Response::NotLeader(_)) => Err(unavailable("it does not lead".to_owned())),
        Some(
            Response::Applied(_)
            | Response::Enrolled(_)
            | Response::Joined(_)
            | Response::Certificate(_)
            | Response::Sent(_),
        )
        | None => Err(unavailable("it gave another kind of answer".to_owned())),
    }
}

async fn send(
    api: &Api,
    to: ManagerId,
    method: &Method,
    path: &str,
    body: Bytes,
    headers: &[proto::ApiHeader],
) -> Result<Response, Problem> {
    let answer = call(api, to, method, path, body, headers).await?;
    let status = u16::try_from(answer.status).ok().and_then(|s| StatusCode::from_u16(s).ok());
    let status = status.ok_or_else(|| Problem::new(ProblemKind::Internal, format!("{to} answered no status")))?;
    let content_type = [(header::CONTENT_TYPE, answer.content_type)];
    let mut headers = passed::answer_headers(&answer.headers);
    if !headers.contains_key(freshness::LEADER)
        && let Ok(leader) = HeaderValue::from_str(&to.to_string())
    {
        headers.insert(freshness::LEADER, leader);
    }
    Ok((status, content_type, headers, answer.body).into_response())
}

/// Asks another manager, and reads its answer.
///
/// # Errors
/// A problem: its own, or that it gave no answer.
pub(super) async fn ask<T: serde::de::DeserializeOwned>(
    api: &Api,
    to: ManagerId,
    method: &Method,
    path: &str,
    body: Bytes,
    headers: &[proto::ApiHeader],
) -> Result<T, Problem> {
    let answer = call(api, to, method, path, body, headers).await?;
    if answer.status == u32::from(StatusCode::OK.as_u16()) {
        return serde_json::from_slice(&answer.body)
            .map_err(|e| Problem::new(ProblemKind::Internal, format!("{to} gave an answer that cannot be read: {e}")));
    }
    Err(serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| Problem::new(ProblemKind::NoLeader, format!("{to} answered status {}", answer.status))))
}

#[derive(Serialize, Deserialize)]
struct ReadIndex {
    index: LogIndex,
}

/// Asks the leader up to which index a read must have been applied.
///
/// # Errors
/// A problem when it does not say.
pub async fn read_index(api: &Api, leader: ManagerId, consistency: Consistency) -> Result<LogIndex, Problem> {
    let path = match consistency {
        Consistency::Lease => "/internal/read-index/lease",
        Consistency::Linearizable => "/internal/read-index/quorum",
    };
    ask(api, leader, &Method::POST, path, Bytes::new(), &[]).await.map(|ReadIndex { index }| index)
}

/// Has another manager keep a component.
///
/// # Errors
/// A problem when it does not.
pub async fn put_blob(api: &Api, to: ManagerId, digest: Digest, component: Bytes) -> Result<(), Problem> {
    ask::<Kept>(api, to, &Method::PUT, &format!("/internal/blobs/{digest}"), component, &[]).await.map(drop)
}

#[derive(Serialize, Deserialize)]
struct Kept {
    kept: bool,
}

/// Routes that only other managers reach.
pub(super) fn internal_routes() -> Router<Api> {
    Router::new()
        .route("/internal/read-index/lease", post(read_index_by_lease))
        .route("/internal/read-index/quorum", post(read_index_by_quorum))
        .route(probe_orders::PATH, post(probe_orders::take))
        .route(node_removal::PATH, post(node_removal::take))
        .route("/internal/blobs/{digest}", put(keep_blob).layer(DefaultBodyLimit::max(COMPONENT_MAX)))
}

async fn read_index_by_lease(State(api): State<Api>) -> Result<Json<ReadIndex>, Problem> {
    read_index_here(&api, Consistency::Lease).await
}

async fn read_index_by_quorum(State(api): State<Api>) -> Result<Json<ReadIndex>, Problem> {
    read_index_here(&api, Consistency::Linearizable).await
}

async fn read_index_here(api: &Api, consistency: Consistency) -> Result<Json<ReadIndex>, Problem> {
    api.published().ensure_current(consistency).await.map_err(|e| freshness::refusal(&e))?;
    let index = *api.published().applied().borrow();
    Ok(Json(ReadIndex { index }))
}

async fn keep_blob(State(api): State<Api>, Path(digest): Path<String>, body: Bytes) -> Result<Json<Kept>, Problem> {
    let digest: Digest =
        digest.parse().map_err(|e: vouch_types::IdError| Problem::new(ProblemKind::BadParameter, e.to_string()))?;
    keep(&api, digest, body).await?;
    Ok(Json(Kept { kept: true }))
}

/// Keeps a component in this manager's own blob store.
///
/// # Errors
/// A problem when it cannot be kept.
pub async fn keep(api: &Api, digest: Digest, component: Bytes) -> Result<(), Problem> {
    let blobs = api.blobs();
    tokio::task::spawn_blocking(move || blobs.put(digest, &component))
        .await
        .map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?
        .map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))
}

/// The API as other managers reach it. A cheap clone.
#[derive(Clone, Debug)]
pub struct MembersApi(Router);

impl From<Api> for MembersApi {
    fn from(api: Api) -> Self {
        Self(api.internal_router())
    }
}

impl MembersApi {
    /// Serves what another manager has handed over; its certificate and role have been checked.
    pub async fn forwarded(&self, request: proto::ForwardApi) -> proto::ForwardedApi {
        let response = match build(request) {
            Ok(request) => match self.0.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(problem) => problem.into_response(),
        };
        let (parts, body) = response.into_parts();
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let body = axum::body::to_bytes(body, COMPONENT_MAX).await.unwrap_or_default();
        proto::ForwardedApi {
            status: u32::from(parts.status.as_u16()),
            content_type: content_type.to_owned(),
            body: body.to_vec(),
            headers: passed::of_answer(&parts.headers),
        }
    }
}

fn build(request: proto::ForwardApi) -> Result<Request<Body>, Problem> {
    let bad = |e: String| Problem::new(ProblemKind::BadParameter, format!("forwarded request: {e}"));
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|e| bad(e.to_string()))?;
    let mut built = Request::builder()
        .method(method)
        .uri(&request.path)
        .body(request.body.into())
        .map_err(|e| bad(e.to_string()))?;
    built.headers_mut().extend(passed::request_headers(&request.headers));
    built.extensions_mut().insert(Origin::Manager);
    Ok(built)
}
