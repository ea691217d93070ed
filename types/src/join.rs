//! Join tokens: what lets a new manager, node or watcher ask for its first certificate.
//!
//! Only the hash of a token's secret is here and in the log. When a token ends follows from times that the log carries;
//! nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Digest, JoinTokenId, LogIndex, ManagerId, NodeId, WallTime, WatcherId};

/// The most join tokens that are kept; ones that have ended make room.
pub const JOIN_TOKENS_MAX: usize = 100;
/// The longest time that a join token may hold.
pub const JOIN_TOKEN_TTL_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// The shortest time that a join token may hold.
pub const JOIN_TOKEN_TTL_MIN: Duration = Duration::from_secs(1);
/// The most uses of one join token.
pub const JOIN_TOKEN_USES_MAX: u32 = 1_000;
/// How many of the last uses of a token are kept: who made them may ask again, should the answer have been lost.
pub const JOIN_USES_KEPT: usize = 8;

/// As what somebody joins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinRole {
    /// A manager.
    Manager,
    /// A compute node.
    Node,
    /// A watcher.
    Watcher,
}

impl JoinRole {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Node => "node",
            Self::Watcher => "watcher",
        }
    }

    /// Returns the role of this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Manager, Self::Node, Self::Watcher].into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for JoinRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who joins: role and id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joiner {
    /// A manager.
    Manager(ManagerId),
    /// A compute node.
    Node(NodeId),
    /// A watcher that the cluster has placed.
    Watcher(WatcherId),
}

impl Joiner {
    /// Returns who has this role and this name; `None` when it is no name of that role.
    pub fn parse(role: JoinRole, name: &str) -> Option<Self> {
        match role {
            JoinRole::Manager => name.parse().map(Self::Manager).ok(),
            JoinRole::Node => name.parse().map(Self::Node).ok(),
            JoinRole::Watcher => name.parse().map(Self::Watcher).ok(),
        }
    }

    /// Returns its role.
    pub const fn role(&self) -> JoinRole {
        match self {
            Self::Manager(_) => JoinRole::Manager,
            Self::Node(_) => JoinRole::Node,
            Self::Watcher(_) => JoinRole::Watcher,
        }
    }

    /// Returns its id as text.
    pub fn name(&self) -> String {
        match self {
            Self::Manager(id) => id.to_string(),
            Self::Node(id) => id.to_string(),
            Self::Watcher(id) => id.to_string(),
        }
    }
}

impl fmt::Display for Joiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role(), self.name())
    }
}

/// Whom a token lets in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinFor {
    /// Anybody of this role.
    Any(JoinRole),
    /// This one alone.
    One(Joiner),
}

impl JoinFor {
    /// Returns the role.
    pub const fn role(&self) -> JoinRole {
        match self {
            Self::Any(role) => *role,
            Self::One(joiner) => joiner.role(),
        }
    }

    /// Returns the name that it is bound to, if it is.
    pub fn name(&self) -> Option<String> {
        match self {
            Self::Any(_) => None,
            Self::One(joiner) => Some(joiner.name()),
        }
    }
}

impl fmt::Display for JoinFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(role) => write!(f, "any {role}"),
            Self::One(joiner) => write!(f, "{joiner}"),
        }
    }
}

/// One use of a token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinUse {
    /// Who joined.
    pub joiner: Joiner,
    /// SHA-256 of the request that it had signed: the same request is the same use.
    pub request: Digest,
    /// When.
    pub at: WallTime,
}

/// A join token as it is recorded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinTokenRecord {
    /// Its number: never used again.
    pub id: JoinTokenId,
    /// Whom it lets in.
    pub allows: JoinFor,
    /// SHA-256 of its secret.
    pub secret_hash: Digest,
    /// How often it may be used.
    pub uses_max: u32,
    /// How often it was used.
    pub uses: u32,
    /// The last uses, oldest first; at most [`JOIN_USES_KEPT`].
    pub last_uses: Vec<JoinUse>,
    /// When it was made.
    pub created: WallTime,
    /// From when on it is worth nothing.
    pub expires: WallTime,
    /// When it was revoked, if it was.
    pub revoked: Option<WallTime>,
    /// The index at which it last changed.
    pub modified: LogIndex,
}

impl JoinTokenRecord {
    /// Returns how it stands at a time: why it lets nobody in any more, or that it does.
    pub fn standing(&self, at: WallTime) -> JoinStanding {
        match (self.revoked, at >= self.expires, self.uses >= self.uses_max) {
            (Some(_), _, _) => JoinStanding::Revoked,
            (None, true, _) => JoinStanding::Expired,
            (None, false, true) => JoinStanding::UsedUp,
            (None, false, false) => JoinStanding::Open,
        }
    }
}

/// How a token stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JoinStanding {
    /// It lets in whom it is for.
    Open,
    /// It was used as often as it may be.
    UsedUp,
    /// Its time is over.
    Expired,
    /// An operator took it back.
    Revoked,
}

impl JoinStanding {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::UsedUp => "used_up",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// Why somebody may not join.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// No token has this secret.
    #[error("join token: unknown; make one with \"vouch token create\"")]
    Unknown,
    /// The time of the token is over.
    #[error("join token {0} has expired; make another one with \"vouch token create\"")]
    Expired(JoinTokenId),
    /// It was used as often as it may be.
    #[error("join token {token} is used up: it was for {uses} uses; make another one with \"vouch token create\"")]
    UsedUp {
        /// Which.
        token: JoinTokenId,
        /// How often it could be used.
        uses: u32,
    },
    /// An operator took it back.
    #[error("join token {0} was revoked")]
    Revoked(JoinTokenId),
    /// It is for another role.
    #[error("join token {token} is for a {wanted}, and a {shown} showed it")]
    WrongRole {
        /// Which.
        token: JoinTokenId,
        /// The role that it is for.
        wanted: JoinRole,
        /// The role that was asked for.
        shown: JoinRole,
    },
    /// It is for another one of its role.
    #[error("join token {token} is for {wanted} alone, and {shown} showed it")]
    WrongName {
        /// Which.
        token: JoinTokenId,
        /// Whom it is for.
        wanted: Joiner,
        /// Who was named.
        shown: Joiner,
    },
    /// Somebody who is heard now has the name.
    #[error("the name is taken: {0} is heard now; stop it first, or join under another name")]
    Taken(Joiner),
    /// The cluster has placed no such watcher, or it has its certificate.
    #[error("{0} waits for no certificate: the cluster places watchers and numbers them")]
    NoSuchWatcher(Joiner),
}

impl JoinRefusal {
    /// Returns the word for it, for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired(_) => "expired",
            Self::UsedUp { .. } => "used_up",
            Self::Revoked(_) => "revoked",
            Self::WrongRole { .. } => "wrong_role",
            Self::WrongName { .. } => "wrong_name",
            Self::Taken(_) => "taken",
            Self::NoSuchWatcher(_) => "no_such_watcher",
        }
    }
}
