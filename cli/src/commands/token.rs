//! `vouch token`: join tokens.

use hyper::Method;
use vouch_manager::api::view::{JoinTokenMadeView, JoinTokenRequest, JoinTokenView, Page};

use crate::args::{Global, TokenCommand};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::{Output, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &TokenCommand) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let out = Output::new(global);
    match command {
        TokenCommand::Ls => {
            let page: Page<JoinTokenView> = client.get("/v1/join-tokens")?;
            out.show(&page.items, |_| tell(&page.items))
        }
        TokenCommand::Create { role, name, uses, ttl } => {
            let request = JoinTokenRequest {
                role: role.as_str().to_owned(),
                name: name.clone(),
                uses: *uses,
                ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            };
            let made: JoinTokenMadeView = client.tell(Method::POST, "/v1/join-tokens", &request)?;
            // The token alone, so that a script can take it; the list shows the rest.
            out.show(&made, |_| format!("{}\n", made.token))
        }
        TokenCommand::Revoke { token } => {
            let token: JoinTokenView = client.delete(&format!("/v1/join-tokens/{token}"))?;
            out.show(&token, |_| format!("join token {} revoked\n", token.id))
        }
    }
}

/// Returns tokens for people.
pub fn tell(tokens: &[JoinTokenView]) -> String {
    let rows = tokens.iter().map(|token| {
        vec![
            token.id.clone(),
            token.role.clone(),
            token.name.clone().unwrap_or_else(|| "any".to_owned()),
            token.state.clone(),
            format!("{}/{}", token.uses, token.uses_max),
            token.expires.rfc3339.clone(),
            token.used_by.join(", "),
        ]
    });
    table(&["token", "role", "name", "state", "uses", "expires", "last used by"], rows)
}
