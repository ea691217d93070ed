//! `vouch probe assign`: a probe for the VMs of a scope, beside those that their files name.

use hyper::Method;
use vouch_manager::api::view::{Page, ProbeView, ScopedProbeRequest, ScopedProbeView, VmView};
use vouch_types::{PolicyScope, ProbeName};

use super::{host, runtime, settings_text};
use crate::args::{Global, ProbeAssignArgs, ProbeScopeArgs};
use crate::client::{Client, escape};
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Assigns a probe to the VMs of a scope, or takes it from them.
///
/// One assignment is written whole, by one request. The managers judge settings by the schema of the probe; what a shipped
/// probe says to them itself is asked here as well, since its component is at hand.
///
/// # Errors
/// Flags or settings that are wrong, or what the managers said.
pub fn run(global: &Global, args: &ProbeAssignArgs) -> Result<(), CliError> {
    let (client, out) = (Client::new(global)?, Output::new(global));
    let scope = scope_of(&client, &args.scope)?;
    let network = args.network.as_str();
    let path = format!("/v1/probes/{}/assignments/{network}/{}", args.name, escape(&scope.to_string()));
    if args.remove {
        let was: ScopedProbeView = client.delete(&path)?;
        return out.show(&was, |_| format!("probe {} is assigned to {} no more\n", was.probe, was.scope));
    }
    let text = settings_text(&args.settings)?;
    let settings: serde_json::Value = serde_json::from_str(&text).map_err(|e| {
        CliError::text(Exit::Usage, format!("--settings {text}: must be a JSON object, and is not: {e}"))
    })?;
    let judged = judge(&client, &args.name, &text)?;
    let millis = |d: Option<std::time::Duration>| d.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let request = ScopedProbeRequest { settings, interval_ms: millis(args.interval), timeout_ms: millis(args.timeout) };
    let now: ScopedProbeView = client.tell(Method::PUT, &path, &request)?;
    out.show(&now, |_| tell(&now, judged))
}

/// Returns the scope that the flags name; a VM may be named by its name.
fn scope_of(client: &Client, args: &ProbeScopeArgs) -> Result<PolicyScope, CliError> {
    if let Some(vm) = &args.vm {
        let vm: VmView = client.get(&format!("/v1/vms/{}", escape(vm)))?;
        return Ok(PolicyScope::Vm(vm.id.parse()?));
    }
    let scope = match (&args.tag, &args.node) {
        (Some(tag), _) => format!("tag:{tag}"),
        (None, Some(node)) => format!("node:{node}"),
        (None, None) => "cluster".to_owned(),
    };
    let flag = if args.tag.is_some() { "--tag" } else { "--node" };
    let rule = if args.tag.is_some() { "must be KEY=VALUE" } else { "must be the name of a node" };
    scope.parse().map_err(|_| {
        let given = args.tag.as_deref().or(args.node.as_deref()).unwrap_or_default();
        CliError::text(Exit::Usage, format!("{flag} {given}: {rule}"))
    })
}

/// By what settings are judged before a watcher gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgedBy {
    /// The schema, and the component itself.
    Component,
    /// The schema that was recorded with the probe.
    Schema,
    /// Nothing is recorded that they could be compared with.
    Nothing,
}

/// Asks the component of a shipped probe whether it takes these settings.
fn judge(client: &Client, name: &ProbeName, settings: &str) -> Result<JudgedBy, CliError> {
    let probes: Page<ProbeView> = client.get("/v1/probes")?;
    let Some(known) = probes.items.into_iter().find(|probe| probe.name == name.as_str()) else {
        // The managers say so in their own words.
        return Ok(JudgedBy::Nothing);
    };
    let bundled = vouch_probe_bundle::by_name(name.as_str());
    let Some(bundled) = bundled.filter(|own| own.digest().to_string() == known.digest) else {
        let has_schema = known.description.is_some_and(|said| said.settings_schema.is_some());
        return Ok(if has_schema { JudgedBy::Schema } else { JudgedBy::Nothing });
    };
    let component = host()?.compile(bundled.bytes)?;
    let refused = |e| CliError::text(Exit::Usage, format!("--settings {settings}: probe {name} refuses them: {e}"));
    runtime()?.block_on(async { component.validate(settings).await }).map_err(refused)?;
    Ok(JudgedBy::Component)
}

/// Returns an assignment for people.
pub fn tell(now: &ScopedProbeView, judged: JudgedBy) -> String {
    let mut text = format!("probe {} is assigned to {}\n", now.probe, now.scope);
    let mut line = |name: &str, value: &str| text += &format!("  {name:<10}{value}\n");
    line("network", &now.network);
    line("settings", &now.settings.to_string());
    line(
        "judged",
        match judged {
            JudgedBy::Component => "by its schema and by its component",
            JudgedBy::Schema => "by its schema",
            JudgedBy::Nothing => "by nothing: it was recorded without a schema; watchers tell bad_settings",
        },
    );
    let often =
        |ms: Option<u64>| ms.map_or_else(|| "as policies say, else as it proposes".to_owned(), |ms| format!("{ms} ms"));
    line("interval", &often(now.interval_ms));
    line("timeout", &often(now.timeout_ms));
    line("vms", &vms(now));
    text
}

/// Returns of how many VMs an assignment is, in words.
fn vms(now: &ScopedProbeView) -> String {
    match now.vms - now.vms_running.min(now.vms) {
        0 => now.vms.to_string(),
        others => format!(
            "{} of {}: {others} have a closer one, or as many probes as a VM may have",
            now.vms_running, now.vms
        ),
    }
}
