//! `vouch probe`: what the cluster has, and the kit of authors, whose commands ask no cluster.

mod bench;
mod check;
mod project;
mod run;
pub mod show;

use std::path::Path;

use anyhow::Context;
use vouch_manager::api::view::{Page, ProbeView};
use vouch_probe_host::{HostLimits, ProbeHost};

use super::short;
use crate::args::{Global, PROBE_RUNS_MAX, ProbeCommand};
use crate::client::{Client, escape};
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
        ProbeCommand::Push { file, name, version } => push(global, file, name.as_deref(), version.as_deref()),
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

/// Uploads a component under the name and version that it gives itself.
///
/// A manager has no runtime: what the component says of itself is asked here, in the host of the watchers.
fn push(global: &Global, file: &Path, name: Option<&str>, version: Option<&str>) -> Result<(), CliError> {
    let opened = run::open(file)?;
    let report = runtime()?.block_on(vouch_probe_kit::check(&opened, None));
    if !report.broken.is_empty() {
        let rules: Vec<String> = report.broken.iter().map(|rule| format!("{}: {}", rule.about, rule.text)).collect();
        let text = format!("component {}: breaks rules of the contract: {}", file.display(), rules.join("; "));
        return Err(CliError::text(Exit::Failed, text));
    }
    let described = report.described.expect("a component that does not describe itself breaks a rule");
    said_the_same("--name", name, &described.name)?;
    said_the_same("--probe-version", version, &described.version)?;
    let path = format!("/v1/probes?name={}&version={}", escape(&described.name), escape(&described.version));
    let probe: ProbeView = Client::new(global)?.post(&path, opened.bytes)?;
    Output::new(global).show(&probe, |_| {
        let imports: String = probe.imports.iter().map(|i| format!("  {i}\n")).collect();
        format!("probe {} {} recorded, sha256 {}\nit imports:\n{imports}", probe.name, probe.version, probe.digest)
    })
}

/// Refuses a flag that says something else than the component.
fn said_the_same(flag: &str, given: Option<&str>, described: &str) -> Result<(), CliError> {
    match given {
        Some(given) if given != described => {
            let text = format!("{flag} {given}: the component says that it is {described}");
            Err(CliError::text(Exit::Usage, text))
        }
        Some(_) | None => Ok(()),
    }
}

/// Returns probes for people.
pub fn tell(probes: &[ProbeView]) -> String {
    // What every guest of a language with a standard library names says nothing; what it can reach does.
    let telling = |import: &&String| {
        import.starts_with("vouch:") || import.starts_with("wasi:sockets/tcp") || import.starts_with("wasi:sockets/udp")
    };
    let rows = probes.iter().map(|p| {
        let reach: Vec<String> = p
            .imports
            .iter()
            .filter(telling)
            .filter(|i| !i.contains("/types@") && !i.contains("-create-"))
            .map(|i| i.split('@').next().unwrap_or(i).to_owned())
            .collect();
        let origin = if p.shipped { "shipped" } else { "uploaded" };
        vec![
            p.name.clone(),
            p.version.clone(),
            origin.to_owned(),
            p.size.to_string(),
            short(&p.digest),
            reach.join(", "),
        ]
    });
    table(&["probe", "version", "origin", "bytes", "sha256", "may use"], rows)
}
