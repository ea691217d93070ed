//! `vouch node ls`.

use vouch_manager::api::view::NodeView;

use super::faults;
use crate::args::{Global, NodeCommand};
use crate::client::Client;
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
    }
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
            vms.join(", "),
            n.watchers.join(", "),
            heard.join(", "),
        ]
    });
    table(&["node", "rack", "driver", "source", "since", "broken", "vms", "watchers", "heard by"], rows)
}
