//! `vouch join`: makes a key here, shows a join token to a manager of its cluster, and keeps the certificate.
//!
//! The key never leaves this machine, and the secret of the token is told only to a manager whose CA the token names.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use vouch_types::{Joiner, WallTime};
use vouch_wire::grpc::{DialOptions, join};
use vouch_wire::links::LinkError;
use vouch_wire::pki::{AdjustableTime, CaDigest, CertificateRequest, JoinToken};
use vouch_wire::proto::{JoinRequest, JoinResponse};

use super::pki::write_private;
use crate::args::JoinArgs;
use crate::exit::{CliError, Exit};

/// Runs the command.
///
/// # Errors
/// In one line, why there is no certificate; nothing is left behind then.
pub fn run(args: &JoinArgs) -> Result<(), CliError> {
    let token: JoinToken = args.token.parse().map_err(|e| CliError::new(Exit::Usage, anyhow::Error::new(e)))?;
    let rule =
        || CliError::text(Exit::Usage, format!("--name {:?}: must be an id of a {}", args.name, args.role.as_str()));
    let joiner = Joiner::parse(args.role.role(), &args.name).ok_or_else(rule)?;
    let name = joiner.name();
    fs::create_dir_all(&args.out).with_context(|| format!("{}: cannot be made", args.out.display()))?;
    let (key_file, certificate_file) = (args.out.join(format!("{name}.key")), args.out.join(format!("{name}.pem")));
    let ca_file = args.out.join("ca.pem");
    if certificate_file.exists() {
        let why = format!("{}: is there already (existing files are never replaced)", certificate_file.display());
        return Err(CliError::text(Exit::Failed, why));
    }
    check_ca(&ca_file, &token)?;
    let request = CertificateRequest::generate()?;
    write_private(&key_file, &request.key_pem())?;
    let response = ask(args, &token, &joiner, &request).and_then(|response| {
        // What cannot be used is not kept.
        request.complete(&response.certificate, &response.ca_certificate)?;
        Ok(response)
    });
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            // A key without a certificate would only stand in the way of the next try.
            let _gone_or_told_by_the_next_try = fs::remove_file(&key_file);
            return Err(error);
        }
    };
    if !ca_file.exists() {
        write_private(&ca_file, &response.ca_certificate)?;
    }
    write_private(&certificate_file, &response.certificate)?;
    let made = [&certificate_file, &key_file, &ca_file].map(|file| file.display().to_string()).join(", ");
    Ok(std::io::Write::write_all(&mut std::io::stdout(), format!("{joiner} joined: {made}\n").as_bytes())?)
}

/// A CA that is there must be the one of the token.
fn check_ca(ca_file: &Path, token: &JoinToken) -> Result<(), CliError> {
    if !ca_file.exists() {
        return Ok(());
    }
    let pem = fs::read_to_string(ca_file).with_context(|| format!("{}: cannot be read", ca_file.display()))?;
    let found = CaDigest::of_pem(&pem)?;
    if found == token.ca {
        return Ok(());
    }
    let why = format!("{}: is of another CA ({found}) than the token ({})", ca_file.display(), token.ca);
    Err(CliError::text(Exit::Failed, why))
}

/// Asks the managers one after the other, until one lets it in or refuses.
fn ask(
    args: &JoinArgs,
    token: &JoinToken,
    joiner: &Joiner,
    request: &CertificateRequest,
) -> Result<JoinResponse, CliError> {
    let message = JoinRequest {
        secret: token.secret.to_vec(),
        role: args.role.as_str().to_owned(),
        name: joiner.name(),
        csr: request.der().to_vec(),
        incarnation: 0,
    };
    let clock = Arc::new(AdjustableTime::at_least(WallTime::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut last = None;
    for manager in &args.manager {
        for address in addresses(manager)? {
            let asked = join(token.ca, clock.clone(), DialOptions::default(), address, message.clone());
            match runtime.block_on(asked) {
                Ok(response) => return Ok(response),
                Err(LinkError::Refused(why)) => return Err(CliError::text(Exit::Denied, why)),
                // The next one is sent the same request: should this one have been applied, it is the same use.
                Err(error) => last = Some(error),
            }
        }
    }
    let why = last.map_or_else(|| "--manager: no address".to_owned(), |error| error.to_string());
    Err(CliError::text(Exit::Unavailable, why))
}

fn addresses(manager: &str) -> Result<Vec<SocketAddr>, CliError> {
    use std::net::ToSocketAddrs;
    let found = manager.to_socket_addrs().with_context(|| format!("--manager {manager:?}: must be HOST:PORT"));
    found.map(Iterator::collect).map_err(|e| CliError::new(Exit::Usage, e))
}
