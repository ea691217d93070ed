//! `vouch incident`.

use vouch_manager::api::view::{IncidentDetailView, IncidentView};

use super::event;
use crate::args::{Global, IncidentCommand};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::{Output, Paint, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &IncidentCommand) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let out = Output::new(global);
    match command {
        IncidentCommand::Ls { state } => {
            let all: Vec<IncidentView> = client.list(&format!("/v1/incidents?state={}", state.as_str()))?;
            out.show(&all, |paint| list(&all, paint))
        }
        IncidentCommand::Show { incident } => {
            let detail: IncidentDetailView = client.get(&format!("/v1/incidents/{incident}"))?;
            out.show(&detail, |paint| tell(&detail, paint))
        }
    }
}

/// Returns incidents for people.
pub fn list(incidents: &[IncidentView], paint: Paint) -> String {
    let rows = incidents.iter().map(|incident| {
        vec![
            incident.id.clone(),
            incident.scope.clone(),
            paint.broken(&causes(incident)),
            incident.vms_touched.to_string(),
            incident.nodes_touched.to_string(),
            incident.opened.rfc3339.clone(),
            incident.closed.as_ref().map(|closed| closed.rfc3339.clone()).unwrap_or_default(),
        ]
    });
    table(&["incident", "scope", "broken", "vms", "nodes", "opened", "closed"], rows)
}

/// Returns the causes in one cell: the likeliest alone when there is no other.
fn causes(incident: &IncidentView) -> String {
    match incident.fault.causes.as_slice() {
        [] | [_] => format!("{} {}", incident.fault.cause, incident.fault.detail).trim_end().to_owned(),
        many => many.iter().map(|c| format!("{} {} %", c.cause, c.score)).collect::<Vec<_>>().join(", "),
    }
}

/// Returns one incident for people.
pub fn tell(detail: &IncidentDetailView, paint: Paint) -> String {
    let incident = &detail.incident;
    let mut text = paint.bold(&format!("incident {}, {}", incident.id, incident.scope)) + "\n\n";
    let mut field = |name: &str, value: &str| text.push_str(&format!("  {name:<7} {value}\n"));
    field("broken", &paint.broken(&causes(incident)));
    field("reason", &incident.reason);
    field("opened", &incident.opened.rfc3339);
    field("closed", incident.closed.as_ref().map_or("not yet", |closed| &closed.rfc3339));
    let shown = incident.nodes.join(", ");
    let more = incident.nodes_touched.saturating_sub(incident.nodes.len() as u64);
    field("nodes", &if more > 0 { format!("{shown} and {more} more") } else { shown });
    field("vms", &incident.vms_touched.to_string());
    if !detail.vms.is_empty() {
        text.push('\n');
        let row = |vm: &vouch_manager::api::view::IncidentVmView| {
            vec![vm.name.clone(), paint.state(&vm.state), vm.node.clone(), vm.id.clone()]
        };
        text.push_str(&table(&["vm", "state", "node", "id"], detail.vms.iter().map(row)));
        if detail.vms_omitted > 0 {
            text.push_str(&format!("and {} more\n", detail.vms_omitted));
        }
    }
    text.push('\n');
    for told in &detail.events {
        text.push_str(&(event::line(told) + "\n"));
    }
    text
}
