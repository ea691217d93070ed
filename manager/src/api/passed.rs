//! Headers that travel with a request to the leader and with its answer back: those that the API gives a meaning, and no
//! other. A token or a cookie never does.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use vouch_wire::proto;

use super::freshness;

/// Names the write that is to happen once, however often it is sent.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Headers of a request that the leader has to see.
const OF_REQUESTS: [HeaderName; 2] = [header::IF_MATCH, IDEMPOTENCY_KEY];
/// Headers of an answer that its reader has to see.
const OF_ANSWERS: [HeaderName; 6] = [
    header::ETAG,
    freshness::INDEX,
    freshness::LEADER,
    freshness::KNOWN_LEADER,
    freshness::LAST_CONTACT,
    freshness::AGE,
];

fn pick(names: &[HeaderName], headers: &HeaderMap) -> Vec<proto::ApiHeader> {
    let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    names.iter().filter_map(|name| Some(proto::ApiHeader { name: name.to_string(), value: value(name)? })).collect()
}

fn unpack(names: &[HeaderName], headers: &[proto::ApiHeader]) -> HeaderMap {
    let known = |header: &proto::ApiHeader| {
        let name = names.iter().find(|name| name.as_str() == header.name)?;
        Some((name.clone(), HeaderValue::from_str(&header.value).ok()?))
    };
    headers.iter().filter_map(known).collect()
}

/// Returns what of a request's headers goes to the leader.
pub fn of_request(headers: &HeaderMap) -> Vec<proto::ApiHeader> {
    pick(&OF_REQUESTS, headers)
}

/// Returns what of an answer's headers goes back.
pub fn of_answer(headers: &HeaderMap) -> Vec<proto::ApiHeader> {
    pick(&OF_ANSWERS, headers)
}

/// Returns the headers of a request that was handed over.
pub fn request_headers(headers: &[proto::ApiHeader]) -> HeaderMap {
    unpack(&OF_REQUESTS, headers)
}

/// Returns the headers of an answer that came back.
pub fn answer_headers(headers: &[proto::ApiHeader]) -> HeaderMap {
    unpack(&OF_ANSWERS, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_handed_over_and_what_has_no_meaning_neither() {
        let headers = HeaderMap::from_iter([
            (header::AUTHORIZATION, HeaderValue::from_static("Bearer secret")),
            (header::COOKIE, HeaderValue::from_static("a=b")),
            (header::IF_MATCH, HeaderValue::from_static("\"7\"")),
        ]);
        let passed = of_request(&headers);
        assert_eq!(
            request_headers(&passed),
            HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static("\"7\""))])
        );
        let other = proto::ApiHeader { name: "set-cookie".to_owned(), value: "a=b".to_owned() };
        assert!(answer_headers(&[other]).is_empty());
    }
}
