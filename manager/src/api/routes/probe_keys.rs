//! `/v1/probe-keys` and `/v1/probe-trust`: whose signatures under probes the cluster trusts, and whether it wants one.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use vouch_types::{ProbeKeyName, ProbeKeyRecord, SignatureRule};
use vouch_wire::probe_signature::read_public_pem;

use crate::api::blocking::Reading;
use crate::api::forward::Hop;
use crate::api::freshness::{Wanted, headers, make_current};
use crate::api::params::{JsonBody, Params};
use crate::api::probe_orders::{self, ProbeOrder};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{Page, ProbeKeyRequest, ProbeKeyView, ProbeTrustRequest, ProbeTrustView};
use crate::api::{Api, published};
use crate::store::state::{self, Subject};

const NAME_RULE: &str = "must be 1 to 63 of a-z, 0-9 and '-', and start and end with a letter or digit";

fn view(state: &state::State, key: &ProbeKeyRecord) -> ProbeKeyView {
    let signed = state.probes_signed_by(&key.public_key).map(ToString::to_string).collect();
    ProbeKeyView::of(key, signed)
}

fn find(api: &Api, name: &ProbeKeyName) -> Option<ProbeKeyView> {
    published::read(api.published(), |state| {
        state.probe_trust().keys.iter().find(|key| key.name == *name).map(|key| view(state, key))
    })
}

fn trust(api: &Api) -> ProbeTrustView {
    published::read(api.published(), |state| {
        let trust = state.probe_trust();
        let keys = trust.keys.iter().map(|key| key.name.to_string()).collect();
        ProbeTrustView { signatures: trust.signatures.as_str().to_owned(), keys }
    })
}

fn not_found(name: &str) -> Problem {
    let rule = "must be the name of a trusted key; GET /v1/probe-keys lists them";
    Problem::field(ProblemKind::ProbeKeyNotFound, "name", name, rule)
}

/// All keys whose signatures under probes are trusted, by name. There are at most 32.
#[utoipa::path(
    get, path = "/v1/probe-keys", tag = "probes",
    params(
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "All keys", body = Page<ProbeKeyView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<ProbeKeyView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::ProbeKeys)).await?;
    let items =
        published::read(api.published(), |state| state.probe_trust().keys.iter().map(|key| view(state, key)).collect());
    Ok((headers, Json(Page { items, next: None })))
}

/// Trusts a key. The same key under the same name again is no other.
#[utoipa::path(
    post, path = "/v1/probe-keys", tag = "probes",
    params(("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this is sent")),
    request_body = ProbeKeyRequest,
    responses(
        (status = 201, description = "The key as it is trusted", body = ProbeKeyView),
        (status = 409, description = "There are 32", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn add(
    State(api): State<Api>,
    hop: Hop,
    params: Params,
    body: JsonBody,
) -> Result<(StatusCode, HeaderMap, Json<ProbeKeyView>), Problem> {
    params.finish(&[])?;
    let ProbeKeyRequest { name, public_key } = body.parse()?;
    let bad = |field: &str, value: &str, rule: &str| Problem::field(ProblemKind::BadParameter, field, value, rule);
    let key = ProbeKeyName::new(&name).map_err(|_| bad("name", &name, NAME_RULE))?;
    let rule = "must be PEM of a public Ed25519 key (SubjectPublicKeyInfo)";
    // What was sent is not told back: it may be the private half.
    let public_key = read_public_pem(&public_key).map_err(|_| bad("public_key", "", rule))?;
    probe_orders::order(&api, &hop, ProbeOrder::AddKey(key.clone(), public_key)).await?;
    make_current(&api, Wanted::Default).await?;
    let view = find(&api, &key).ok_or_else(|| not_found(&name))?;
    Ok((StatusCode::CREATED, headers(&api, Wanted::Default), Json(view)))
}

/// Trusts a key no more. Probes that it signed stay as they are: the answer names them.
#[utoipa::path(
    delete, path = "/v1/probe-keys/{name}", tag = "probes",
    params(("name" = String, Path, description = "What it is called")),
    responses(
        (status = 200, description = "The key as it was, with the probes that it signed", body = ProbeKeyView),
        (status = 404, description = "No such key", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(
    State(api): State<Api>,
    hop: Hop,
    Path(name): Path<String>,
    params: Params,
) -> Result<(HeaderMap, Json<ProbeKeyView>), Problem> {
    params.finish(&[])?;
    let key = ProbeKeyName::new(&name).map_err(|_| not_found(&name))?;
    make_current(&api, Wanted::Default).await?;
    let view = find(&api, &key).ok_or_else(|| not_found(&name))?;
    // A key for the request is not looked at: removing twice is harmless, and a key may have been added again between.
    probe_orders::order(&api, &hop.without_headers(), ProbeOrder::RemoveKey(key)).await?;
    Ok((headers(&api, Wanted::Default), Json(view)))
}

/// Whether a signature is wanted, and whose are trusted.
#[utoipa::path(
    get, path = "/v1/probe-trust", tag = "probes",
    params(("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`")),
    responses(
        (status = 200, description = "The rule", body = ProbeTrustView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show_trust(
    State(api): State<Api>,
    mut params: Params,
) -> Result<(HeaderMap, Json<ProbeTrustView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::ProbeKeys)).await?;
    Ok((headers, Json(trust(&api))))
}

/// Sets whether a probe is taken without a signature of a trusted key. Recorded probes stay.
#[utoipa::path(
    put, path = "/v1/probe-trust", tag = "probes",
    params(("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this is sent")),
    request_body = ProbeTrustRequest,
    responses(
        (status = 200, description = "The rule as it is now", body = ProbeTrustView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn set_trust(
    State(api): State<Api>,
    hop: Hop,
    params: Params,
    body: JsonBody,
) -> Result<(HeaderMap, Json<ProbeTrustView>), Problem> {
    params.finish(&[])?;
    let ProbeTrustRequest { signatures } = body.parse()?;
    let bad = |field: &str, value: &str, rule: &str| Problem::field(ProblemKind::BadParameter, field, value, rule);
    let rule = match signatures.as_str() {
        "required" => SignatureRule::Required,
        "optional" => SignatureRule::Optional,
        other => return Err(bad("signatures", other, "must be required or optional")),
    };
    probe_orders::order(&api, &hop, ProbeOrder::SetSignatureRule(rule)).await?;
    make_current(&api, Wanted::Default).await?;
    Ok((headers(&api, Wanted::Default), Json(trust(&api))))
}
