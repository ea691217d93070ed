//! `/v1/nodes`: compute nodes, the paths to them, and who hears them; and the removal of one.

use std::ops::Bound;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use vouch_types::{NodeId, VmsLeft};

use super::page;
use crate::api::blocking::Reading;
use crate::api::forward::Hop;
use crate::api::freshness::{Wanted, headers};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::{NodeRemovedView, NodeView, Page};
use crate::api::{Api, compose, etag, node_removal, published};
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
    let (version, view) = view.ok_or_else(|| node_removal::not_found(&api, &id))?;
    headers.extend([etag::header(version)]);
    Ok((headers, Json(view)))
}

/// Removes a node that is dead or retired, with all that is recorded of it: its VMs, watchers, incidents, proofs,
/// windows and policies. Its certificate is worth nothing from then on, until it has joined again with a join token.
/// Refused while it is heard, itself or through a watcher on it, and while VMs are recorded on it that may run, unless
/// those are to be forgotten: that proves nothing of them, and nothing is advised about them.
#[utoipa::path(
    delete, path = "/v1/nodes/{id}", tag = "nodes",
    params(
        ("id" = String, Path, description = "Name of the node"),
        ("vms" = Option<String>, Query, description = "What becomes of VMs on it that may run: `refuse` (the removal \
            is refused; when absent) or `forget`"),
        ("If-Match" = Option<String>, Header, description = "Only if what is there has this ETag; `*`: if anything is"),
    ),
    responses(
        (status = 200, description = "What was removed", body = NodeRemovedView),
        (status = 404, description = "No such node", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The node is heard (`node-is-heard`), or VMs that may run are recorded on it \
            (`node-has-vms`, with the first 20 in `vms`)", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "It is not what If-Match says: with the current ETag",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(
    State(api): State<Api>,
    hop: Hop,
    Path(id): Path<String>,
    mut params: Params,
) -> Result<(HeaderMap, Json<NodeRemovedView>), Problem> {
    let left = match params.take("vms").as_deref() {
        None | Some("refuse") => VmsLeft::Refuse,
        Some("forget") => VmsLeft::Forget,
        Some(other) => {
            return Err(Problem::field(ProblemKind::BadParameter, "vms", other, "must be refuse or forget"));
        }
    };
    params.finish(&["vms"])?;
    let node = NodeId::new(&id).map_err(|_| node_removal::not_found(&api, &id))?;
    let removed = node_removal::order(&api, &hop, node, left).await?;
    Ok((headers(&api, Wanted::Default), Json(removed)))
}
