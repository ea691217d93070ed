//! `/v1/vms`: VMs with their verdicts, live evidence, history, and a forced check.

use std::ops::Bound;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{LogIndex, NodeId, VmId, VmRecord, VmState};

use super::page;
use crate::api::blocking::Reading;
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, make_current};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{CheckView, CheckedView, EventView, EvidenceView, Page, VmView};
use crate::api::{Api, CheckError, compose, etag, published, story};
use crate::store;
use crate::store::state::Subject;

const STATES: [VmState; 10] = [
    VmState::Up,
    VmState::Degraded,
    VmState::Paused,
    VmState::Hung,
    VmState::Rebooting,
    VmState::Stopped,
    VmState::Down,
    VmState::Lost,
    VmState::Conflict,
    VmState::Unknown,
];

fn parse_state(text: &str) -> Result<VmState, Problem> {
    STATES.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
        let words: Vec<&str> = STATES.iter().map(|s| s.as_str()).collect();
        let rule = format!("must be one of {}", words.join(", "));
        Problem::field(ProblemKind::BadParameter, "state", text, &rule)
    })
}

/// Finds a VM by its UUID or by a name that only one has.
///
/// # Errors
/// A problem when none has, or more than one.
pub(super) fn find(state: &store::State, text: &str) -> Result<(VmId, Arc<VmRecord>), Problem> {
    let missing = || {
        Problem::field(
            ProblemKind::VmNotFound,
            "id",
            text,
            "must be the UUID or the name of a VM that a node has reported",
        )
    };
    if let Ok(id) = text.parse::<VmId>() {
        return state.vms().get(&id).map(|vm| (id, Arc::clone(vm))).ok_or_else(missing);
    }
    let mut named = state.vms().iter().filter(|(_, vm)| vm.spec.name == text);
    let (id, vm) = named.next().ok_or_else(missing)?;
    if let Some((other, _)) = named.next() {
        let rule = format!("must be the name of one VM: {id} and {other} have it, use the UUID");
        return Err(Problem::field(ProblemKind::VmNameAmbiguous, "id", text, &rule));
    }
    Ok((*id, Arc::clone(vm)))
}

/// All VMs with their verdicts, by UUID.
#[utoipa::path(
    get, path = "/v1/vms", tag = "vms",
    params(
        ("state" = Option<String>, Query, description = "Only VMs in this state"),
        ("node" = Option<String>, Query, description = "Only VMs of this node"),
        ("limit" = Option<usize>, Query, description = "Items on the page, 1 to 1000; 100 when absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "A page of VMs", body = Page<VmView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(api): State<Api>, mut params: Params) -> Result<(HeaderMap, Json<Page<VmView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    let limit = params.limit()?;
    let after: Option<VmId> = params.parse("after", "must be `next` of the page before, a UUID")?;
    let state = params.take("state").map(|text| parse_state(&text)).transpose()?;
    let node: Option<NodeId> = params.parse("node", "must be the name of a node")?;
    params.finish(&["state", "node", "limit", "after", "consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Vms)).await?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let page = published::read(api.published(), |all| {
        let vms = all
            .vms()
            .range((from, Bound::Unbounded))
            .filter(|(_, vm)| state.is_none_or(|s| vm.verdict.state == s))
            .filter(|(_, vm)| node.as_ref().is_none_or(|n| vm.node == *n));
        let page = page(vms, limit, |(id, _)| id.to_string());
        Page { items: page.items.into_iter().map(|(id, vm)| compose::vm_view(all, *id, vm)).collect(), next: page.next }
    });
    Ok((headers, Json(page)))
}

/// One VM with its verdict.
#[utoipa::path(
    get, path = "/v1/vms/{id}", tag = "vms",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "The VM", body = VmView),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<VmView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let mut headers = reading.make_current(&api, |state| find(state, &id).ok().map(|(id, _)| Subject::Vm(id))).await?;
    let (version, view) = published::read(api.published(), |state| {
        find(state, &id).map(|(id, vm)| (vm.modified, compose::vm_view(state, id, &vm)))
    })?;
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)))
}

