//! `vouch join`: makes a key here, shows a join token to a manager of its cluster, and keeps the certificate.
//!
//! The key never leaves this machine, and the secret of the token is told only to a manager whose CA the token names.
//!
//! Key and signing request are on disk before anybody is asked, and go away only after the certificate is there or a
//! manager has refused while no other one may have let it in. So one that is killed midway, or gets no answer, may be
//! run again: the same request is the same use of the token.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use vouch_types::{Joiner, WallTime};
use vouch_wire::files::{Readers, put};
use vouch_wire::grpc::{DialOptions, join};
use vouch_wire::links::LinkError;
use vouch_wire::pki::{
    AdjustableTime, CaDigest, CertificateRequest, JoinToken, LiveIdentity, PeerIdentity, trusted_together,
};
use vouch_wire::proto::{JoinRequest, JoinResponse};

use crate::args::JoinArgs;
use crate::exit::{CliError, Exit};
use crate::private_file;

/// Runs the command.
///
/// # Errors
/// In one line, why there is no certificate. When a manager refused, nothing is left behind of this try; when none
/// answered, key and request stay for the next.
pub fn run(args: &JoinArgs) -> Result<(), CliError> {
    let token: JoinToken = args.token.parse().map_err(|e| CliError::new(Exit::Usage, anyhow::Error::new(e)))?;
    let rule =
        || CliError::text(Exit::Usage, format!("--name {:?}: must be an id of a {}", args.name, args.role.as_str()));
    let joiner = Joiner::parse(args.role.role(), &args.name).ok_or_else(rule)?;
    let name = joiner.name();
    fs::create_dir_all(&args.out).with_context(|| format!("{}: cannot be made", args.out.display()))?;
    let at = |ending: &str| args.out.join(format!("{name}.{ending}"));
    let (key_file, certificate_file) = (at("key"), at("pem"));
    let asking = Asking { key_file: key_file.clone(), request_file: at("csr") };
    let ca_file = args.out.join("ca.pem");
    if certificate_file.exists() {
        let why = format!("{}: is there already (existing files are never replaced)", certificate_file.display());
        return Err(CliError::text(Exit::Failed, why));
    }
    check_ca(&ca_file, &token)?;
    let (made, request) = asking.begin()?;
    let response = match ask(args, &token, &joiner, request.der()) {
        Ok(response) => response,
        Err(error) => return Err(asking.failed(made, error)),
    };
    // What cannot be used is not kept.
    let identity = request.complete(&response.certificate, &response.ca_certificate)?;
    let owner = identity.owner().clone();
    LiveIdentity::new(identity, Arc::new(AdjustableTime::at_least(WallTime::default())))?;
    keep_cas(&ca_file, &owner, &response.ca_certificate)?;
    private_file::write(&certificate_file, response.certificate.as_bytes())?;
    // The certificate is there: a request that stays does no harm.
    let _of_no_more_use = fs::remove_file(&asking.request_file);
    let made = [&certificate_file, &key_file, &ca_file].map(|file| file.display().to_string()).join(", ");
    Ok(std::io::Write::write_all(&mut std::io::stdout(), format!("{joiner} joined: {made}\n").as_bytes())?)
}

/// Whether key and request were there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begun {
    Now,
    ByAnEarlierTry,
}

/// What is on disk while a manager is asked.
struct Asking {
    key_file: PathBuf,
    request_file: PathBuf,
}

impl Asking {
    /// Makes key and request, or goes on with those of an earlier try that has no certificate yet.
    fn begin(&self) -> Result<(Begun, CertificateRequest), CliError> {
        if !self.key_file.exists() {
            let request = CertificateRequest::generate()?;
            private_file::write(&self.key_file, request.key_pem().as_bytes())?;
            private_file::write(&self.request_file, request.der())?;
            return Ok((Begun::Now, request));
        }
        let read = |path: &Path| fs::read(path).with_context(|| format!("{}: cannot be read", path.display()));
        let key = String::from_utf8_lossy(&read(&self.key_file)?).into_owned();
        let request = if self.request_file.exists() {
            CertificateRequest::begun(&key, read(&self.request_file)?)
        } else {
            // Nobody was asked yet.
            CertificateRequest::of_key_pem(&key)
        };
        let (key_file, request_file) = (self.key_file.display(), self.request_file.display());
        let request = request.with_context(|| {
            format!("{key_file}: cannot be gone on with: remove it and {request_file}, and join anew")
        })?;
        private_file::write(&self.request_file, request.der())?;
        eprint(&format!("{key_file}: going on with the key of an earlier try\n"))?;
        Ok((Begun::ByAnEarlierTry, request))
    }

