//! `/v1/watchers`: the VMs that vouch created to watch others.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use vouch_types::WatcherId;

use super::page;
use crate::api::blocking::Reading;
use crate::api::params::Params;
use crate::api::problem::Problem;
use crate::api::view::{Page, WatcherView};
use crate::api::{Api, compose, published};
use crate::store::state::Subject;

/// All watchers, by number.
#[utoipa::path(
    get, path = "/v1/watchers", tag = "watchers",
    params(
        ("limit" = Option<usize>, Query, description = "Items on the page, 1 to 1000; 100 when absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "A page of watchers", body = Page<WatcherView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(api): State<Api>, mut params: Params) -> Result<(HeaderMap, Json<Page<WatcherView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    let limit = params.limit()?;
    let after: Option<WatcherId> = params.parse("after", "must be `next` of the page before, as w1")?;
    params.finish(&["limit", "after", "consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Watchers)).await?;
    let hearing = api.live().hearing().await;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let page = published::read(api.published(), |state| {
        let watchers = state.watchers().range((from, Bound::Unbounded));
        page(watchers.map(|(_, watcher)| compose::watcher_view(watcher, &hearing)), limit, |w| w.id.clone())
    });
    Ok((headers, Json(page)))
}