/// What the leader's detector holds on a VM now; at `stale` only the digest that is recorded.
#[utoipa::path(
    get, path = "/v1/vms/{id}/evidence", tag = "vms",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
    ),
    responses(
        (status = 200, description = "The evidence", body = EvidenceView),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No leader", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn evidence(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Response, Problem> {
    let wanted = Wanted::take(&mut params)?;
    params.finish(&["consistency"])?;
    let headers = make_current(&api, wanted).await?;
    let (id, vm) = published::read(api.published(), |state| find(state, &id))?;
    let recorded = EvidenceView {
        vm: id.to_string(),
        manager: api.manager().to_string(),
        digest: vm.verdict.evidence.to_string(),
        ..EvidenceView::default()
    };
    if wanted == Wanted::Stale {
        return Ok((headers, Json(recorded)).into_response());
    }
    let path = uri.path_and_query().map_or_else(|| uri.path(), |p| p.as_str());
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::GET, path, Bytes::new()).await? {
        return Ok(answer);
    }
    let live = api.live().evidence(id).await.unwrap_or(recorded);
    Ok((headers, Json(live)).into_response())
}

/// The events of a VM and of the paths to its node, oldest first.
#[utoipa::path(
    get, path = "/v1/vms/{id}/history", tag = "vms",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("limit" = Option<usize>, Query, description = "Items on the page, 1 to 1000; 100 when absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before, INDEX.ORDINAL"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
    ),
    responses(
        (status = 200, description = "A page of events", body = Page<EventView>),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn history(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<EventView>>), Problem> {
    let wanted = Wanted::take(&mut params)?;
    let limit = params.limit()?;
    let after = super::events::take_after(&mut params)?.unwrap_or((LogIndex::new(0), 0));
    params.finish(&["limit", "after", "consistency"])?;
    let headers = make_current(&api, wanted).await?;
    let page = published::read(api.published(), |state| {
        let (id, vm) = find(state, &id)?;
        let events = state.events_after(after).filter(|e| story::concerns(&e.kind, id, &vm.node));
        let page = page(events, limit, |e| story::position_text((e.index, e.ordinal)));
        Ok(Page { items: page.items.into_iter().map(|e| story::event_view(state, e)).collect(), next: page.next })
    })?;
    Ok((headers, Json(page)))
}

/// Has the watchers of a VM look at it now, and answers with what is known then.
#[utoipa::path(
    post, path = "/v1/vms/{id}/check", tag = "vms",
    params(("id" = String, Path, description = "UUID, or a name that only one VM has")),
    responses(
        (status = 200, description = "Who answered, the VM and its evidence after that", body = CheckedView),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No live watcher", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No leader", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn check(State(api): State<Api>, hop: Hop, uri: Uri, Path(id): Path<String>) -> Result<Response, Problem> {
    let headers = make_current(&api, Wanted::Default).await?;
    let (id, _) = published::read(api.published(), |state| find(state, &id))?;
    if let Some(answer) = forward::to_leader(&api, &hop, &Method::POST, uri.path(), Bytes::new()).await? {
        return Ok(answer);
    }
    let check = check_now(&api, id).await?;
    let evidence = api.live().evidence(id).await;
    let vm = published::read(api.published(), |state| {
        find(state, &id.to_string()).map(|(id, vm)| compose::vm_view(state, id, &vm))
    })?;
    Ok((headers, Json(CheckedView { check, vm, evidence })).into_response())
}

/// Has the watchers of a VM look at it now; only where this manager leads.
///
/// # Errors
/// A problem when nobody was asked.
pub(super) async fn check_now(api: &Api, id: VmId) -> Result<CheckView, Problem> {
    api.live().check(id).await.map_err(|e| match e {
        CheckError::UnknownVm(vm) => {
            Problem::field(ProblemKind::VmNotFound, "id", &vm.to_string(), "must be a VM that a node has reported")
        }
        CheckError::NotLeader => Problem::new(ProblemKind::NoLeader, e.to_string()),
        CheckError::NoWatcher(_) => Problem::new(ProblemKind::NoWatcher, e.to_string()),
        CheckError::TooMany(_) => Problem::new(ProblemKind::Busy, e.to_string()),
    })
}
