//! ETags, and what a write says must hold: `If-Match` and `Idempotency-Key`.
//!
//! Nothing is decided here. What a request says goes with its command, and is judged where that is applied.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use vouch_types::guard::ONCE_KEY_MAX;
use vouch_types::{Command, Digest, Expected, Guard, LogIndex, Once, WallTime};

use super::passed::IDEMPOTENCY_KEY;
use super::problem::{Problem, ProblemKind};

/// Returns the ETag of what is as it was at this index.
pub fn text(index: LogIndex) -> String {
    format!("\"{index}\"")
}

/// Returns the header with the ETag of what is as it was at this index.
pub fn header(index: LogIndex) -> (HeaderName, HeaderValue) {
    let value = HeaderValue::from_str(&text(index)).expect("digits in quotes are a header's value");
    (header::ETAG, value)
}

/// What a write says must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Conditions {
    expects: Option<Expected>,
    key: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

impl Conditions {
    /// Returns what the headers say.
    ///
    /// # Errors
    /// A problem that names the header and its rule.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text =
            |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim().to_owned());
        let expects = text(&header::IF_MATCH).map(|value| expected(&value)).transpose()?;
        let key = text(&IDEMPOTENCY_KEY);
        if let Some(key) = &key
            && (key.is_empty() || key.len() > ONCE_KEY_MAX || !key.bytes().all(|b| (b' '..=b'~').contains(&b)))
        {
            let rule = format!("must be 1 to {ONCE_KEY_MAX} printable characters");
            return Err(Problem::field(ProblemKind::BadParameter, "Idempotency-Key", key, &rule));
        }
        Ok(Self { expects, key })
    }

    /// Returns the command with what must hold for it. `method`, `path` and `body` are what was asked for: with another
    /// one, the same key is a mistake.
    pub fn guard(self, command: Command, (method, path, body): (&str, &str, &[u8]), at: WallTime) -> Command {
        let Self { expects, key } = self;
        // What is deleted twice is gone as well; there is nothing to happen once.
        let key = key.filter(|_| method != "DELETE");
        if expects.is_none() && key.is_none() {
            return command;
        }
        let digest = Sha256::new().chain_update(method).chain_update([0]).chain_update(path).chain_update([0]);
        let request = Digest::new(digest.chain_update(body).finalize().into());
        let guard = Guard { expects, once: key.map(|key| Once { key, request }), at };
        Command::Guarded { command: Box::new(command), guard }
    }
}

fn expected(value: &str) -> Result<Expected, Problem> {
    if value == "*" {
        return Ok(Expected::Existing);
    }
    let index = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|digits| digits.parse().ok());
    index.map(|index| Expected::At(LogIndex::new(index))).ok_or_else(|| {
        let rule = "must be one ETag of this API, as \"42\", or *";
        Problem::field(ProblemKind::BadParameter, "If-Match", value, rule)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_if_match_may_say() {
        assert_eq!(expected("*").unwrap(), Expected::Existing);
        assert_eq!(expected(&text(LogIndex::new(42))).unwrap(), Expected::At(LogIndex::new(42)));
        for bad in ["", "42", "\"\"", "W/\"42\"", "\"x\"", "\"1\", \"2\"", "\""] {
            assert_eq!(expected(bad).unwrap_err().field.as_deref(), Some("If-Match"), "{bad}");
        }
    }

    #[test]
    fn a_key_has_so_many_printable_characters_and_no_more() {
        let of = |key: &str| {
            Conditions::of(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_bytes(key.as_bytes()).unwrap())]))
        };
        assert!(of(&"k".repeat(ONCE_KEY_MAX)).is_ok());
        for bad in ["", &"k".repeat(ONCE_KEY_MAX + 1), "k\u{e9}"] {
            assert_eq!(of(bad).unwrap_err().field.as_deref(), Some("Idempotency-Key"), "{bad}");
        }
    }
}
