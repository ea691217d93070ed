//! `/v1/probes`: probe components, and their upload.
//!
//! An uploaded component is read, never run: its imports are compared with what a probe may import, and with what the
//! operator grants it. It is recorded only once most managers keep its bytes, so that no failure of one leaves a record without a component.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use vouch_types::allowed_imports::allowed;
use vouch_types::probe_key::PROBE_VERSION_MAX;
use vouch_types::probe_rollout::ROLLOUT_RUNS;
use vouch_types::{
    Digest, ProbeGrant, ProbeImports, ProbeName, ProbeRecord, ProbeSigner, ProbeTrust, RolloutPlan, SignatureRule,
};
use vouch_wire::probe_signature::{SIGNATURE_LEN, SignedProbe, read_signature};

use crate::api::blocking::Reading;
use crate::api::component::{ComponentError, read_component};
use crate::api::forward::Hop;
use crate::api::freshness::{Wanted, make_current};
use crate::api::params::Params;
use crate::api::probe_orders::{self, ProbeOrder};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::routes::probe_grants::{grant_for, take_grant};
use crate::api::uploaded::Uploaded;
use crate::api::view::{Page, ProbeView};
use crate::api::{Api, compose, forward, published};
use crate::seams::digest_of;
use crate::store;
use crate::store::state::Subject;

/// All probes, by name.
#[utoipa::path(
    get, path = "/v1/probes", tag = "probes",
    params(
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "All probes", body = Page<ProbeView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(api): State<Api>, mut params: Params) -> Result<(HeaderMap, Json<Page<ProbeView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Probes)).await?;
    let items =
        published::read(api.published(), |state| state.probes().values().map(|p| compose::probe_view(p)).collect());
    Ok((headers, Json(Page { items, next: None })))
}

/// Returns the probe of this name.
///
/// # Errors
/// A problem when none is recorded.
pub(super) fn recorded(state: &store::State, name: &str) -> Result<Arc<ProbeRecord>, Problem> {
    let known = ProbeName::new(name).ok().and_then(|name| state.probes().get(&name).cloned());
    known.ok_or_else(|| {
        let rule = "must be the name of a recorded probe; GET /v1/probes lists them";
        Problem::field(ProblemKind::ProbeNotFound, "name", name, rule)
    })
}

