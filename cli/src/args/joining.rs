//! The command line of joining: tokens, and the command that a new part of the cluster runs once.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use vouch_types::{JoinRole, JoinTokenId};

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
    /// Returns the role.
    pub const fn role(self) -> JoinRole {
        match self {
            Self::Manager => JoinRole::Manager,
            Self::Node => JoinRole::Node,
            Self::Watcher => JoinRole::Watcher,
        }
    }

    /// Returns the word of the API.
    pub const fn as_str(self) -> &'static str {
        self.role().as_str()
    }
}

/// How somebody joins.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The token, as `vouch token create` printed it. In the environment no other user of this machine sees it.
    #[arg(long, env = "VOUCH_JOIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: String,
    /// The mutually authenticated port of a manager; several may be given, and the next is tried when one does not
    /// answer.
    #[arg(long, required = true, value_name = "HOST:PORT", value_delimiter = ',')]
    pub manager: Vec<String>,
    /// As what.
    #[arg(long, value_enum)]
    pub role: JoinRoleArg,
    /// Under which id: m4, n3, w12.
    #[arg(long)]
    pub name: String,
    /// Folder for NAME.pem, NAME.key and ca.pem.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
}
