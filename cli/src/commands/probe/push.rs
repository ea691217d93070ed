//! `vouch probe push`: a component and what it is granted.

use std::path::Path;

use vouch_manager::api::ProblemKind;
use vouch_manager::api::view::{Page, ProbeDescriptionRequest, ProbeView};
use vouch_probe_kit::Described;
use vouch_types::{Digest, ProbeGrant, ProbeImports, ProbeName};
use vouch_wire::probe_signature::SignedProbe;

use super::grant::{self, Wanted};
use super::rollout;
use super::run::open;
use super::runtime;
use super::sign::{self, SignatureReport};
use crate::args::{Global, ProbePushArgs};
use crate::client::{Client, escape};
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Uploads a component under the name and version that it gives itself.
///
/// A manager has no runtime: what the component says of itself is asked here, in the host of the watchers, and what it
/// describes is compared with the grant here; its imports the manager compares as well.
///
/// # Errors
/// A component that breaks a rule or wants what it is not granted, or what the managers said.
pub fn run(global: &Global, args: &ProbePushArgs) -> Result<(), CliError> {
    let granted = grant::read(&args.grant)?;
    let opened = open(&args.file)?;
    let report = runtime()?.block_on(vouch_probe_kit::check(&opened, None));
    if !report.broken.is_empty() {
        let rules: Vec<String> = report.broken.iter().map(|rule| format!("{}: {}", rule.about, rule.text)).collect();
        let text = format!("component {}: breaks rules of the contract: {}", args.file.display(), rules.join("; "));
        return Err(CliError::text(Exit::Failed, text));
    }
    let described = report.described.as_ref().expect("a component that does not describe itself breaks a rule");
    said_the_same("--name", args.name.as_deref(), &described.name)?;
    said_the_same("--probe-version", args.version.as_deref(), &described.version)?;
    let signature = signature(args, opened.digest, &described.name, &described.version)?;
    let wanted = Wanted::of(&report);
    if let Some(granted) = &granted {
        compare(&args.file, &wanted, granted, args.narrow)?;
    }
    let client = Client::new(global)?;
    if granted.is_none()
        && let Some(before) = grant_of(&client, &described.name)?
    {
        compare(&args.file, &wanted, &before, args.narrow)?;
    }
    let mut path = format!("/v1/probes?name={}&version={}", escape(&described.name), escape(&described.version));
    if let Some(granted) = &granted {
        let [interfaces, networks, ports] = granted.words().map(|list| escape(&list.join(",")));
        path += &format!("&interfaces={interfaces}&networks={networks}&ports={ports}");
    }
    if let Some(signature) = &signature {
        path += &format!("&signature={signature}");
    }
    if args.rollout {
        path += "&rollout=true";
        path += &args.runs.map(|runs| format!("&runs={runs}")).unwrap_or_default();
        path += &args.lasts.map(|lasts| format!("&lasts_ms={}", lasts.as_millis())).unwrap_or_default();
    }
    let description = serde_json::to_vec(&description(described))?;
    let parts = [("description", description.as_slice()), ("component", opened.bytes.as_slice())];
    // One to which nothing is granted is sent as well: that it was refused is for the cluster to take down.
    let probe: ProbeView = client.post_form(&path, &parts).map_err(|error| {
        if error.is(ProblemKind::GrantRequired) {
            return CliError::text(Exit::Usage, nothing_granted(&args.file, &report.imports, &wanted));
        }
        error
    })?;
    Output::new(global).show(&probe, |_| if args.rollout { rollout::tell(&probe) } else { tell(&probe) })
}

/// Returns what a component says of itself, as the managers record it.
fn description(said: &Described) -> ProbeDescriptionRequest {
    ProbeDescriptionRequest {
        summary: said.summary.clone(),
        settings_schema: said.settings_schema.as_ref().and_then(|schema| serde_json::from_str(schema).ok()),
        networks: said.networks.iter().map(ToString::to_string).collect(),
        ports: said.ports.clone(),
        interval_ms: said.interval_ms,
        timeout_ms: said.timeout_ms,
    }
}

