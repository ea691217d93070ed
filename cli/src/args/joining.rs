//! The command line of joining: tokens, and the command that a new part of the cluster runs once.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use vouch_types::JoinTokenId;

use super::operating::duration_of;

/// Join tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token and print it. It is shown this once.
    Create {
        /// Whom it lets in.
        #[arg(long, value_enum)]
        role: JoinRoleArg,
        /// Only the one of this name: m4, n3, w12.
        #[arg(long)]
        name: Option<String>,
        /// How often it may be used.
        #[arg(long, default_value_t = 1)]
        uses: u32,
        /// How long it holds, as 1h; at most 168h.
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration_of)]
        ttl: Duration,
    },
    /// List the tokens that are kept, without their secrets.
    Ls,
    /// Take a token back. Who has joined by it stays.
    Revoke {
        /// Its id, as t1.
        token: JoinTokenId,
    },
}

/// As what somebody joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JoinRoleArg {
    /// A manager.
    Manager,
    /// A compute node.
    Node,
    /// A watcher that the cluster has placed.
    Watcher,
}

impl JoinRoleArg {
    /// Returns the word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Node => "node",
            Self::Watcher => "watcher",
        }
    }
}
