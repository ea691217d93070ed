//! `/v1/cluster`: the control cluster, and its making.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

use crate::api::freshness::{self, Wanted};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::view::ClusterView;
use crate::api::{Api, InitError, compose, published};

/// The control cluster as this manager sees it. Answered quorum or not, unless a consistency is asked for that needs one.
#[utoipa::path(
    get, path = "/v1/cluster", tag = "cluster",
    params(("consistency" = Option<String>, Query, description = "`stale` (when absent), `default` or `consistent`")),
    responses(
        (status = 200, description = "The cluster", body = ClusterView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn show(State(api): State<Api>, mut params: Params) -> Result<(HeaderMap, Json<ClusterView>), Problem> {
    let wanted = Wanted::take_or(&mut params, Wanted::Stale)?;
    params.finish(&["consistency"])?;
    let headers = freshness::make_current(&api, wanted).await?;
    let (status, hashes) = (api.published().status(), api.live().state_hashes());
    Ok((headers, Json(published::read(api.published(), |state| compose::cluster_view(state, &status, hashes)))))
}

/// Makes the cluster out of the configured managers. Done once, on a manager that has the key of the CA.
#[utoipa::path(
    post, path = "/v1/cluster/init", tag = "cluster",
    responses(
        (status = 200, description = "The new cluster", body = ClusterView),
        (status = 409, description = "There is one, or not here", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No quorum", body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn init(State(api): State<Api>, params: Params) -> Result<Json<ClusterView>, Problem> {
    params.finish(&[])?;
    api.live().init_cluster().await.map_err(|e| {
        let kind = match e {
            InitError::AlreadyInitialised => ProblemKind::AlreadyInitialised,
            InitError::NoCaKey => ProblemKind::CannotInitialise,
            InitError::NoQuorum(_) => ProblemKind::NoQuorum,
            InitError::Keys(_) => ProblemKind::Internal,
        };
        Problem::new(kind, e.to_string())
    })?;
    let (status, hashes) = (api.published().status(), api.live().state_hashes());
    Ok(Json(published::read(api.published(), |state| compose::cluster_view(state, &status, hashes))))
}
