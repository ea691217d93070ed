//! `/v1/policies`: how VMs are watched and judged, per cluster, node, tag and VM.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{Command, Policy, PolicyScope};

use super::vms::find;
use crate::api::blocking::Reading;
use crate::api::etag::{self, Conditions};
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::propose::propose;
use crate::api::view::{Page, PolicySettings, PolicyView, VmPolicyView};
use crate::api::{Api, policies, published};
use crate::store::state::Subject;

fn missing(scope: &PolicyScope) -> Problem {
    let rule = "must be a scope that has a policy: see /v1/policies";
    Problem::field(ProblemKind::PolicyNotFound, "scope", &scope.to_string(), rule)
}

/// All policies, the widest scope first. There are at most 1,000.
#[utoipa::path(
    get, path = "/v1/policies", tag = "policies",
    params(
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "All policies", body = Page<PolicyView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(api): State<Api>, mut params: Params) -> Result<(HeaderMap, Json<Page<PolicyView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Policies)).await?;
    let all = published::read(api.published(), crate::store::State::policies);
    let items = all.iter().map(|(scope, policy)| policies::policy_view(scope, policy)).collect();
    Ok((headers, Json(Page { items, next: None })))
}

/// The policy of one scope.
#[utoipa::path(
    get, path = "/v1/policies/{scope}", tag = "policies",
    params(
        ("scope" = String, Path, description = "`cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "The policy", body = PolicyView),
        (status = 404, description = "It has none", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    Path(scope): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<PolicyView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let scope = policies::scope(&scope)?;
    let mut headers = reading.make_current(&api, |_| Some(Subject::Policy(scope.clone()))).await?;
    let policy =
        published::read(api.published(), |state| state.policies().remove(&scope).zip(state.policy_version(&scope)));
    let (policy, version) = policy.ok_or_else(|| missing(&scope))?;
    headers.extend([etag::header(version)]);
    Ok((headers, Json(policies::policy_view(&scope, &policy))))
}

/// Sets the policy of one scope. It replaces the whole of the one before.
#[utoipa::path(
    put, path = "/v1/policies/{scope}", tag = "policies",
    params(
        ("scope" = String, Path, description = "`cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
        ("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this request is sent"),
    ),
    request_body = PolicySettings,
    responses(
        (status = 200, description = "The policy as it holds now", body = PolicyView),
        (status = 400, description = "A setting breaks a rule: which, its value and the rule",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such node or VM", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "The key was used for another request",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn set(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(scope): Path<String>,
    params: Params,
    conditions: Conditions,
    body: JsonBody,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let scope = policies::scope(&scope)?;
    let policy = policies::policy_of(&body.parse::<PolicySettings>()?, api.timing())?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::PUT, uri.path(), body.0.clone()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let at = api.wall().now();
    let command = Command::SetPolicy { scope: scope.clone(), policy: policy.clone(), at };
    propose(&api, conditions.guard(command, ("PUT", uri.path(), &body.0), at)).await?;
    // A request that was sent again may have come after another one: then this is not what is there now.
    let version = published::read(api.published(), |state| {
        state.policy_version(&scope).filter(|_| state.policies().get(&scope) == Some(&policy))
    });
    let mut headers = headers(&api, Wanted::Default);
    headers.extend(version.map(etag::header));
    Ok((headers, Json(policies::policy_view(&scope, &policy))).into_response())
}

/// Removes the policy of one scope.
#[utoipa::path(
    delete, path = "/v1/policies/{scope}", tag = "policies",
    params(
        ("scope" = String, Path, description = "`cluster`, `node:NAME`, `tag:KEY=VALUE` or `vm:UUID`"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "The policy that held until now", body = PolicyView),
        (status = 404, description = "It has none", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(scope): Path<String>,
    params: Params,
    conditions: Conditions,
) -> Result<Response, Problem> {
    params.finish(&[])?;
    let scope = policies::scope(&scope)?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::DELETE, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    make_current(&api, Wanted::Default).await?;
    let known = published::read(api.published(), |state| state.policies().remove(&scope));
    let known = known.ok_or_else(|| missing(&scope))?;
    let at = api.wall().now();
    let command = Command::SetPolicy { scope: scope.clone(), policy: Policy::default(), at };
    propose(&api, conditions.guard(command, ("DELETE", uri.path(), &[]), at)).await?;
    Ok((headers(&api, Wanted::Default), Json(policies::policy_view(&scope, &known))).into_response())
}

/// Every setting as it holds for a VM, with the scope that it comes from.
#[utoipa::path(
    get, path = "/v1/vms/{id}/policy", tag = "policies",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "Its settings", body = VmPolicyView),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn of_vm(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<VmPolicyView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers =
        reading.make_current(&api, |state| find(state, &id).ok().map(|(id, _)| Subject::VmPolicy(id))).await?;
    let view = published::read(api.published(), |state| {
        let (id, vm) = find(state, &id)?;
        Ok(VmPolicyView { vm: id.to_string(), settings: policies::settings_of(state, &vm, api.timing()) })
    })?;
    Ok((headers, Json(view)))
}
