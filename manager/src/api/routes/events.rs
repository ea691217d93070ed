//! `/v1/events`: the replicated story, as a stream of server-sent events or as pages.
//!
//! An event's position is its id. A reader that comes back with its last one, to this or any other manager, gets all
//! that follow, each once; when they are no longer kept it is told so instead of being shown a gap.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use vouch_types::LogIndex;

use super::page;
use crate::api::freshness::{Wanted, make_current};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::tail::{self, Filter, check_kept};
use crate::api::view::{EventView, Page};
use crate::api::{Api, published, story};
use crate::store::changes::EventPosition;

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

/// How events are handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Stream,
    Page,
}

impl Shape {
    /// Takes `follow` and `format`, which say the same in two words.
    fn take(params: &mut Params) -> Result<Self, Problem> {
        let wrong =
            |field: &str, value: &str, rule: &str| Err(Problem::field(ProblemKind::BadParameter, field, value, rule));
        let follow = params.take("follow");
        let followed = match follow.as_deref() {
            None => None,
            Some("" | "true") => Some(Self::Stream),
            Some("false") => Some(Self::Page),
            Some(other) => return wrong("follow", other, "must be true or false"),
        };
        let format = params.take("format");
        let formatted = match format.as_deref() {
            None => None,
            Some("sse") => Some(Self::Stream),
            Some("json") => Some(Self::Page),
            Some(other) => return wrong("format", other, "must be sse or json"),
        };
        match (followed, formatted) {
            (Some(one), Some(other)) if one != other => {
                wrong("follow", &follow.unwrap_or_default(), "must say the same as format: sse follows, json does not")
            }
            (one, other) => Ok(one.or(other).unwrap_or(Self::Stream)),
        }
    }
}

/// What happened, in the order of the log: a stream, or a page with `format=json`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        ("after" = Option<String>, Query,
            description = "Position INDEX.ORDINAL after which to begin; also taken from `Last-Event-ID`. \
                           A stream begins with the next event when absent, a page with the oldest"),
        ("follow" = Option<String>, Query,
            description = "Follow events as they come (`true`, or no value; the default), or get a page (`false`)"),
        ("format" = Option<String>, Query, description = "`sse` to follow, `json` for a page"),
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
    let shape = Shape::take(&mut params)?;
    let limit = params.limit()?;
    params.finish(&["after", "follow", "format", "limit", "vm", "node", "consistency"])?;
    match shape {
        Shape::Stream => tail::stream(&api, after, filter),
        Shape::Page => {
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
    }
}
