//! `/v1/cluster/backup`: the whole replicated state as one file, at a point that a quorum confirmed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use vouch_types::Digest;

use crate::api::freshness::{Wanted, make_current};
use crate::api::params::Params;
use crate::api::problem::{Problem, ProblemKind};
use crate::api::{Api, published};
use crate::backup::Backup;
use crate::seams::BlobStore;
use crate::store;

/// Returns the components that operators uploaded; those that come with vouch come with it again.
fn uploaded(state: &store::State, blobs: &dyn BlobStore) -> Result<BTreeMap<Digest, Bytes>, String> {
    let probes = state.probes().values().filter(|probe| !probe.shipped);
    probes
        .map(|probe| match blobs.get(probe.digest) {
            Ok(Some(component)) => Ok((probe.digest, component)),
            Ok(None) => Err(format!("the component of probe {} is not on this manager: ask another one", probe.name)),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

/// A backup: everything that was committed before the request, with a checksum at its end. It holds the keys of the
/// cluster.
#[utoipa::path(
    get, path = "/v1/cluster/backup", tag = "cluster",
    responses(
        (status = 200, description = "The file for `vouch cluster restore`; cut off if its checksum is not there",
            body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 503, description = "No quorum, or another backup is being made",
            body = Problem, content_type = "application/problem+json"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn backup(State(api): State<Api>, params: Params) -> Result<Response, Problem> {
    params.finish(&[])?;
    let permit = Arc::clone(api.backups())
        .try_acquire_owned()
        .map_err(|_| Problem::new(ProblemKind::Busy, "another backup is being made on this manager"))?;
    let mut headers = make_current(&api, Wanted::Consistent).await?;
    let index = *api.published().applied().borrow();
    let (term, at, blobs) = (api.published().status().term, api.wall().now(), api.blobs());
    // Pointers, not copies: apply goes on while it is written out.
    let state = published::read(api.published(), Clone::clone);
    if state.cluster().is_none() {
        return Err(Problem::new(ProblemKind::NotInitialised, "there is no cluster to back up"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let make = move || {
        let _permit = permit;
        let blobs = uploaded(&state, blobs.as_ref()).map_err(io::Error::other)?;
        let backup = Backup::new(&state, index, term, at, blobs).map_err(io::Error::other)?;
        backup.to_bytes().map(Bytes::from).map_err(io::Error::other)
    };
    // The answer begins at once; one that fails after that ends without its checksum.
    let body = stream::once(async move {
        let made = tokio::task::spawn_blocking(make).await.map_err(io::Error::other).flatten();
        if let Err(error) = &made {
            tracing::warn!(error = error as &dyn std::error::Error, "backup could not be made");
        }
        made
    });
    Ok((headers, Body::from_stream(body)).into_response())
}
