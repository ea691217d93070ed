//! The door of the API: Host, Origin, token, and how many requests are worked on at once.
//!
//! Host and Origin are checked before the token, so that a page of another site that a browser was tricked into
//! loading (DNS rebinding) learns nothing. There is no CORS: no other site may read an answer.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::blocking;
use super::limits::{REQUEST_TIMEOUT, WAIT_JITTER, WAIT_MAX};
use super::problem::{Problem, ProblemKind};
use super::token::ApiToken;

/// Routes that tell nothing but whether the process is well, and so ask for no token; with it `/readyz` tells more.
const OPEN_ROUTES: &[&str] = &["/livez", "/readyz"];

/// The names and addresses that this manager answers to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnHosts(Vec<String>);

impl OwnHosts {
    /// Returns the hosts of these names and addresses, beside the loopback ones.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    fn allows(&self, authority: &str) -> bool {
        let host = host_of(authority).to_ascii_lowercase();
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || literal.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.0.iter().any(|own| own == literal)
    }
}

/// Returns the host of `host:port`, with the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

/// Returns whether these headers bring the token; `None` when they bring none at all.
pub fn has_token(expected: &ApiToken, headers: &HeaderMap) -> Option<bool> {
    let value = headers.get(AUTHORIZATION)?.to_str().unwrap_or("?");
    let (scheme, token) = value.split_once(' ')?;
    Some(scheme.eq_ignore_ascii_case("bearer") && expected.matches(token.trim()))
}

fn check(api: &Api, request: &Request) -> Result<(), Problem> {
    let header = |name| request.headers().get(name).map(|v| v.to_str().unwrap_or("?").to_owned());
    let host = header(HOST).or_else(|| request.uri().authority().map(ToString::to_string)).unwrap_or_default();
    if !api.hosts().allows(&host) {
        let rule = "must name this manager: a loopback name or one of its own addresses";
        return Err(Problem::field(ProblemKind::HostNotAllowed, "Host", &host, rule));
    }
    if let Some(origin) = header(ORIGIN) {
        let own = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"))
            .is_some_and(|authority| api.hosts().allows(authority));
        if !own {
            let rule = "must be this manager itself; other sites are not served";
            return Err(Problem::field(ProblemKind::OriginNotAllowed, "Origin", &origin, rule));
        }
    }
    if OPEN_ROUTES.contains(&request.uri().path()) {
        return Ok(());
    }
    match has_token(api.token(), request.headers()) {
        Some(true) => Ok(()),
        Some(false) => Err(Problem::new(ProblemKind::Unauthorized, "the bearer token is wrong")),
        None => Err(Problem::new(
            ProblemKind::Unauthorized,
            "the Authorization header is missing: send \"Bearer TOKEN\" with the token of api.token_file",
        )),
    }
}

/// Lets a request in, or refuses it.
pub async fn guard(State(api): State<Api>, request: Request, next: Next) -> Response {
    if let Err(problem) = check(&api, &request) {
        tracing::debug!(problem = problem.problem_type, "request refused");
        return problem.into_response();
    }
    // Those that wait do nothing meanwhile: they take no room from those that are worked on.
    let waits = request.method() == Method::GET && blocking::waits(request.uri().query());
    let (room, limit) = if waits {
        (api.waiting(), REQUEST_TIMEOUT + WAIT_MAX + WAIT_MAX / WAIT_JITTER)
    } else {
        (api.requests(), REQUEST_TIMEOUT)
    };
    let Ok(_permit) = room.try_acquire() else {
        let detail = if waits { "too many blocking reads wait" } else { "too many requests are under way" };
        return Problem::new(ProblemKind::Busy, format!("{detail} on this manager")).into_response();
    };
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(ProblemKind::Timeout, format!("no answer within {limit:?}")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_own_names_are_hosts() {
        let own = OwnHosts::new(["10.1.0.1".to_owned(), "m1.manager.vouch".to_owned(), "fd00::1".to_owned()]);
        for good in [
            "localhost",
            "LOCALHOST:7080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:7080",
            "10.1.0.1:7080",
            "M1.manager.vouch",
            "[fd00::1]:80",
        ] {
            assert!(own.allows(good), "{good}");
        }
        for bad in ["", "evil.example", "evil.example:7080", "10.1.0.2", "localhost.evil.example", "127.0.0.1.evil"] {
            assert!(!own.allows(bad), "{bad}");
        }
    }
}
