//! The removal of a node, handed to the leader with the name of who asked for it: the leader is asked by another
//! manager, not by a client.
//!
//! Whether somebody hears the node is the leader's knowledge of now, finer than what is recorded, and so looked at
//! before the proposal. All else is judged where the command is applied.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use vouch_types::removed_node::{REMOVAL_VMS_NAMED, is_gone};
use vouch_types::{Applied, Command, NodeId, VmInTheWay, VmsLeft};

use super::etag::Conditions;
use super::forward::{self, Hop};
use super::freshness::{Wanted, make_current};
use super::probe_orders::who;
use super::problem::{Problem, ProblemKind};
use super::propose::propose;
use super::view::{NodeRemovedView, VmLeftView};
use super::{Api, published};

/// Where the leader takes removals from other managers.
pub(super) const PATH: &str = "/internal/node-removals";

/// A removal and who asked for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenRemoval {
    node: NodeId,
    vms: VmsLeft,
    by: String,
}

/// Returns the problem of a node that is not there; of one that was removed it says so.
pub fn not_found(api: &Api, id: &str) -> Problem {
    let rule = "must be the name of a node that a manager has heard, or that a join token let in";
    let mut problem = Problem::field(ProblemKind::NodeNotFound, "id", id, rule);
    let removed = published::read(api.published(), |state| {
        let node = NodeId::new(id).ok()?;
        state.shut_out(&node).map(|removed| (removed.at, removed.index, removed.by.clone()))
    });
    if let Some((at, index, by)) = removed {
        problem.detail = format!("node {id} was removed at {at}, at log index {index}, by the {by}");
    }
    problem
}

/// Has a node removed, by the leader if that is another manager.
///
/// # Errors
/// A problem when it was not.
pub async fn order(api: &Api, hop: &Hop, node: NodeId, vms: VmsLeft) -> Result<NodeRemovedView, Problem> {
    let given = GivenRemoval { node, vms, by: who(api) };
    match forward::give_leader(api, hop, PATH, &given).await? {
        Some(removed) => Ok(removed),
        None => apply(api, given, hop.conditions()?).await,
    }
}

/// Takes a removal from another manager.
pub(super) async fn take(
    State(api): State<Api>,
    conditions: Conditions,
    body: axum::body::Bytes,
) -> Result<Json<NodeRemovedView>, Problem> {
    let given = serde_json::from_slice(&body).map_err(|e| Problem::new(ProblemKind::BadParameter, e.to_string()))?;
    apply(&api, given, conditions).await.map(Json)
}

/// Returns the managers that hear a node now, as far as this one knows. A stream that stands and brings nothing is of a
/// node whose power went off, say.
async fn heard_by(api: &Api, node: &NodeId) -> Vec<String> {
    let window = u64::try_from(api.timing().window.as_millis()).unwrap_or(u64::MAX);
    let rows = api.live().hearing().await.nodes.into_iter();
    rows.filter(|row| row.peer == node.as_str() && row.stream == "open" && row.age_ms.is_none_or(|age| age < window))
        .map(|row| row.manager)
        .collect()
}

/// VMs of a node that may run, as they are recorded: how many, and the first of them.
fn may_run(api: &Api, node: &NodeId) -> (u64, Vec<VmLeftView>) {
    published::read(api.published(), |state| {
        let may_run = || state.vms_of(node).map(|(_, vm)| vm).filter(|vm| !is_gone(&vm.verdict));
        let named = may_run().take(REMOVAL_VMS_NAMED).map(|vm| {
            let (id, name, state) = (vm.spec.id, vm.spec.name.clone(), vm.verdict.state);
            VmLeftView::from(&VmInTheWay { id, name, state })
        });
        (may_run().count() as u64, named.collect())
    })
}

async fn apply(api: &Api, given: GivenRemoval, conditions: Conditions) -> Result<NodeRemovedView, Problem> {
    make_current(api, Wanted::Default).await?;
    let GivenRemoval { node, vms, by } = given;
    let is_unknown =
        published::read(api.published(), |state| !state.nodes().contains_key(&node) && !state.is_let_in_unheard(&node));
    if is_unknown {
        return Err(not_found(api, node.as_str()));
    }
    let heard = heard_by(api, &node).await;
    if !heard.is_empty() {
        let rule = "must not be heard by any manager: end its agent, and what runs on it, first";
        let mut problem = Problem::field(ProblemKind::NodeIsHeard, "id", node.as_str(), rule);
        problem.detail = format!("node {node} is heard by {}: it {rule}", heard.join(", "));
        return Err(problem);
    }
    let (forgotten, named) = may_run(api, &node);
    let at = api.wall().now();
    let path = format!("/v1/nodes/{node}?vms={}", vms.as_str());
    let command = Command::RemoveNode { node: node.clone(), vms, by, at };
    match propose(api, conditions.guard(command, ("DELETE", &path, &[]), at)).await? {
        Applied::NodeRemoved { index, vms, watchers } => {
            let reason = "an operator removed it";
            tracing::info!(node_id = %node, vms, watchers, from = "recorded", to = "removed", reason, "node");
            Ok(NodeRemovedView { id: node.to_string(), log_index: index.get(), vms, watchers, forgotten, named })
        }
        _ => Err(Problem::new(ProblemKind::Internal, "the node was removed and nobody says how")),
    }
}
