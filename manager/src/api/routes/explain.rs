//! `/v1/vms/{id}/explain` and `/v1/vms/{id}/trace`: why a verdict is what it is, and how it came to be what it was.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Uri};
use axum::response::{IntoResponse, Response};
use vouch_types::{LogIndex, VmId};

use super::events::take_after;
use super::page;
use super::vms::find;
use crate::api::forward::{self, Hop};
use crate::api::freshness::{Wanted, make_current};
use crate::api::incidents::{incident_view, incidents_of};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::tail::check_kept;
use crate::api::trace::{When, trace};
use crate::api::view::{EventView, EvidenceView, ExplainView, Page};
use crate::api::{Api, compose, published, story};

/// Why the verdict on a VM is what it is: the evidence that it rests on, the evidence that does not count and why, and
/// what would make it another one. Live from the leader; at `stale` only the digest that is recorded, with its age.
#[utoipa::path(
    get, path = "/v1/vms/{id}/explain", tag = "vms",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
    ),
    responses(
        (status = 200, description = "Why", body = ExplainView),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No leader", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn explain(
    State(api): State<Api>,
    hop: Hop,
    uri: Uri,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<Response, Problem> {
    let wanted = Wanted::take(&mut params)?;
    params.finish(&["consistency"])?;
    let headers = make_current(&api, wanted).await?;
    let (id, _) = published::read(api.published(), |state| find(state, &id))?;
    let mut live = None;
    if wanted != Wanted::Stale {
        let path = uri.path_and_query().map_or_else(|| uri.path(), |p| p.as_str());
        if let Some(answer) = forward::to_leader(&api, &hop, &Method::GET, path, Bytes::new()).await? {
            return Ok(answer);
        }
        live = api.live().evidence(id).await;
    }
    let recorded_age = api.last_proved().filter(|_| wanted == Wanted::Stale).map(|at| at.elapsed());
    let view = published::read(api.published(), |state| {
        let (id, vm) = find(state, &id.to_string())?;
        let is_live = live.is_some();
        let EvidenceView { state: now, reason, used, discounted, would_change, .. } = live.unwrap_or_default();
        Ok(ExplainView {
            vm: compose::vm_view(state, id, &vm),
            manager: api.manager().to_string(),
            live: is_live,
            digest: vm.verdict.evidence.to_string(),
            recorded_age_ms: recorded_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            state: now,
            reason,
            used,
            discounted,
            would_change,
            incidents: incidents_of(state, &vm).map(incident_view).collect(),
        })
    })?;
    Ok((headers, Json(view)).into_response())
}

fn take_when(params: &mut Params, field: &str) -> Result<Option<When>, Problem> {
    let parse = |text: String| {
        When::parse(&text).map_err(|rule| Problem::field(ProblemKind::BadParameter, field, &text, &rule))
    };
    params.take(field).map(parse).transpose()
}

/// The story of past verdicts on a VM, oldest first: its own events, those of the paths to its node, of incidents, fence
/// proofs, maintenance and policies that concern it, and who led. As far back as events are kept; a VM that is gone is
/// found by its UUID.
#[utoipa::path(
    get, path = "/v1/vms/{id}/trace", tag = "vms",
    params(
        ("id" = String, Path, description = "UUID, or a name that only one VM has"),
        ("since" = Option<String>, Query,
            description = "From when on: so long ago (`10m`), an RFC 3339 time, or the position INDEX.ORDINAL of an event"),
        ("until" = Option<String>, Query, description = "Up to when, in the same forms"),
        ("limit" = Option<usize>, Query, description = "Items on the page, 1 to 1000; 100 when absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before, INDEX.ORDINAL"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
    ),
    responses(
        (status = 200, description = "A page of the story", body = Page<EventView>),
        (status = 404, description = "No such VM", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "No longer kept", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn story(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<Page<EventView>>), Problem> {
    let wanted = Wanted::take(&mut params)?;
    let (since, until) = (take_when(&mut params, "since")?, take_when(&mut params, "until")?);
    let limit = params.limit()?;
    let after = take_after(&mut params)?.unwrap_or((LogIndex::new(0), 0));
    params.finish(&["since", "until", "limit", "after", "consistency"])?;
    let headers = make_current(&api, wanted).await?;
    let now = api.wall().now();
    let page = published::read(api.published(), |state| {
        if let Some(When::Position(position)) = since {
            check_kept(state, position)?;
        }
        let (vm, missing) = match find(state, &id) {
            Ok((vm, _)) => (Some(vm), None),
            // It may be gone, and its story be kept.
            Err(problem) => (id.parse::<VmId>().ok(), Some(problem)),
        };
        let Some(events) = vm.and_then(|vm| trace(state, vm)) else {
            return Err(missing.unwrap_or_else(|| Problem::new(ProblemKind::Internal, "a recorded vm has no story")));
        };
        let events = events.into_iter().filter(|event| {
            (event.index, event.ordinal) > after
                && since.is_none_or(|since| since.is_reached(event, now))
                && until.is_none_or(|until| !until.is_passed(event, now))
        });
        let page = page(events, limit, |e| story::position_text((e.index, e.ordinal)));
        Ok(Page { items: page.items.into_iter().map(|e| story::event_view(state, e)).collect(), next: page.next })
    })?;
    Ok((headers, Json(page)))
}
