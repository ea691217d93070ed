//! Query parameters and bodies: each is checked, an unknown field is refused, and the refusal names field, value and rule.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::limits::{BODY_MAX, PAGE_DEFAULT, PAGE_MAX};
use super::problem::{Problem, ProblemKind};

/// The query parameters of a request that nobody has taken yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map(|Query(list)| Self(list.into_iter().collect()))
            .map_err(|e| Problem::new(ProblemKind::BadParameter, format!("query: {e}")))
    }
}

impl Params {
    /// Takes a parameter as it is.
    pub fn take(&mut self, field: &str) -> Option<String> {
        self.0.remove(field)
    }

    /// Takes a parameter and parses it.
    ///
    /// # Errors
    /// A problem with the rule when it cannot be parsed.
    pub fn parse<T: FromStr>(&mut self, field: &str, rule: &str) -> Result<Option<T>, Problem> {
        self.take(field)
            .map(|value| value.parse().map_err(|_| Problem::field(ProblemKind::BadParameter, field, &value, rule)))
            .transpose()
    }

    /// Takes `limit`.
    ///
    /// # Errors
    /// A problem when it is no number from 1 to [`PAGE_MAX`].
    pub fn limit(&mut self) -> Result<usize, Problem> {
        let rule = format!("must be a number from 1 to {PAGE_MAX}");
        let Some(value) = self.take("limit") else { return Ok(PAGE_DEFAULT) };
        match value.parse() {
            Ok(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
            _ => Err(Problem::field(ProblemKind::BadParameter, "limit", &value, &rule)),
        }
    }

    /// Ends the list of what is known: anything left is a mistake of the caller.
    ///
    /// # Errors
    /// A problem that names the first unknown parameter.
    pub fn finish(self, known: &[&str]) -> Result<(), Problem> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((field, value)) => {
                let rule = format!("is not a parameter of this route: known are {}", known.join(", "));
                Err(Problem::field(ProblemKind::BadParameter, &field, &value, &rule))
            }
        }
    }
}

/// The body of a request, at most [`BODY_MAX`] bytes: kept as it came, so that it can be handed to the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonBody(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let too_large = |_| Problem::new(ProblemKind::TooLarge, format!("a body has at most {BODY_MAX} bytes"));
        axum::body::to_bytes(request.into_body(), BODY_MAX).await.map(Self).map_err(too_large)
    }
}

impl JsonBody {
    /// Returns the document that it holds.
    ///
    /// # Errors
    /// A problem that says what is wrong and where.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_slice(&self.0).map_err(|e| {
            let value = String::from_utf8_lossy(&self.0);
            Problem::field(ProblemKind::BadParameter, "body", &value, &format!("must be a document of this route: {e}"))
        })
    }
}
