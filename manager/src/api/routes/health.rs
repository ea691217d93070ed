//! `/livez` and `/readyz`: for load balancers and service managers; without a token, and telling nothing of the VMs.
//!
//! Without a token only codes are told: the sentences behind them name addresses, members and errors.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use crate::api::guard::has_token;
use crate::api::view::{LiveDocument, ReadyView, ReasonView};
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
pub async fn readyz(State(api): State<Api>, headers: HeaderMap) -> (StatusCode, Json<ReadyView>) {
    let readiness = api.live().readiness().await;
    let mut notes = readiness.notes;
    if let Some(note) = compose::one_network_note(&api.published().status())
        && notes.iter().all(|have| have.code != note.code)
    {
        notes.push(note);
    }
    let mut reasons = readiness.reasons;
    if has_token(api.token(), &headers) != Some(true) {
        reasons = codes_only(reasons);
        notes = codes_only(notes);
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyView { ready, reasons, notes }))
}

/// Stands for every sentence that is told only to those who have the token.
const TOLD_WITH_TOKEN: &str = "send the token to be told more";

fn codes_only(list: Vec<ReasonView>) -> Vec<ReasonView> {
    let codes: BTreeSet<String> = list.into_iter().map(|reason| reason.code).collect();
    codes.iter().map(|code| ReasonView::new(code, TOLD_WITH_TOKEN)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::token::ApiToken;
    use axum::http::HeaderValue;
    use axum::http::header::AUTHORIZATION;

    #[test]
    fn without_the_token_only_codes_are_told() {
        let told = codes_only(vec![
            ReasonView::new("no_quorum", "1 of 2 other managers are heard"),
            ReasonView::new("no_quorum", "10.1.0.2 is silent"),
        ]);
        assert_eq!(told, [ReasonView::new("no_quorum", TOLD_WITH_TOKEN)]);
    }

    #[test]
    fn only_the_right_bearer_token_counts() {
        let token = ApiToken::new("0123456789abcdef");
        let shown = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        assert_eq!(has_token(&token, &shown("Bearer 0123456789abcdef")), Some(true));
        assert_eq!(has_token(&token, &shown("Bearer 0123456789abcdeg")), Some(false));
        assert_eq!(has_token(&token, &shown("Basic 0123456789abcdef")), Some(false));
        assert_eq!(has_token(&token, &HeaderMap::new()), None);
    }
}
