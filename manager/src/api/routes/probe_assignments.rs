//! `/v1/probes/{name}/assignments`: to which VMs operators assign a probe, by scope and network, beside the VMs' own files.
//!
//! One assignment is one record that is written whole, so two operators can only overwrite each other in one, and there
//! `If-Match` tells them. What can be judged before it is recorded is judged here: scope, network, settings.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use vouch_types::{
    LogIndex, Network, PolicyScope, ProbeAssignment, ProbeName, ProbeRecord, ScopedProbe, ScopedProbeKey,
};

use crate::api::blocking::Reading;
use crate::api::forward::Hop;
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::probe_orders::{self, ProbeOrder};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::routes::probes::recorded;
use crate::api::settings::{self, Judged};
use crate::api::view::{Page, ScopedProbeRequest, ScopedProbeView};
use crate::api::{Api, compose, etag, policies, published};
use crate::store;
use crate::store::state::Subject;

/// Says whether the settings were compared with a schema: `schema`, or `none` where none is known of the probe.
const JUDGED_BY: HeaderName = HeaderName::from_static("x-vouch-settings-judged-by");

fn key(name: &str, network: &str, scope: &str) -> Result<ScopedProbeKey, Problem> {
    let rule = "must be 1 to 63 of a-z, 0-9 and '-', and start and end with a letter or digit";
    let probe = ProbeName::new(name).map_err(|_| Problem::field(ProblemKind::BadParameter, "name", name, rule))?;
    let wrong = |_| Problem::field(ProblemKind::BadParameter, "network", network, "must be management or service");
    Ok(ScopedProbeKey { scope: policies::scope(scope)?, probe, network: network.parse::<Network>().map_err(wrong)? })
}

/// Returns an assignment as it is shown, and when it last changed.
fn shown(api: &Api, key: &ScopedProbeKey) -> Result<(LogIndex, ScopedProbeView), Problem> {
    let found = published::read(api.published(), |state| {
        let scoped = state.scoped_probe(key)?;
        Some((scoped.modified, compose::scoped_probe_view(state, scoped)))
    });
    found.ok_or_else(|| {
        let rule = format!("must be a scope that probe {} is assigned to over the {} network", key.probe, key.network);
        Problem::field(ProblemKind::AssignmentNotFound, "scope", &key.scope.to_string(), &rule)
    })
}

/// To which VMs a probe is assigned by scope, the widest scope first. There are at most 256 of all probes.
#[utoipa::path(
    get, path = "/v1/probes/{name}/assignments", tag = "probes",
    params(
        ("name" = String, Path, description = "Its name"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "Its assignments", body = Page<ScopedProbeView>),
        (status = 404, description = "No such probe", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Api>,
    Path(name): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<ScopedProbeView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::ScopedProbes)).await?;
    let items = published::read(api.published(), |state| {
        let probe = recorded(state, &name)?;
        let its = state.scoped_probes().iter().filter(|scoped| scoped.assignment.probe == probe.name);
        Ok(its.map(|scoped| compose::scoped_probe_view(state, scoped)).collect())
    })?;
    Ok((headers, Json(Page { items, next: None })))
}

/// How a probe is assigned to one scope, with its ETag.
#[utoipa::path(
    get, path = "/v1/probes/{name}/assignments/{network}/{scope}", tag = "probes",
    params(
        ("name" = String, Path, description = "Its name"),
        ("network" = String, Path, description = "`management` or `service`"),
        ("scope" = String, Path, description = "`cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
    ),
    responses(
        (status = 200, description = "The assignment", body = ScopedProbeView),
        (status = 404, description = "It is not assigned", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    Path((name, network, scope)): Path<(String, String, String)>,
    mut params: Params,
) -> Result<(HeaderMap, Json<ScopedProbeView>), Problem> {
    let wanted = Wanted::take(&mut params)?;
    params.finish(&["consistency"])?;
    let key = key(&name, &network, &scope)?;
    let mut headers = make_current(&api, wanted).await?;
    let (version, view) = shown(&api, &key)?;
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)))
}