    /// Leaves on disk what the next try needs, and says so.
    fn failed(&self, begun: Begun, error: CliError) -> CliError {
        let (key, request) = (self.key_file.display(), self.request_file.display());
        match (error.exit, begun) {
            (Exit::Unavailable, Begun::Now | Begun::ByAnEarlierTry) => {
                error.with_more(&format!("{key} and {request} are kept: run the same command again to go on"))
            }
            (_, Begun::ByAnEarlierTry) => error.with_more(&format!(
                "{key} and {request} of an earlier try are kept: go on with the token of then, or remove them"
            )),
            (_, Begun::Now) => {
                // They would only stand in the way of the next try.
                for file in [&self.request_file, &self.key_file] {
                    let _gone_or_told_by_the_next_try = fs::remove_file(file);
                }
                error
            }
        }
    }
}

fn eprint(line: &str) -> Result<(), CliError> {
    Ok(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes())?)
}

/// A CA that is there must be the one of the token.
fn check_ca(ca_file: &Path, token: &JoinToken) -> Result<(), CliError> {
    if !ca_file.exists() {
        return Ok(());
    }
    let pem = fs::read_to_string(ca_file).with_context(|| format!("{}: cannot be read", ca_file.display()))?;
    let found = CaDigest::all_of_pem(&pem)?;
    if found.contains(&token.ca) {
        return Ok(());
    }
    let found = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let why = format!("{}: is of another CA ({found}) than the token ({})", ca_file.display(), token.ca);
    Err(CliError::text(Exit::Failed, why))
}

/// Keeps the CAs that the managers trust, beside those that are there already: parts on one machine may share the file,
/// and while one CA takes another's place the certificate may be of either.
fn keep_cas(ca_file: &Path, owner: &PeerIdentity, told: &str) -> Result<(), CliError> {
    let mut roots = told.to_owned();
    if ca_file.exists() {
        let there = fs::read_to_string(ca_file).with_context(|| format!("{}: cannot be read", ca_file.display()))?;
        let known = CaDigest::all_of_pem(&there)?;
        if CaDigest::all_of_pem(told)?.iter().all(|ca| known.contains(ca)) {
            return Ok(());
        }
        roots = trusted_together(told, &there)?;
    }
    // As a renewal puts them in place: with the mode that the file has.
    Ok(put(ca_file, &format!(".{owner}.new"), Readers::AsBefore, roots.as_bytes())?)
}

/// Asks the managers, until one lets it in or refuses.
fn ask(args: &JoinArgs, token: &JoinToken, joiner: &Joiner, request: &[u8]) -> Result<JoinResponse, CliError> {
    let message = JoinRequest {
        secret: token.secret.to_vec(),
        role: args.role.as_str().to_owned(),
        name: joiner.name(),
        csr: request.to_vec(),
        incarnation: 0,
    };
    let clock = Arc::new(AdjustableTime::at_least(WallTime::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    ask_each(&args.manager, |address| {
        runtime.block_on(join(token.ca, clock.clone(), DialOptions::default(), address, message.clone()))
    })
}

/// Asks the managers one after the other. A refusal is the end of it, and the last word only if none asked before may
/// have let it in without our hearing of it.
fn ask_each(
    managers: &[String],
    mut ask: impl FnMut(SocketAddr) -> Result<JoinResponse, LinkError>,
) -> Result<JoinResponse, CliError> {
    let (mut silent, mut open) = (None, None);
    for manager in managers {
        for address in addresses(manager).map_err(|error| last_word(error, open.as_ref()))? {
            match ask(address) {
                Ok(response) => return Ok(response),
                Err(LinkError::Refused(why) | LinkError::Removed(why)) => {
                    return Err(last_word(CliError::text(Exit::Denied, why), open.as_ref()));
                }
                // Nobody there has heard of it.
                Err(error @ LinkError::NotListening { .. }) => silent = Some(error),
                // The next one is sent the same request: should this one have been applied, it is the same use.
                Err(
                    error @ (LinkError::Unreachable { .. }
                    | LinkError::Reset(_)
                    | LinkError::Timeout(_)
                    | LinkError::Malformed(_)),
                ) => open = Some(error),
            }
        }
    }
    let why = open.or(silent).map_or_else(|| "--manager: no address".to_owned(), |error| error.to_string());
    Err(CliError::text(Exit::Unavailable, why))
}

/// Returns what a try ends with: while it is open what came of an earlier question, nothing is the last word.
fn last_word(error: CliError, open: Option<&LinkError>) -> CliError {
    match open {
        None => error,
        Some(open) => {
            let why = format!("{:#}; another manager may have let it in before: {open}", error.error);
            CliError::text(Exit::Unavailable, why)
        }
    }
}

fn addresses(manager: &str) -> Result<Vec<SocketAddr>, CliError> {
    use std::net::ToSocketAddrs;
    let found = manager.to_socket_addrs().with_context(|| format!("--manager {manager:?}: must be HOST:PORT"));
    found.map(Iterator::collect).map_err(|e| CliError::new(Exit::Usage, e))
}

#[cfg(test)]
mod tests;