/// Uploads a probe component.
#[utoipa::path(
    post, path = "/v1/probes", tag = "probes",
    params(
        ("name" = String, Query, description = "Its name: a DNS label"),
        ("version" = Option<String>, Query, description = "Its version; 0.0.0 when absent"),
        ("interfaces" = Option<String>, Query,
            description = "What it is granted: sockets, icmp, guest-agent, tls, with commas; none when absent"),
        ("networks" = Option<String>, Query, description = "Networks that it is granted: management, service"),
        ("ports" = Option<String>, Query, description = "Ports that it is granted, at most 64, or `settings`: the \
            `port` of a VM's settings, else those that it describes. A name that was recorded with a grant keeps that \
            when none of the three is given"),
        ("signature" = Option<String>, Query,
            description = "Ed25519 over digest, name and version, 128 hexadecimal digits: what `vouch probe sign` writes"),
        ("rollout" = Option<bool>, Query, description = "`true`: first to one watcher, and back at once if it faults more \
            than the recorded version"),
        ("runs" = Option<u32>, Query, description = "Runs that it has to show there, 5 to 10,000; 30 when absent"),
        ("lasts_ms" = Option<u64>, Query, description = "For how long at least, 10,000 to 3,600,000; 60,000 when absent"),
        ("Idempotency-Key" = Option<String>, Header, description = "Do it once, however often this request is sent"),
    ),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "The component, at most 3 MiB; or \
        multipart/form-data: `component`, and `description`, a ProbeDescriptionRequest of at most 48 KiB"),
    responses(
        (status = 201, description = "Recorded", body = ProbeView),
        (status = 202, description = "On its way: the recorded version, with the rollout", body = ProbeView),
        (status = 413, description = "Too large", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "No component, or it imports what a probe may not or what it is not granted: with \
            both lists",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn upload(
    State(api): State<Api>,
    hop: Hop,
    mut params: Params,
    uploaded: Uploaded,
) -> Result<(StatusCode, Json<ProbeView>), Problem> {
    let name = params
        .take("name")
        .ok_or_else(|| Problem::field(ProblemKind::BadParameter, "name", "", "must be given: the name of the probe"))?;
    let rule = "must be 1 to 63 of a-z, 0-9 and '-', and start and end with a letter or digit";
    let name = ProbeName::new(&name).map_err(|_| Problem::field(ProblemKind::BadParameter, "name", &name, rule))?;
    let version = params.take("version").unwrap_or_else(|| "0.0.0".to_owned());
    if version.is_empty() || version.len() > PROBE_VERSION_MAX || !version.bytes().all(|b| b.is_ascii_graphic()) {
        let rule = format!("must be 1 to {PROBE_VERSION_MAX} printable characters");
        return Err(Problem::field(ProblemKind::BadParameter, "version", &version, &rule));
    }
    let named = take_grant(&mut params)?;
    let signature = take_signature(&mut params)?;
    let plan = take_plan(&mut params)?;
    params.finish(&[
        "name",
        "version",
        "interfaces",
        "networks",
        "ports",
        "signature",
        "rollout",
        "runs",
        "lasts_ms",
    ])?;
    let Uploaded { component, descriptor } = uploaded;
    let digest = digest_of(&component);
    let imports = match read_component(&component) {
        Ok(imports) => imports,
        Err(e) => {
            let problem = refusal(&e);
            // What is no component at all could do nothing anywhere.
            if !matches!(e, ComponentError::NotAComponent(_)) {
                probe_orders::record_refusal(&api, &hop, &name, digest, &problem).await;
            }
            return Err(problem);
        }
    };
    make_current(&api, Wanted::Default).await?;
    let (known, trust) =
        published::read(api.published(), |state| (state.probes().get(&name).cloned(), state.probe_trust().clone()));
    if known.as_ref().is_some_and(|known| known.shipped) {
        let rule = "is the name of one of vouch's own probes: choose another";
        let problem = Problem::field(ProblemKind::Refused, "name", name.as_str(), rule);
        probe_orders::record_refusal(&api, &hop, &name, digest, &problem).await;
        return Err(problem);
    }
    let probe = SignedProbe { digest, name: &name, version: &version };
    let before = known.and_then(|known| known.grant.clone());
    let (signer, grant) = match judge(&probe, signature.as_ref(), &trust, &imports, (named.clone(), before)) {
        Ok(judged) => judged,
        Err(problem) => {
            probe_orders::record_refusal(&api, &hop, &name, digest, &problem).await;
            return Err(problem);
        }
    };
    let record = ProbeRecord {
        name,
        version,
        digest,
        size: component.len() as u64,
        imports,
        shipped: false,
        // One that was not named is that of the name, also if it is changed meanwhile.
        grant: named,
        signer,
        descriptor,
        rollout: None,
    };
    keep_on_most(&api, record.digest, component).await?;
    let order = match plan {
        None => ProbeOrder::Record(Box::new(record.clone())),
        Some(plan) => ProbeOrder::Rollout(Box::new(record.clone()), plan),
    };
    if let Err(problem) = probe_orders::order(&api, &hop, order).await {
        probe_orders::record_refusal(&api, &hop, &record.name, record.digest, &problem).await;
        return Err(problem);
    }
    if plan.is_some() {
        make_current(&api, Wanted::Default).await?;
        let now = published::read(api.published(), |state| state.probes().get(&record.name).cloned());
        return Ok((
            StatusCode::ACCEPTED,
            Json(compose::probe_view(&now.map_or(record, |now| ProbeRecord::clone(&now)))),
        ));
    }
    Ok((StatusCode::CREATED, Json(compose::probe_view(&ProbeRecord { grant: Some(grant), ..record }))))
}

/// Takes what the version has to show before all watchers run it, if it is to be rolled out.
fn take_plan(params: &mut Params) -> Result<Option<RolloutPlan>, Problem> {
    let rollout = params.parse::<bool>("rollout", "must be true or false")?.unwrap_or(false);
    let (least, most) = (ROLLOUT_RUNS.0, ROLLOUT_RUNS.1);
    let runs = params.parse::<u32>("runs", &format!("must be from {least} to {most}"))?;
    let lasts = params.parse::<u64>("lasts_ms", "must be a number of milliseconds")?;
    if let Some(field) =
        [runs.map(|_| "runs"), lasts.map(|_| "lasts_ms")].into_iter().flatten().next().filter(|_| !rollout)
    {
        return Err(Problem::field(ProblemKind::BadParameter, field, "", "must go with rollout=true"));
    }
    let of = RolloutPlan::default();
    let plan = RolloutPlan { runs: runs.unwrap_or(of.runs), lasts: lasts.map_or(of.lasts, Duration::from_millis) };
    Ok(rollout.then_some(plan))
}

fn take_signature(params: &mut Params) -> Result<Option<[u8; SIGNATURE_LEN]>, Problem> {
    let Some(text) = params.take("signature") else { return Ok(None) };
    let rule = format!("must be {} hexadecimal digits", 2 * SIGNATURE_LEN);
    let read = read_signature(&text);
    read.map(Some).ok_or_else(|| Problem::field(ProblemKind::BadParameter, "signature", &text, &rule))
}

/// Returns whose signature an upload has, and what it is granted. What is refused here is taken down.
fn judge(
    probe: &SignedProbe<'_>,
    signature: Option<&[u8; SIGNATURE_LEN]>,
    trust: &ProbeTrust,
    imports: &ProbeImports,
    (named, before): (Option<ProbeGrant>, Option<ProbeGrant>),
) -> Result<(Option<ProbeSigner>, ProbeGrant), Problem> {
    let signer = match (signature, trust.signatures) {
        (Some(signature), _) => {
            let signed = trust.keys.iter().find(|key| probe.is_signed_by(&key.public_key, signature));
            let rule =
                "must be of a trusted key, over this component, name and version; GET /v1/probe-keys lists the keys";
            let (name, version) = (probe.name, probe.version);
            let value = format!("of probe {name} {version}");
            let key = signed.ok_or_else(|| Problem::field(ProblemKind::SignatureRefused, "signature", &value, rule))?;
            Some(ProbeSigner { key: key.name.clone(), public_key: key.public_key })
        }
        (None, SignatureRule::Required) => {
            let rule = "must be given: the cluster takes no probe without a signature of a trusted key";
            return Err(Problem::field(ProblemKind::SignatureRequired, "signature", "", rule));
        }
        (None, SignatureRule::Optional) => None,
    };
    Ok((signer, grant_for(imports, named, before)?))
}

fn refusal(e: &ComponentError) -> Problem {
    let mut problem = Problem::new(ProblemKind::ComponentRefused, e.to_string());
    problem.field = Some("body".to_owned());
    problem.allowed_imports = Some(allowed().map(ToOwned::to_owned).collect());
    match e {
        ComponentError::NotAComponent(_) => {
            problem.rule = Some("must be a WebAssembly component (wasm32-wasip2)".to_owned());
        }
        ComponentError::ImportsRefused { imports, refused } => {
            problem.rule = Some("must import only what a probe may import".to_owned());
            problem.imports = Some(imports.clone());
            problem.refused_imports = Some(refused.clone());
        }
        ComponentError::ExportsMissing { imports, .. } => {
            problem.rule = Some("must export vouch:probe/check@1.0.0".to_owned());
            problem.imports = Some(imports.clone());
        }
    }
    problem
}

/// Keeps the component here and on the other managers; most of them, this one included, must say that they have it.
async fn keep_on_most(api: &Api, digest: Digest, component: Bytes) -> Result<(), Problem> {
    forward::keep(api, digest, component.clone()).await?;
    let voters = api.published().status().voters;
    let others = voters.keys().filter(|id| **id != api.manager());
    let kept = futures::future::join_all(others.map(|id| forward::put_blob(api, *id, digest, component.clone()))).await;
    let have = 1 + kept.iter().filter(|kept| kept.is_ok()).count();
    if have * 2 > voters.len() {
        return Ok(());
    }
    let why: Vec<String> = kept.into_iter().filter_map(Result::err).map(|problem| problem.detail.clone()).collect();
    let detail = format!("{have} of {} managers keep the component: {}", voters.len(), why.join("; "));
    Err(Problem::new(ProblemKind::NoQuorum, detail))
}