/// Returns the signature that is sent along: one that does not fit is not sent at all.
fn signature(args: &ProbePushArgs, digest: Digest, name: &str, version: &str) -> Result<Option<String>, CliError> {
    let name = ProbeName::new(name).map_err(|e| CliError::new(Exit::Failed, e))?;
    let compared = sign::compare(&args.file, args.signature.as_deref(), &SignedProbe { digest, name: &name, version })?;
    match compared {
        None => Ok(None),
        Some((SignatureReport { file, misfit: Some(why), .. }, _)) => {
            Err(CliError::text(Exit::Failed, format!("signature {file}: does not fit the component: {why}")))
        }
        Some((_, read)) => Ok(read.map(|read| read.signature)),
    }
}

/// Returns the grant that an uploaded probe of this name has: a push without another one keeps it.
fn grant_of(client: &Client, name: &str) -> Result<Option<ProbeGrant>, CliError> {
    let probes: Page<ProbeView> = client.get("/v1/probes")?;
    let granted = probes.items.into_iter().find(|probe| probe.name == name && !probe.shipped);
    let granted = granted.and_then(|probe| probe.grant);
    Ok(granted.and_then(|g| ProbeGrant::parse(&g.interfaces, &g.networks, &g.ports).ok()))
}

/// Refuses a grant that leaves out what the component wants.
fn compare(file: &Path, wanted: &Wanted, granted: &ProbeGrant, narrow: bool) -> Result<(), CliError> {
    let (lines, lacks_import) = wanted.beyond(granted);
    if lines.is_empty() || (narrow && !lacks_import) {
        return Ok(());
    }
    let mut text = format!("component {}: wants what it is not granted\n  {}", file.display(), lines.join("\n  "));
    text += &format!("\nto grant all of it: vouch probe push {}{}", file.display(), wanted.flags());
    if !lacks_import {
        text += "\nto grant it no more than that: add --narrow; runs that need more are unknown, not_granted";
    }
    Err(CliError::text(Exit::Failed, text))
}

/// Returns what is said of a new probe that is pushed without a grant.
pub fn nothing_granted(file: &Path, imports: &[String], wanted: &Wanted) -> String {
    let list = |items: Vec<String>, none: &str| if items.is_empty() { none.to_owned() } else { items.join(", ") };
    let own = |import: &&String| import.starts_with("vouch:") || import.starts_with("wasi:sockets/");
    let imports: Vec<String> = imports.iter().filter(own).cloned().collect();
    let networks = wanted.networks.iter().map(ToString::to_string).collect();
    let ports = wanted.ports.iter().map(ToString::to_string).collect();
    let file = file.display();
    format!(
        "component {file}: nothing is granted to it yet, and so it is not taken\n  it imports: {}\n  it describes: \
         networks {}; ports {}\nto grant that, ports as the settings of each VM say: vouch probe push {file}{}\nnarrower: \
         --port 8443 instead of settings, and --network once with --narrow",
        list(imports, "nothing that reaches anything"),
        list(networks, "none"),
        list(ports, "those of its settings"),
        wanted.flags()
    )
}

/// Returns a recorded probe for people.
pub fn tell(probe: &ProbeView) -> String {
    let imports: String = probe.imports.iter().map(|i| format!("  {i}\n")).collect();
    let mut text = format!(
        "probe {} {} recorded, sha256 {}\nit imports:\n{imports}it is granted: {}\n",
        probe.name,
        probe.version,
        probe.digest,
        grant::words(probe)
    );
    let needs = ProbeImports { interfaces: probe.imports.clone() }.needs();
    let granted = probe.grant.as_ref().map(|grant| grant.interfaces.clone()).unwrap_or_default();
    let surplus: Vec<String> =
        granted.into_iter().filter(|word| needs.iter().all(|need| need.as_str() != word)).collect();
    if let Some(signer) = &probe.signer {
        text += &format!("it is signed by: {}\n", signer.key);
    }
    if !surplus.is_empty() {
        text += &format!("granted and not imported: {}\n", surplus.join(", "));
    }
    text
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