/// Assigns a probe to the VMs of a scope, or changes how. Watchers are told at once.
#[utoipa::path(
    put, path = "/v1/probes/{name}/assignments/{network}/{scope}", tag = "probes",
    params(
        ("name" = String, Path, description = "Its name"),
        ("network" = String, Path, description = "`management` or `service`"),
        ("scope" = String, Path, description = "`cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
        ("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this request is sent"),
    ),
    request_body = ScopedProbeRequest,
    responses(
        (status = 200, description = "The assignment as it is now. `X-Vouch-Settings-Judged-By` says whether the settings \
            were compared with a schema: `schema`, or `none` where none is known of the probe", body = ScopedProbeView),
        (status = 400, description = "A setting or time breaks a rule, or the probe may not or cannot use the network",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such probe, node or VM",
            body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "A VM would have more than 8 probes, or the cluster more than 256 assignments",
            body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn set(
    State(api): State<Api>,
    hop: Hop,
    Path((name, network, scope)): Path<(String, String, String)>,
    params: Params,
    body: JsonBody,
) -> Result<(HeaderMap, Json<ScopedProbeView>), Problem> {
    params.finish(&[])?;
    let key = key(&name, &network, &scope)?;
    let ScopedProbeRequest { settings, interval_ms, timeout_ms } = body.parse()?;
    make_current(&api, Wanted::Default).await?;
    let probe = published::read(api.published(), |state| {
        known_scope(state, &key.scope)?;
        recorded(state, &name)
    })?;
    may_use(&probe, key.network)?;
    let judged = settings::judge(&probe, &settings)?;
    let assignment = ProbeAssignment { probe: key.probe.clone(), network: key.network, settings: settings.to_string() };
    let assigned = ScopedProbe {
        scope: key.scope.clone(),
        assignment,
        interval_ms,
        timeout_ms,
        by: String::new(),
        modified: Default::default(),
    };
    probe_orders::order(&api, &hop, ProbeOrder::Assign(assigned)).await?;
    make_current(&api, Wanted::Default).await?;
    let (version, view) = shown(&api, &key)?;
    let mut headers = headers(&api, Wanted::Default);
    let judged = match judged {
        Judged::Fit => "schema",
        Judged::Unseen => "none",
    };
    headers.extend([etag::header(version), (JUDGED_BY, HeaderValue::from_static(judged))]);
    Ok((headers, Json(view)))
}

/// Assigns a probe to the VMs of a scope no more.
#[utoipa::path(
    delete, path = "/v1/probes/{name}/assignments/{network}/{scope}", tag = "probes",
    params(
        ("name" = String, Path, description = "Its name"),
        ("network" = String, Path, description = "`management` or `service`"),
        ("scope" = String, Path, description = "`cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "The assignment that held until now", body = ScopedProbeView),
        (status = 404, description = "It is not assigned", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(
    State(api): State<Api>,
    hop: Hop,
    Path((name, network, scope)): Path<(String, String, String)>,
    params: Params,
) -> Result<(HeaderMap, Json<ScopedProbeView>), Problem> {
    params.finish(&[])?;
    let key = key(&name, &network, &scope)?;
    make_current(&api, Wanted::Default).await?;
    let (_, known) = shown(&api, &key)?;
    probe_orders::order(&api, &hop, ProbeOrder::Unassign(key)).await?;
    Ok((headers(&api, Wanted::Default), Json(known)))
}

/// Refuses a node or VM that is not recorded, as apply does, before anything is asked of the leader.
fn known_scope(state: &store::State, scope: &PolicyScope) -> Result<(), Problem> {
    let wrong = |kind, rule: &str| Err(Problem::field(kind, "scope", &scope.to_string(), rule));
    match scope {
        PolicyScope::Node(node) if !state.nodes().contains_key(node) => {
            wrong(ProblemKind::NodeNotFound, "must be the name of a node that a manager has heard")
        }
        PolicyScope::Vm(vm) if !state.vms().contains_key(vm) => {
            wrong(ProblemKind::VmNotFound, "must be the UUID of a VM that a node has reported")
        }
        PolicyScope::Cluster | PolicyScope::Node(_) | PolicyScope::Tag { .. } | PolicyScope::Vm(_) => Ok(()),
    }
}

/// Refuses a network that the probe is not granted, or that it says it cannot check over: no run would begin.
fn may_use(probe: &ProbeRecord, network: Network) -> Result<(), Problem> {
    let wrong = |rule: String| Err(Problem::field(ProblemKind::BadParameter, "network", network.as_str(), &rule));
    if let Some(grant) = probe.grant.as_ref().filter(|grant| !grant.networks.contains(&network)) {
        let granted = vouch_types::probe_grant::words(&grant.networks).join(", ");
        return wrong(format!("must be one that probe {} is granted: {granted}", probe.name));
    }
    match &probe.descriptor {
        Some(said) if !said.networks.contains(&network) => {
            let said = vouch_types::probe_grant::words(&said.networks).join(", ");
            wrong(format!("must be one that probe {} can check over: {said}", probe.name))
        }
        Some(_) | None => Ok(()),
    }
}
