//! Query parameters: each is checked, an unknown one is refused, and the refusal names field, value and rule.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::limits::{PAGE_DEFAULT, PAGE_MAX};
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
