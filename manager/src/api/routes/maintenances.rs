//! `/v1/maintenances`: windows in which VMs are watched and nothing is said against them.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{Applied, Command, LogIndex, MaintenanceId, MaintenanceRecord};

use crate::api::blocking::Reading;
use crate::api::etag::{self, Conditions};
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::propose::propose;
use crate::api::view::{MaintenanceRequest, MaintenanceView, Page};
use crate::api::{Api, policies, published};
use crate::store::state::Subject;

/// Returns the window as it holds now, with its version.
fn find(api: &Api, id: &str) -> Result<(MaintenanceId, LogIndex, MaintenanceView), Problem> {
    let view = published::read(api.published(), |state| {
        let id: MaintenanceId = id.parse().ok()?;
        let window = state.maintenances().iter().find(|window| window.id == id)?;
        Some((id, window.index, policies::maintenance_view(state, window)))
    });
    let rule = "must be the id of a maintenance window that holds, as x1";
    view.ok_or_else(|| Problem::field(ProblemKind::MaintenanceNotFound, "id", id, rule))
}

/// All maintenance windows that hold, oldest first. There are at most 1,000.
#[utoipa::path(
    get, path = "/v1/maintenances", tag = "maintenances",
    params(
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "All windows", body = Page<MaintenanceView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<MaintenanceView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Maintenances)).await?;
    let items = published::read(api.published(), |state| {
        state.maintenances().iter().map(|window| policies::maintenance_view(state, window)).collect()
    });
    Ok((headers, Json(Page { items, next: None })))
}

/// One maintenance window.
#[utoipa::path(
    get, path = "/v1/maintenances/{id}", tag = "maintenances",
    params(
        ("id" = String, Path, description = "Its id, as x1"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "The window", body = MaintenanceView),
        (status = 404, description = "None that holds", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<MaintenanceView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let mut headers = reading.make_current(&api, |_| Some(Subject::Maintenances)).await?;
    let (_, version, view) = find(&api, &id)?;
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)))
}

/// Begins a maintenance window. It ends by itself when its time has passed on the leader's own clock.
#[utoipa::path(
    post, path = "/v1/maintenances", tag = "maintenances",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this request is sent"),
    ),
    request_body = MaintenanceRequest,
    responses(
        (status = 201, description = "The window", body = MaintenanceView),
        (status = 400, description = "A field breaks a rule: which, its value and the rule",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node or VM", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The key was used for another request",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn begin(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    params: Params,
    conditions: Conditions,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let MaintenanceRequest { scope, lasts_ms, reason } = body.parse()?;
    let scope = policies::scope(&scope)?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::POST, uri.path(), body.0.clone()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let (lasts, at) = (Duration::from_millis(lasts_ms), api.wall().now());
    let command = Command::BeginMaintenance { scope: scope.clone(), reason: reason.clone(), lasts, at };
    let applied = propose(&api, conditions.guard(command, ("POST", uri.path(), &body.0), at)).await?;
    // The window as it began, which a request that is sent again is answered with as well, whatever became of it.
    let window = |begun, applied: &Applied| {
        let Applied::MaintenanceBegun { index, maintenance } = applied else { return None };
        Some(MaintenanceRecord { id: *maintenance, scope, reason, remaining: lasts, begun, index: *index })
    };
    let window = match &applied {
        Applied::Repeated { at, first } => window(*at, first),
        first => window(at, first),
    };
    let window = window.ok_or_else(|| Problem::new(ProblemKind::Internal, "the window was begun and has no id"))?;
    let view = published::read(api.published(), |state| policies::maintenance_view(state, &window));
    let mut headers = headers(&api, Wanted::Default);
    headers.extend([etag::header(window.index)]);
    Ok((StatusCode::CREATED, headers, Json(view)).into_response())
}

/// Ends a maintenance window before its time.
#[utoipa::path(
    delete, path = "/v1/maintenances/{id}", tag = "maintenances",
    params(
        ("id" = String, Path, description = "Its id, as x1"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "The window as it held until now", body = MaintenanceView),
        (status = 404, description = "None that holds", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn end(
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
    let (maintenance, _, view) = find(&api, &id)?;
    let at = api.wall().now();
    let command = Command::EndMaintenance { maintenance, at };
    propose(&api, conditions.guard(command, ("DELETE", uri.path(), &[]), at)).await?;
    Ok((headers(&api, Wanted::Default), Json(view)).into_response())
}
