//! `vouch cluster`.

use anyhow::Context;
use vouch_manager::api::view::{ClusterView, MemberRequest, TransferRequest};

use super::backup;
use crate::args::{ClusterCommand, Global};
use crate::client::Client;
use crate::exit::CliError;
use crate::output::{Output, Paint, table};

/// Runs a command of this group.
///
/// # Errors
/// What the managers said.
pub fn run(global: &Global, command: &ClusterCommand) -> Result<(), CliError> {
    let client = || Client::new(global);
    let cluster: ClusterView = match command {
        ClusterCommand::Init => client()?.post("/v1/cluster/init", Vec::new())?,
        ClusterCommand::Status => client()?.get("/v1/cluster")?,
        ClusterCommand::Add { id, management, service, url } => {
            let request = MemberRequest {
                id: id.clone(),
                management: management.clone(),
                service: service.clone(),
                api: url.clone(),
            };
            client()?.post("/v1/cluster/members", serde_json::to_vec(&request).context("the request")?)?
        }
        ClusterCommand::Promote { id } => client()?.post(&format!("/v1/cluster/members/{}/promote", id), Vec::new())?,
        ClusterCommand::Remove { id } => client()?.delete(&format!("/v1/cluster/members/{}", id))?,
        ClusterCommand::Transfer { to } => {
            let request = TransferRequest { to: to.clone() };
            client()?.post("/v1/cluster/transfer", serde_json::to_vec(&request).context("the request")?)?
        }
        ClusterCommand::Backup { file } => return backup::backup(global, file),
        ClusterCommand::Restore { file, config } => return backup::restore(global, file, config),
    };
    Output::new(global).show(&cluster, |paint| tell(&cluster, paint))
}

/// Returns the cluster for people.
pub fn tell(cluster: &ClusterView, paint: Paint) -> String {
    let mut text = match &cluster.id {
        Some(id) => format!("cluster {id}\n"),
        None => "no cluster yet: make it with \"vouch cluster init\" on a manager that has tls.ca_key\n".to_owned(),
    };
    let leader = cluster.leader.as_deref().map_or_else(|| paint.broken("none"), ToOwned::to_owned);
    text.push_str(&format!(
        "told by {} ({}); leader {leader}, term {}, applied up to {}\n\n",
        cluster.manager,
        paint.state(&cluster.role),
        cluster.term,
        cluster.applied
    ));
    let rows = cluster.members.iter().map(|m| {
        let role = match (Some(&m.id) == cluster.leader.as_ref(), m.voter) {
            (true, _) => "leader",
            (false, true) => "follower",
            (false, false) => "learner",
        };
        let on = |network: &str| m.addresses.get(network).cloned().unwrap_or_default();
        vec![m.id.clone(), paint.state(role), on("management"), on("service"), m.api.clone().unwrap_or_default()]
    });
    text.push_str(&table(&["manager", "role", "management", "service", "api"], rows));
    for (manager, compared) in cluster.state.compared.iter().filter(|(_, compared)| !compared.same) {
        let differs = format!("{manager} and {} hold different states", cluster.manager);
        text.push_str(&format!("\n{}, found at log index {}\n", paint.broken(&differs), compared.log_index));
    }
    for note in &cluster.notes {
        text.push_str(&format!("\nnote: {}\n", note.message));
    }
    text
}
