//! `/v1/join-tokens`: what lets new managers, nodes and watchers ask for their first certificate.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{Applied, Command, JoinFor, JoinRole, JoinTokenId, Joiner, LogIndex};
use vouch_wire::pki::{CaDigest, JoinToken};

use crate::api::blocking::Reading;
use crate::api::etag::Conditions;
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::passed::IDEMPOTENCY_KEY;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::propose::propose;
use crate::api::view::{JoinTokenMadeView, JoinTokenRequest, JoinTokenView, Page};
use crate::api::{Api, etag, published};
use crate::seams::digest_of;
use crate::store::state::Subject;

const ID_RULE: &str = "must be the id of a join token, as t1";

fn find(api: &Api, id: JoinTokenId) -> Option<(LogIndex, JoinTokenView)> {
    let now = api.wall().now();
    published::read(api.published(), |state| {
        state.join_token(id).map(|token| (token.modified, JoinTokenView::of(token, now)))
    })
}

fn not_found(id: &str) -> Problem {
    Problem::field(ProblemKind::JoinTokenNotFound, "id", id, ID_RULE)
}

/// All join tokens that are kept, oldest first, without their secrets. There are at most 100.
#[utoipa::path(
    get, path = "/v1/join-tokens", tag = "join-tokens",
    params(
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "All tokens", body = Page<JoinTokenView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<JoinTokenView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::JoinTokens)).await?;
    let now = api.wall().now();
    let items = published::read(api.published(), |state| {
        state.join_tokens().iter().map(|token| JoinTokenView::of(token, now)).collect()
    });
    Ok((headers, Json(Page { items, next: None })))
}

/// Whom a request wants to let in.
fn allowed(role: &str, name: Option<&str>) -> Result<JoinFor, Problem> {
    let bad = |field: &str, value: &str, rule: &str| Problem::field(ProblemKind::BadParameter, field, value, rule);
    let role = JoinRole::parse(role).ok_or_else(|| bad("role", role, "must be manager, node or watcher"))?;
    let Some(name) = name else { return Ok(JoinFor::Any(role)) };
    let rule = match role {
        JoinRole::Manager => "must be the id of a manager, as m4",
        JoinRole::Node => "must be the name of a node: 1 to 63 of a-z, 0-9 and - in between",
        JoinRole::Watcher => "must be the id of a watcher, as w12",
    };
    Joiner::parse(role, name).map(JoinFor::One).ok_or_else(|| bad("name", name, rule))
}

/// Makes a join token. Its secret is in the answer and nowhere else: there is no `Idempotency-Key` for this, and a
/// token whose answer was lost is found in the list and revoked.
#[utoipa::path(
    post, path = "/v1/join-tokens", tag = "join-tokens",
    request_body = JoinTokenRequest,
    responses(
        (status = 201, description = "The token, with its secret", body = JoinTokenMadeView),
        (status = 400, description = "A field breaks a rule: which, its value and the rule",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "There are too many that have not ended",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    sent: HeaderMap,
    params: Params,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    if let Some(key) = sent.get(&IDEMPOTENCY_KEY) {
        let (key, rule) = (key.to_str().unwrap_or_default(), "must be absent: the secret is told once and not kept");
        return Err(Problem::field(ProblemKind::BadParameter, "Idempotency-Key", key, rule));
    }
    let JoinTokenRequest { role, name, uses, ttl_ms } = body.parse()?;
    let allows = allowed(&role, name.as_deref())?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::POST, uri.path(), body.0.clone()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let ca = published::read(api.published(), |state| {
        state.cluster().map(|cluster| CaDigest::of_pem(cluster.secrets.signing_ca().0))
    });
    let ca = ca.ok_or_else(|| Problem::new(ProblemKind::NotInitialised, "the cluster is not initialised"))?;
    let ca = ca.map_err(|e| Problem::new(ProblemKind::Internal, e.to_string()))?;
    let mut secret = [0; 32];
    api.rng().fill(&mut secret);
    let secret_hash = digest_of(&secret);
    let (ttl, at) = (Duration::from_millis(ttl_ms), api.wall().now());
    let applied = propose(&api, Command::CreateJoinToken { allows, secret_hash, uses, ttl, at }).await?;
    let Applied::JoinTokenCreated { token: id, .. } = applied else {
        return Err(Problem::new(ProblemKind::Internal, "the token was made and has no id"));
    };
    let (version, record) = find(&api, id).ok_or_else(|| not_found(&id.to_string()))?;
    let mut headers = headers(&api, Wanted::Default);
    headers.extend([etag::header(version)]);
    let made = JoinTokenMadeView { token: JoinToken { ca, secret }.reveal(), record };
    Ok((StatusCode::CREATED, headers, Json(made)).into_response())
}

/// Revokes a join token: nobody joins by it any more. Who has joined stays.
#[utoipa::path(
    delete, path = "/v1/join-tokens/{id}", tag = "join-tokens",
    params(
        ("id" = String, Path, description = "Its id, as t1"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "The token as it is now", body = JoinTokenView),
        (status = 404, description = "No such token", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
    conditions: Conditions,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let token: JoinTokenId = id.parse().map_err(|_| not_found(&id))?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::DELETE, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let at = api.wall().now();
    let command = Command::RevokeJoinToken { token, at };
    propose(&api, conditions.guard(command, ("DELETE", uri.path(), &[]), at)).await?;
    let (_, view) = find(&api, token).ok_or_else(|| not_found(&id))?;
    Ok((headers(&api, Wanted::Default), Json(view)).into_response())
}
