//! `/livez` and `/readyz`: for load balancers and service managers; without a token, and telling nothing of the VMs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use crate::api::view::{LiveDocument, ReadyView};
use crate::api::{Api, compose};

/// The process is alive.
#[utoipa::path(
    get, path = "/livez", tag = "health", security(()),
    responses((status = 200, description = "Alive", body = LiveDocument)),
)]
pub async fn livez() -> Json<LiveDocument> {
    Json(LiveDocument { live: true })
}

/// Whether this manager may be sent requests, and why not.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "Ready", body = ReadyView),
        (status = 503, description = "Not ready", body = ReadyView),
    ),
)]
pub async fn readyz(State(api): State<Api>) -> (StatusCode, Json<ReadyView>) {
    let readiness = api.live().readiness().await;
    let mut notes = readiness.notes;
    if let Some(note) = compose::one_network_note(&api.published().status())
        && notes.iter().all(|have| have.code != note.code)
    {
        notes.push(note);
    }
    let ready = readiness.reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyView { ready, reasons: readiness.reasons, notes }))
}
