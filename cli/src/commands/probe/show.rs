//! `vouch probe show`: all that the cluster has of a probe.

use serde::Serialize;
use vouch_manager::api::view::{Page, ProbeView, ScopedProbeView, VmView};
use vouch_probe_kit::{Described, settings_of_schema};
use vouch_types::{Network, ProbeName};

use super::check::tell_described;
use super::{grant, host, rollout, runtime};
use crate::args::Global;
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output::Output;

/// Tells of a probe of the cluster.
///
/// # Errors
/// What the managers said, or that there is no probe of this name.
pub fn run(global: &Global, name: &ProbeName) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let mut probes = client.get::<Page<ProbeView>>("/v1/probes")?.items;
    probes.retain(|probe| probe.name == name.as_str());
    if probes.is_empty() {
        let text = format!("probe {name}: is not recorded; \"vouch probe ls\" lists those that are");
        return Err(CliError::text(Exit::NotFound, text));
    }
    let vms: Vec<VmView> = client.list("/v1/vms?consistency=default")?;
    let scopes: Page<ScopedProbeView> = client.get(&format!("/v1/probes/{name}/assignments"))?;
    let of = |vm: &VmView| -> Vec<AssignedVm> {
        let its = vm.probes.iter().filter(|p| p.probe == name.as_str()).cloned();
        its.map(|p| AssignedVm { vm: vm.name.clone(), network: p.network, settings: p.settings, scope: p.scope })
            .collect()
    };
    let assigned: Vec<AssignedVm> = vms.iter().flat_map(of).collect();
    let described = probes.iter().find_map(described);
    let shown = Shown { probes: &probes, described: described.as_ref(), assigned: &assigned, scopes: &scopes.items };
    Output::new(global).show(&shown, |_| tell(&shown))
}

/// A VM that a probe is run against.
#[derive(Serialize)]
pub struct AssignedVm {
    /// Its name.
    pub vm: String,
    /// Over which network.
    pub network: String,
    /// With which settings.
    pub settings: String,
    /// The scope that it is assigned to; absent: the VM's own file names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// All that the cluster has of the probes of one name.
#[derive(Serialize)]
pub struct Shown<'a> {
    /// The probes.
    pub probes: &'a [ProbeView],
    /// What it says of itself.
    pub described: Option<&'a Described>,
    /// VMs that it is run against.
    pub assigned: &'a [AssignedVm],
    /// Scopes that it is assigned to.
    pub scopes: &'a [ScopedProbeView],
}

/// Returns what a probe says of itself: an uploaded one as it was recorded with it, a shipped one by its component.
fn described(probe: &ProbeView) -> Option<Described> {
    if let Some(said) = &probe.description {
        let schema = said.settings_schema.as_ref().map(ToString::to_string);
        return Some(Described {
            name: probe.name.clone(),
            version: probe.version.clone(),
            summary: said.summary.clone(),
            ports: said.ports.clone(),
            networks: said.networks.iter().filter_map(|word| word.parse().ok()).map(Network::as_str).collect(),
            interval_ms: said.interval_ms,
            timeout_ms: said.timeout_ms,
            settings: schema.as_deref().and_then(|schema| settings_of_schema(schema).ok()).unwrap_or_default(),
            settings_schema: schema,
            about: Vec::new(),
        });
    }
    let bundled = vouch_probe_bundle::by_name(&probe.name).filter(|own| own.digest().to_string() == probe.digest)?;
    let component = host().ok()?.compile(bundled.bytes).ok()?;
    runtime().ok()?.block_on(async { component.describe().await.ok().map(Described::of) })
}

/// Returns probes of one name for people, with scope or VM, network and settings of each assignment.
pub fn tell(shown: &Shown<'_>) -> String {
    let Shown { probes, described, assigned, scopes } = shown;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<10}{value}\n");
    for probe in *probes {
        line("probe", &format!("{} {}", probe.name, probe.version));
        line("origin", if probe.shipped { "shipped" } else { "uploaded" });
        line("size", &format!("{} bytes", probe.size));
        line("sha256", &probe.digest);
        for (i, import) in probe.imports.iter().enumerate() {
            line(if i == 0 { "imports" } else { "" }, import);
        }
        line("granted", &grant::words(probe));
        if let Some(signer) = &probe.signer {
            line("signed", &format!("by {}, {}", signer.key, signer.public_key));
        }
    }
    for probe in probes.iter().filter(|probe| probe.rollout.is_some()) {
        text += &rollout::tell(probe);
    }
    let mut line = |name: &str, value: &str| text += &format!("{name:<10}{value}\n");
    if let Some(described) = described {
        tell_described(described, &mut line);
    }
    if assigned.is_empty() {
        line("assigned", "to no VM");
    }
    for scoped in *scopes {
        let ScopedProbeView { scope, network, settings, by, vms, vms_running, .. } = scoped;
        line("scope", &format!("{scope}  {network}  {settings}  {vms_running} of {vms} vms, by the {by}"));
    }
    for AssignedVm { vm, network, settings, scope } in *assigned {
        let from = scope.as_ref().map(|scope| format!("  by {scope}")).unwrap_or_default();
        line("assigned", &format!("{vm}  {network}  {settings}{from}"));
    }
    text
}
