//! `/v1/probes/{name}/rollout`: an operator ends the rollout of a version before it ends itself. It is begun by an upload.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use vouch_types::{ProbeName, RolloutStep};

use crate::api::forward::Hop;
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::Params;
use crate::api::probe_orders::{self, ProbeOrder};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::ProbeView;
use crate::api::{Api, compose, published};

/// Lets all watchers run the version that is on its way, whatever it has shown by now.
#[utoipa::path(
    post, path = "/v1/probes/{name}/rollout/promote", tag = "probes",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The probe as it is now", body = ProbeView),
        (status = 404, description = "No other version is on its way",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn promote(
    State(api): State<Api>,
    hop: Hop,
    Path(name): Path<String>,
    params: Params,
) -> Result<(HeaderMap, Json<ProbeView>), Problem> {
    end(&api, &hop, &name, params, RolloutStep::Promote { reason: "ordered before its time".to_owned() }).await
}

/// Takes back the version that is on its way: all watchers run the recorded one.
#[utoipa::path(
    post, path = "/v1/probes/{name}/rollout/abort", tag = "probes",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The probe as it is now", body = ProbeView),
        (status = 404, description = "No other version is on its way",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn abort(
    State(api): State<Api>,
    hop: Hop,
    Path(name): Path<String>,
    params: Params,
) -> Result<(HeaderMap, Json<ProbeView>), Problem> {
    end(&api, &hop, &name, params, RolloutStep::TakeBack { reason: "ordered before its time".to_owned() }).await
}

async fn end(
    api: &Api,
    hop: &Hop,
    name: &str,
    params: Params,
    step: RolloutStep,
) -> Result<(HeaderMap, Json<ProbeView>), Problem> {
    params.finish(&[])?;
    let none = || {
        let rule = "must be a probe of which another version is on its way; GET /v1/probes shows it";
        Problem::field(ProblemKind::RolloutNotFound, "name", name, rule)
    };
    let probe = ProbeName::new(name).map_err(|_| none())?;
    make_current(api, Wanted::Default).await?;
    let find = || published::read(api.published(), |state| state.probes().get(&probe).cloned());
    // What is ordered is ordered of the version that the caller may have seen, not of one that comes after it.
    let digest = find().and_then(|known| known.rollout.as_ref().map(|rollout| rollout.next.digest)).ok_or_else(none)?;
    probe_orders::order(api, hop, ProbeOrder::StepRollout(probe.clone(), digest, step)).await?;
    make_current(api, Wanted::Default).await?;
    let now = find().ok_or_else(none)?;
    Ok((headers(api, Wanted::Default), Json(compose::probe_view(&now))))
}
