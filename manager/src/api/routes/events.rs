//! `/v1/events`: the replicated story, as a stream of server-sent events or as pages.
//!
//! An event's position is its id. A reader that comes back with its last one, to this or any other manager, gets all
//! that follow, each once; when they are no longer kept it is told so instead of being shown a gap.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use vouch_types::{EventRecord, LogIndex, NodeId, VmId};

use super::page;
use crate::api::freshness::{Wanted, make_current};
use crate::api::limits::{KEEP_ALIVE, STREAM_BATCH};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{EventView, Page};
use crate::api::{Api, published, story};
use crate::store;
use crate::store::changes::EventPosition;
use crate::store::state::EVENTS_MAX;

/// Takes `after` as a position.
///
/// # Errors
/// A problem when it has another shape.
pub fn take_after(params: &mut Params) -> Result<Option<EventPosition>, Problem> {
    params.take("after").map(|text| position("after", &text)).transpose()
}

fn position(field: &str, text: &str) -> Result<EventPosition, Problem> {
    story::parse_position(text).map_err(|rule| Problem::field(ProblemKind::BadParameter, field, text, rule))
}

/// Which events a reader wants.
#[derive(Clone, Debug, Default)]
struct Filter {
    vm: Option<VmId>,
    node: Option<NodeId>,
}

impl Filter {
    fn wants(&self, event: &EventRecord) -> bool {
        let about = story::subject(&event.kind);
        self.vm.is_none_or(|vm| about.vm == Some(vm)) && self.node.as_ref().is_none_or(|node| about.node == Some(node))
    }
}

/// Refuses a position whose successors may have left the ring.
///
/// # Errors
/// A problem that names the oldest one.
pub(super) fn check_kept(state: &store::State, after: EventPosition) -> Result<(), Problem> {
    match state.events().next() {
        Some(oldest) if state.events().len() >= EVENTS_MAX && after < (oldest.index, oldest.ordinal) => {
            let detail = format!(
                "events after {} are no longer kept; the oldest one is {}",
                story::position_text(after),
                story::position_text((oldest.index, oldest.ordinal))
            );
            Err(Problem::new(ProblemKind::EventsGone, detail))
        }
        _ => Ok(()),
    }
}

/// What happened, in the order of the log: a stream, or a page with `format=json`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("after" = Option<String>, Query,
            description = "Position INDEX.ORDINAL after which to begin; also taken from `Last-Event-ID`. \
                           A stream begins with the next event when absent, a page with the oldest"),
        ("format" = Option<String>, Query, description = "`sse` (default) or `json`"),
        ("limit" = Option<usize>, Query, description = "Items on the page (`format=json`), 1 to 1000; 100 when absent"),
        ("vm" = Option<String>, Query, description = "Only events of the VM with this UUID"),
        ("node" = Option<String>, Query, description = "Only events of this node"),
        ("consistency" = Option<String>, Query,
            description = "`default`, `consistent` or `stale` (`format=json`)"),
    ),
    responses(
        (status = 200, description = "Events: server-sent, each with its position as `id`; or a page", content(
            (EventView = "text/event-stream"),
            (Page<EventView> = "application/json"),
        )),
        (status = 410, description = "No longer kept", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(api): State<Api>, headers: HeaderMap, mut params: Params) -> Result<Response, Problem> {
    let mut after = take_after(&mut params)?;
    if after.is_none()
        && let Some(last) = headers.get("last-event-id")
    {
        after = Some(position("Last-Event-ID", last.to_str().unwrap_or("?"))?);
    }
    let filter = Filter {
        vm: params.parse("vm", "must be the UUID of a VM")?,
        node: params.parse("node", "must be the name of a node")?,
    };
    let wanted = Wanted::take(&mut params)?;
    let format = params.take("format");
    let limit = params.limit()?;
    params.finish(&["after", "format", "limit", "vm", "node", "consistency"])?;
    match format.as_deref() {
        None | Some("sse") => stream_events(&api, after, filter),
        Some("json") => {
            let headers = make_current(&api, wanted).await?;
            let after = after.unwrap_or((LogIndex::new(0), 0));
            let page = published::read(api.published(), |state| {
                check_kept(state, after).map(|()| {
                    let events = state.events_after(after).filter(|event| filter.wants(event));
                    let page = page(events, limit, |e| story::position_text((e.index, e.ordinal)));
                    Page {
                        items: page.items.into_iter().map(|e| story::event_view(state, e)).collect(),
                        next: page.next,
                    }
                })
            })?;
            Ok((headers, Json::<Page<EventView>>(page)).into_response())
        }
        Some(other) => Err(Problem::field(ProblemKind::BadParameter, "format", other, "must be sse or json")),
    }
}

/// One open stream.
struct Tail {
    api: Api,
    applied: watch::Receiver<LogIndex>,
    after: EventPosition,
    filter: Filter,
    ready: VecDeque<EventView>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

fn stream_events(api: &Api, after: Option<EventPosition>, filter: Filter) -> Result<Response, Problem> {
    let permit = Arc::clone(api.streams())
        .try_acquire_owned()
        .map_err(|_| Problem::new(ProblemKind::Busy, "too many event streams are open on this manager"))?;
    // Subscribed before the state is read: what is applied in between wakes the stream.
    let applied = api.published().applied();
    let after = published::read(api.published(), |state| match after {
        Some(after) => check_kept(state, after).map(|()| after),
        None => Ok(state.events().next_back().map_or((LogIndex::new(0), 0), |last| (last.index, last.ordinal))),
    })?;
    let tail = Tail { api: api.clone(), applied, after, filter, ready: VecDeque::new(), ended: false, _permit: permit };
    let events = stream::unfold(tail, |mut tail| async move {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(event), tail))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

impl Tail {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(view) = self.ready.pop_front() {
                let data = serde_json::to_string(&view).unwrap_or_default();
                return Some(Event::default().id(view.id).event(view.kind).data(data));
            }
            if self.ended {
                return None;
            }
            self.applied.mark_unchanged();
            match self.take_batch() {
                Ok(true) => {}
                Ok(false) => {
                    if self.applied.changed().await.is_err() {
                        self.ended = true;
                    }
                }
                Err(gone) => {
                    self.ended = true;
                    let data = serde_json::to_string(&gone).unwrap_or_default();
                    return Some(Event::default().event("problem").data(data));
                }
            }
        }
    }

    /// Takes the next events from the state; `false` when there are none yet.
    fn take_batch(&mut self) -> Result<bool, Problem> {
        let Self { api, after, filter, ready, .. } = self;
        published::read(api.published(), |state| {
            check_kept(state, *after)?;
            let mut any = false;
            for event in state.events_after(*after).take(STREAM_BATCH) {
                any = true;
                *after = (event.index, event.ordinal);
                if filter.wants(event) {
                    ready.push_back(story::event_view(state, event));
                }
            }
            Ok(any)
        })
    }
}
