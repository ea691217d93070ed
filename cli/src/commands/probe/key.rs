//! `vouch probe key` and `vouch probe require-signature`: whose signatures under probes the cluster trusts.

use hyper::Method;
use vouch_manager::api::view::{Page, ProbeKeyRequest, ProbeKeyView, ProbeTrustRequest, ProbeTrustView};
use vouch_types::SignatureRule;

use super::sign::read_text;
use crate::args::{Global, ProbeKeyCommand, Switch};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::{Output, table};

/// Runs a command of `vouch probe key`.
///
/// # Errors
/// A file that cannot be read, or what the managers said.
pub fn run(global: &Global, command: &ProbeKeyCommand) -> Result<(), CliError> {
    let out = Output::new(global);
    match command {
        ProbeKeyCommand::Ls => {
            let client = Client::new(global)?;
            let page: Page<ProbeKeyView> = client.get("/v1/probe-keys")?;
            let trust: ProbeTrustView = client.get("/v1/probe-trust")?;
            let document = serde_json::json!({ "signatures": trust.signatures, "keys": page.items });
            out.show(&document, |_| tell(&trust, &page.items))
        }
        ProbeKeyCommand::Add { name, file } => {
            let request = ProbeKeyRequest { name: name.to_string(), public_key: read_text(file)? };
            let key: ProbeKeyView = Client::new(global)?.tell(Method::POST, "/v1/probe-keys", &request)?;
            out.show(&key, |_| format!("key {} is trusted, {}\n", key.name, key.public_key))
        }
        ProbeKeyCommand::Rm { name } => {
            let key: ProbeKeyView = Client::new(global)?.delete(&format!("/v1/probe-keys/{name}"))?;
            out.show(&key, |_| tell_removed(&key))
        }
    }
}

/// Sets whether a probe is taken without a signature.
///
/// # Errors
/// What the managers said.
pub fn require(global: &Global, switch: Switch) -> Result<(), CliError> {
    let rule = match switch {
        Switch::On => SignatureRule::Required,
        Switch::Off => SignatureRule::Optional,
    };
    let wanted = ProbeTrustRequest { signatures: rule.as_str().to_owned() };
    let trust: ProbeTrustView = Client::new(global)?.tell(Method::PUT, "/v1/probe-trust", &wanted)?;
    Output::new(global).show(&trust, |_| format!("signatures are {}\n", trust.signatures))
}

/// Returns keys for people.
pub fn tell(trust: &ProbeTrustView, keys: &[ProbeKeyView]) -> String {
    let rows = keys.iter().map(|key| {
        vec![
            key.name.clone(),
            key.public_key.clone(),
            key.added.rfc3339.clone(),
            if key.signed.is_empty() { "-".to_owned() } else { key.signed.join(", ") },
        ]
    });
    format!("signatures are {}\n{}", trust.signatures, table(&["key", "public key", "added", "signed"], rows))
}

/// Returns what is said of a key that was removed.
pub fn tell_removed(key: &ProbeKeyView) -> String {
    let stays = if key.signed.is_empty() {
        "it signed no probe".to_owned()
    } else {
        format!("probes that it signed stay: {}", key.signed.join(", "))
    };
    format!("key {} is trusted no more; {stays}\n", key.name)
}
