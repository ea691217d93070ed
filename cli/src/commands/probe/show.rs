//! `vouch probe show`: all that the cluster has of a probe.

use vouch_manager::api::view::{Page, ProbeView, VmView};
use vouch_probe_kit::Described;
use vouch_types::ProbeName;

use super::check::tell_described;
use super::{grant, host, runtime};
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
    let of = |vm: &VmView| -> Vec<(String, String, String)> {
        let its = vm.probes.iter().filter(|p| p.probe == name.as_str());
        its.map(|p| (vm.name.clone(), p.network.clone(), p.settings.clone())).collect()
    };
    let assigned: Vec<(String, String, String)> = vms.iter().flat_map(of).collect();
    let lines: Vec<serde_json::Value> = assigned
        .iter()
        .map(|(vm, network, settings)| serde_json::json!({"vm": vm, "network": network, "settings": settings}))
        .collect();
    let described = probes.iter().find_map(described);
    let document = serde_json::json!({ "probes": probes, "described": described, "assigned": lines });
    Output::new(global).show(&document, |_| {
        let assigned: Vec<_> = assigned.iter().map(|(v, n, s)| (v.as_str(), n.as_str(), s.as_str())).collect();
        tell(&probes, described.as_ref(), &assigned)
    })
}

/// Returns what a shipped probe says of itself. The managers do not keep that, and the component of an uploaded one is its
/// author's: `vouch probe check` tells it.
fn described(probe: &ProbeView) -> Option<Described> {
    let bundled = vouch_probe_bundle::by_name(&probe.name).filter(|own| own.digest().to_string() == probe.digest)?;
    let component = host().ok()?.compile(bundled.bytes).ok()?;
    runtime().ok()?.block_on(async { component.describe().await.ok().map(Described::of) })
}

/// Returns probes of one name for people, with VM, network and settings of each assignment.
pub fn tell(probes: &[ProbeView], described: Option<&Described>, assigned: &[(&str, &str, &str)]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<10}{value}\n");
    for probe in probes {
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
    if let Some(described) = described {
        tell_described(described, &mut line);
    }
    if assigned.is_empty() {
        line("assigned", "to no VM");
    }
    for (vm, network, settings) in assigned {
        line("assigned", &format!("{vm}  {network}  {settings}"));
    }
    text
}
