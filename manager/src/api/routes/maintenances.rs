//! `/v1/maintenances`: windows in which VMs are watched and nothing is said against them.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{Applied, Command, MaintenanceId};

use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::propose::propose;
use crate::api::view::{MaintenanceRequest, MaintenanceView, Page};
use crate::api::{Api, policies, published};

/// Returns the window as it holds now.
fn find(api: &Api, id: &str) -> Result<(MaintenanceId, MaintenanceView), Problem> {
    let view = published::read(api.published(), |state| {
        let id: MaintenanceId = id.parse().ok()?;
        let window = state.maintenances().iter().find(|window| window.id == id)?;
        Some((id, policies::maintenance_view(state, window)))
    });
    let rule = "must be the id of a maintenance window that holds, as x1";
    view.ok_or_else(|| Problem::field(ProblemKind::MaintenanceNotFound, "id", id, rule))
}

/// All maintenance windows that hold, oldest first. There are at most 1,000.
#[utoipa::path(
    get, path = "/v1/maintenances", tag = "maintenances",
    params(("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`")),
    responses(
        (status = 200, description = "All windows", body = Page<MaintenanceView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<MaintenanceView>>), Problem> {
    let wanted = Wanted::take(&mut params)?;
    params.finish(&["consistency"])?;
    let headers = make_current(&api, wanted).await?;
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
    let wanted = Wanted::take(&mut params)?;
    params.finish(&["consistency"])?;
    let headers = make_current(&api, wanted).await?;
    Ok((headers, Json(find(&api, &id)?.1)))
}

/// Begins a maintenance window. It ends by itself when its time has passed on the leader's own clock.
#[utoipa::path(
    post, path = "/v1/maintenances", tag = "maintenances",
    request_body = MaintenanceRequest,
    responses(
        (status = 201, description = "The window", body = MaintenanceView),
        (status = 400, description = "A field breaks a rule: which, its value and the rule",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node or VM", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn begin(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    params: Params,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let MaintenanceRequest { scope, lasts_ms, reason } = body.parse()?;
    let scope = policies::scope(&scope)?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::POST, uri.path(), body.0).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let (lasts, at) = (Duration::from_millis(lasts_ms), api.wall().now());
    let applied = propose(&api, Command::BeginMaintenance { scope, reason, lasts, at }).await?;
    let Applied::MaintenanceBegun { maintenance, .. } = applied else {
        return Err(Problem::new(ProblemKind::Internal, "the window was begun and has no id"));
    };
    let (_, view) = find(&api, &maintenance.to_string())?;
    Ok((StatusCode::CREATED, headers(&api, Wanted::Default), Json(view)).into_response())
}

/// Ends a maintenance window before its time.
#[utoipa::path(
    delete, path = "/v1/maintenances/{id}", tag = "maintenances",
    params(("id" = String, Path, description = "Its id, as x1")),
    responses(
        (status = 200, description = "The window as it held until now", body = MaintenanceView),
        (status = 404, description = "None that holds", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn end(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    params: Params,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::DELETE, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let (maintenance, view) = find(&api, &id)?;
    propose(&api, Command::EndMaintenance { maintenance, at: api.wall().now() }).await?;
    Ok((headers(&api, Wanted::Default), Json(view)).into_response())
}
