//! `/v1/probes/{name}/grant`: what an uploaded probe may do; and the comparison of a grant with what a component imports.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use vouch_types::probe_grant::words;
use vouch_types::{GrantError, ProbeGrant, ProbeImports};

use crate::api::forward::Hop;
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::probe_orders::{self, ProbeOrder};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::routes::probes::recorded;
use crate::api::view::{ProbeGrantRequest, ProbeView};
use crate::api::{Api, compose, published};

/// The query parameters that name a grant.
pub(super) const PARAMETERS: [&str; 3] = ["interfaces", "networks", "ports"];

/// Takes the grant that the query names: lists with commas. None of the three names no grant.
pub(super) fn take_grant(params: &mut Params) -> Result<Option<ProbeGrant>, Problem> {
    let lists = PARAMETERS.map(|field| params.take(field));
    if lists.iter().all(Option::is_none) {
        return Ok(None);
    }
    let [interfaces, networks, ports] = lists.map(|list| {
        let list = list.unwrap_or_default();
        list.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<String>>()
    });
    ProbeGrant::parse(&interfaces, &networks, &ports).map(Some).map_err(|e| broken(&e))
}

fn broken(e: &GrantError) -> Problem {
    Problem::field(ProblemKind::BadParameter, e.field, &e.value, &e.rule)
}

/// Returns the grant that a component is recorded with: the named one, else the one that its name had before.
///
/// # Errors
/// A problem with both lists when the component imports what it is not granted, or when nothing is granted.
pub(super) fn grant_for(
    imports: &ProbeImports,
    named: Option<ProbeGrant>,
    before: Option<ProbeGrant>,
) -> Result<ProbeGrant, Problem> {
    let Some(grant) = named.or(before) else {
        let needs = words(&imports.needs());
        let rule = "must name what the probe is granted: networks, and interfaces and ports as it needs them";
        let mut problem = Problem::field(ProblemKind::GrantRequired, "networks", "", rule);
        (problem.imports, problem.missing) = (Some(imports.interfaces.clone()), Some(needs));
        return Err(problem);
    };
    let (needs, missing) = (imports.needs(), grant.missing(&imports.needs()));
    if missing.is_empty() {
        return Ok(grant);
    }
    let rule = format!("must grant what the component imports: {}", words(&needs).join(", "));
    let granted = words(&grant.interfaces);
    let mut problem = Problem::field(ProblemKind::NotGranted, "interfaces", &granted.join(","), &rule);
    (problem.imports, problem.granted) = (Some(imports.interfaces.clone()), Some(granted));
    problem.missing = Some(words(&missing));
    Err(problem)
}

/// Grants an uploaded probe something else, without its component. Watchers are told at once.
#[utoipa::path(
    put, path = "/v1/probes/{name}/grant", tag = "probes",
    params(
        ("name" = String, Path, description = "Its name"),
        ("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this request is sent"),
    ),
    request_body = ProbeGrantRequest,
    responses(
        (status = 200, description = "The probe as it is now", body = ProbeView),
        (status = 404, description = "No such probe", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It imports what it is not granted: with both lists",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn set(
    State(api): State<Api>,
    hop: Hop,
    Path(name): Path<String>,
    params: Params,
    body: JsonBody,
) -> Result<(HeaderMap, Json<ProbeView>), Problem> {
    params.finish(&[])?;
    let ProbeGrantRequest { interfaces, networks, ports } = body.parse()?;
    let grant = ProbeGrant::parse(&interfaces, &networks, &ports).map_err(|e| broken(&e))?;
    make_current(&api, Wanted::Default).await?;
    let find = || published::read(api.published(), |state| recorded(state, &name));
    let known = find()?;
    grant_for(&known.imports, Some(grant.clone()), None)?;
    probe_orders::order(&api, &hop, ProbeOrder::Grant(known.name.clone(), grant)).await?;
    make_current(&api, Wanted::Default).await?;
    let now = find()?;
    Ok((headers(&api, Wanted::Default), Json(compose::probe_view(&now))))
}
