//! `/v1/nodes`: compute nodes, the paths to them, and who hears them.

use std::ops::Bound;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use vouch_types::NodeId;

use super::page;
use crate::api::blocking::Reading;
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{NodeView, Page};
use crate::api::{Api, compose, etag, published};
use crate::store::state::Subject;

/// All compute nodes, by name.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes",
    params(
        ("limit" = Option<usize>, Query, description = "Items on the page, 1 to 1000; 100 when absent"),
        ("after" = Option<String>, Query, description = "`next` of the page before"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "A page of nodes", body = Page<NodeView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(api): State<Api>, mut params: Params) -> Result<(HeaderMap, Json<Page<NodeView>>), Problem> {
    let reading = Reading::take(&mut params)?;
    let limit = params.limit()?;
    let after: Option<NodeId> = params.parse("after", "must be `next` of the page before, the name of a node")?;
    params.finish(&["limit", "after", "consistency", "index", "wait"])?;
    let headers = reading.make_current(&api, |_| Some(Subject::Nodes)).await?;
    let hearing = api.live().hearing().await;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let page = published::read(api.published(), |state| {
        let nodes = state.nodes().range((from, Bound::Unbounded));
        page(nodes.map(|(_, node)| compose::node_view(state, node, &hearing)), limit, |node| node.id.clone())
    });
    Ok((headers, Json(page)))
}

/// One compute node.
#[utoipa::path(
    get, path = "/v1/nodes/{id}", tag = "nodes",
    params(
        ("id" = String, Path, description = "Name of the node"),
        ("consistency" = Option<String>, Query, description = "`default`, `consistent` or `stale`"),
        ("index" = Option<u64>, Query, description = "Answer once it has changed after this `X-Vouch-Index`"),
        ("wait" = Option<String>, Query, description = "How long at most, as 30s; 60s when absent, 10m at most"),
    ),
    responses(
        (status = 200, description = "The node", body = NodeView),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<NodeView>), Problem> {
    let reading = Reading::take(&mut params)?;
    params.finish(&["consistency", "index", "wait"])?;
    let mut headers = reading.make_current(&api, |_| Some(Subject::Nodes)).await?;
    let hearing = api.live().hearing().await;
    let view = published::read(api.published(), |state| {
        let node = NodeId::new(&id).ok().and_then(|node| state.nodes().get(&node));
        node.map(|node| (node.modified, compose::node_view(state, node, &hearing)))
    });
    let rule = "must be the name of a node that a manager has heard";
    let (version, view) = view.ok_or_else(|| Problem::field(ProblemKind::NodeNotFound, "id", &id, rule))?;
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)))
}
