//! `vouch node ls`, `vouch node fence-proof` and `vouch node rm`.

use hyper::Method;
use vouch_manager::api::view::{FenceProofRequest, NodeRemovedView, NodeView};

use super::faults;
use crate::args::{FenceProofArgs, Global, NodeCommand};
use crate::client::{Client, escape};
use crate::exit::CliError;
use crate::output::{Output, Paint, age, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &NodeCommand) -> Result<(), CliError> {
    match command {
        NodeCommand::Ls => {
            let nodes: Vec<NodeView> = Client::new(global)?.list("/v1/nodes")?;
            Output::new(global).show(&nodes, |paint| tell(&nodes, paint))
        }
        NodeCommand::FenceProof(args) => fence_proof(global, args),
        NodeCommand::Rm { node, forget_vms } => {
            let vms = if *forget_vms { "?vms=forget" } else { "" };
            let path = format!("/v1/nodes/{}{vms}", escape(node));
            let removed: NodeRemovedView = Client::new(global)?.delete(&path)?;
            Output::new(global).show(&removed, |_| tell_removed(&removed))
        }
    }
}

fn fence_proof(global: &Global, args: &FenceProofArgs) -> Result<(), CliError> {
    let client = Client::new(global)?;
    let path = format!("/v1/nodes/{}/fence-proof", args.node);
    let node: NodeView = match args.kind {
        Some(kind) if !args.withdraw => {
            let boot = args.boot.map(|boot| boot.to_string());
            let request = FenceProofRequest { kind: kind.as_str().to_owned(), boot, note: args.note.clone() };
            client.tell(Method::POST, &path, &request)?
        }
        Some(_) | None => client.delete(&path)?,
    };
    Output::new(global).show(&node, |_| proof(&node))
}

/// Returns what proves that a node does not run, for people.
pub fn proof(node: &NodeView) -> String {
    match &node.fence {
        Some(proof) => format!(
            "node {} does not run: {} of boot {}, at log index {}; any sign of life withdraws it\n",
            node.id, proof.kind, proof.boot, proof.index
        ),
        None => format!("nothing proves that node {} does not run\n", node.id),
    }
}

/// Returns what is said of a node that was removed.
pub fn tell_removed(removed: &NodeRemovedView) -> String {
    let NodeRemovedView { id, vms, watchers, forgotten, named, .. } = removed;
    let mut text = format!(
        "node {id} was removed, with {vms} vms and {watchers} watchers; its certificate is worth nothing now, and a join \
         token lets it in again\n"
    );
    if *forgotten > 0 {
        let names: Vec<String> = named.iter().map(|vm| format!("{} ({})", vm.name, vm.state)).collect();
        let others = forgotten.saturating_sub(named.len() as u64);
        let more = if others == 0 { String::new() } else { format!(" and {others} more") };
        text.push_str(&format!(
            "{forgotten} of the vms may still run there: {}{more}\nnothing proves that they do not: whoever starts one \
             elsewhere answers for it\n",
            names.join(", ")
        ));
    }
    text
}

/// Returns nodes for people.
pub fn tell(nodes: &[NodeView], paint: Paint) -> String {
    let rows = nodes.iter().map(|n| {
        let vms: Vec<String> = n.vms.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let heard: Vec<String> = n
            .heard
            .iter()
            .filter(|h| h.stream == "open")
            .map(|h| h.age_ms.map_or_else(|| h.manager.clone(), |ms| format!("{} {} ago", h.manager, age(ms))))
            .collect();
        vec![
            n.id.clone(),
            n.rack.clone().unwrap_or_default(),
            n.driver.clone(),
            paint.state(&n.source),
            n.since.rfc3339.clone(),
            faults(&n.faults),
            n.fence.as_ref().map(|proof| proof.kind.clone()).unwrap_or_default(),
            vms.join(", "),
            n.watchers.join(", "),
            heard.join(", "),
        ]
    });
    table(&["node", "rack", "driver", "source", "since", "broken", "proof", "vms", "watchers", "heard by"], rows)
}
