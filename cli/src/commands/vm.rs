//! `vouch vm`.

use vouch_manager::api::view::{CheckedView, EventView, EvidenceView, ExplainView, VmView};

use super::{event, faults};
use crate::args::{Global, VmCommand};
use crate::client::{Client, escape};
use crate::exit::{CliError, Exit};
use crate::output::{Output, Paint, table};
use crate::tell;

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &VmCommand) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let out = Output::new(global);
    match command {
        VmCommand::Ls { state, node } => {
            let state = state.as_ref().map(|s| format!("&state={}", escape(s))).unwrap_or_default();
            let node = node.as_ref().map(|n| format!("&node={}", escape(n))).unwrap_or_default();
            let vms: Vec<VmView> = client.list(&format!("/v1/vms?consistency=default{state}{node}"))?;
            out.show(&vms, |paint| list(&vms, paint))
        }
        VmCommand::Show { vm } => {
            let view: VmView = client.get(&format!("/v1/vms/{}", escape(vm)))?;
            // What is recorded can be told even while the leader cannot be asked for its evidence.
            let evidence = match client.get::<EvidenceView>(&format!("/v1/vms/{}/evidence", view.id)) {
                Ok(evidence) => Some(evidence),
                Err(e) if e.exit == Exit::Unavailable => None,
                Err(e) => return Err(e),
            };
            let document = serde_json::json!({ "vm": view, "evidence": evidence });
            out.show(&document, |paint| tell::verdict(&view, evidence.as_ref(), paint))
        }
        VmCommand::Check { vm } => {
            let checked: CheckedView = client.post(&format!("/v1/vms/{}/check", escape(vm)), Vec::new())?;
            out.show(&checked, |paint| {
                let verdict = tell::verdict(&checked.vm, checked.evidence.as_ref(), paint);
                format!("{}\n{verdict}", tell::check(&checked.check, paint))
            })
        }
        VmCommand::History { vm } => {
            let events: Vec<EventView> = client.list(&format!("/v1/vms/{}/history", escape(vm)))?;
            out.show(&events, |_| events.iter().map(|e| event::line(e) + "\n").collect())
        }
        VmCommand::Evidence { vm } => {
            let evidence: EvidenceView = client.get(&format!("/v1/vms/{}/evidence", escape(vm)))?;
            out.show(&evidence, |paint| tell::evidence(&evidence, paint))
        }
        VmCommand::Explain { vm } => {
            let why: ExplainView = client.get(&format!("/v1/vms/{}/explain", escape(vm)))?;
            out.show(&why, |paint| tell::why::explain(&why, paint))
        }
        VmCommand::ForgetPins { vm } => {
            let view: VmView = client.delete(&format!("/v1/vms/{}/pins", escape(vm)))?;
            out.show(&view, |_| format!("{}: whom its probes find may be another from now on\n", view.name))
        }
    }
}

/// Returns VMs for people.
pub fn list(vms: &[VmView], paint: Paint) -> String {
    let rows = vms.iter().map(|vm| {
        vec![
            vm.name.clone(),
            paint.state(&vm.state),
            paint.state(&vm.source),
            faults(&vm.faults),
            vm.advice.action.clone(),
            vm.node.clone(),
            vm.since.rfc3339.clone(),
            vm.id.clone(),
        ]
    });
    table(&["vm", "state", "source", "broken", "advice", "node", "since", "id"], rows)
}
