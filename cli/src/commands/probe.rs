//! `vouch probe`: what the cluster has, and the kit of authors, whose commands ask no cluster.

pub mod assign;
mod bench;
mod check;
mod grant;
pub mod key;
mod project;
pub mod push;
pub mod rollout;
mod run;
pub mod show;
pub mod sign;

use anyhow::Context;
use vouch_manager::api::view::{Page, ProbeView};
use vouch_probe_host::{HostLimits, ProbeHost};

use super::short;
use crate::args::{Global, PROBE_RUNS_MAX, ProbeCommand};
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output::{Output, table};

/// Runs a command of this group; returns the exit code, which for a run is what the probe found.
///
/// # Errors
/// What the managers said, or a file that cannot be read.
pub fn run(global: &Global, command: &ProbeCommand) -> Result<Exit, CliError> {
    let done = match command {
        ProbeCommand::Run(args) => return run::run(global, args),
        ProbeCommand::Ls => {
            let page: Page<ProbeView> = Client::new(global)?.get("/v1/probes")?;
            Output::new(global).show(&page.items, |_| tell(&page.items))
        }
        ProbeCommand::Push(args) => push::run(global, args),
        ProbeCommand::Grant { name, grant } => grant::run(global, name, grant),
        ProbeCommand::Assign(args) => assign::run(global, args),
        ProbeCommand::Rollout { name, end } => rollout::run(global, name, end),
        ProbeCommand::Keygen { file } => sign::keygen(global, file),
        ProbeCommand::Sign { file, key } => sign::sign(global, file, key),
        ProbeCommand::Key(command) => key::run(global, command),
        ProbeCommand::RequireSignature { switch } => key::require(global, *switch),
        ProbeCommand::Check(args) => check::run(global, args),
        ProbeCommand::Bench(args) => bench::run(global, args),
        ProbeCommand::Show { name } => show::run(global, name),
        ProbeCommand::New { name, language, kit } => project::new(global, name, *language, kit.as_deref()),
        ProbeCommand::Build { dir } => project::build(global, dir),
    };
    done.map(|()| Exit::Ok)
}

/// Returns a host for one command: few runs at a time, so that it is made at once.
fn host() -> Result<ProbeHost, CliError> {
    Ok(ProbeHost::new(HostLimits { concurrency: PROBE_RUNS_MAX, ..HostLimits::default() })?)
}

/// Returns the runtime of one command.
fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Returns the text of `--settings`: as it is, or that of the file that `@` names.
fn settings_text(given: &str) -> Result<String, CliError> {
    match given.strip_prefix('@') {
        None => Ok(given.to_owned()),
        Some(path) => Ok(std::fs::read_to_string(path)
            .with_context(|| format!("--settings {given}: cannot be read"))
            .map_err(|e| CliError::new(Exit::Usage, e))?),
    }
}

/// Returns probes for people.
pub fn tell(probes: &[ProbeView]) -> String {
    let rows = probes.iter().map(|p| {
        let origin = if p.shipped { "shipped" } else { "uploaded" };
        vec![
            p.name.clone(),
            p.version.clone(),
            origin.to_owned(),
            p.size.to_string(),
            short(&p.digest),
            grant::words(p),
        ]
    });
    table(&["probe", "version", "origin", "bytes", "sha256", "granted"], rows)
}
