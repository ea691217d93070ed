//! Join tokens as the API shows them. The secret is shown once, when the token is made.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vouch_types::{JoinTokenRecord, WallTime};

use super::TimeView;

/// A join token that is to be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// `manager`, `node` or `watcher`.
    #[schema(example = "node")]
    pub role: String,
    /// For this one alone; anybody of the role when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "n3")]
    pub name: Option<String>,
    /// How often it may be used, from 1 to 1000.
    #[serde(default = "one")]
    pub uses: u32,
    /// How long it holds, at most 7 days.
    pub ttl_ms: u64,
}

const fn one() -> u32 {
    1
}

/// A join token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenView {
    /// Its id, which is no secret.
    #[schema(example = "t1")]
    pub id: String,
    /// `manager`, `node` or `watcher`.
    pub role: String,
    /// Whom it is for alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `open`, `used_up`, `expired` or `revoked`, by the clock of the manager that answers.
    pub state: String,
    /// How often it was used.
    pub uses: u32,
    /// How often it may be used.
    pub uses_max: u32,
    /// When it was made.
    pub created: TimeView,
    /// From when on it is worth nothing.
    pub expires: TimeView,
    /// Who used it, the last eight.
    pub used_by: Vec<String>,
}

impl JoinTokenView {
    /// Returns a token as it stands at a time.
    pub fn of(token: &JoinTokenRecord, now: WallTime) -> Self {
        Self {
            id: token.id.to_string(),
            role: token.allows.role().to_string(),
            name: token.allows.name(),
            state: token.standing(now).as_str().to_owned(),
            uses: token.uses,
            uses_max: token.uses_max,
            created: token.created.into(),
            expires: token.expires.into(),
            used_by: token.last_uses.iter().map(|used| used.joiner.name()).collect(),
        }
    }
}

/// A join token that was made now, with its secret: shown once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenMadeView {
    /// What the joiner is given, `VOUCH-<CA digest>-<secret>`.
    pub token: String,
    /// The token as it is recorded.
    pub record: JoinTokenView,
}
