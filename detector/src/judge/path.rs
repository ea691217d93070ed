//! Judges what is broken between the managers and a node that none of them hears.

use vouch_types::{Cause, Fault, ManagerId, Network, NodeId, RelayOutcome, WatcherId};

/// What one watcher's evidence since the cut says of a node.
#[derive(Clone, Debug)]
pub(crate) struct PathWitness {
    pub watcher: WatcherId,
    /// It runs on the node itself.
    pub local: bool,
    /// It was heard since the cut, over anything.
    pub heard: bool,
    /// It was heard since the cut over the management network.
    pub heard_over_management: bool,
    /// Its own health lets it judge silence on the management network.
    pub healthy: bool,
    /// What its questions to the relay, begun since the cut, came to.
    pub relay: Option<RelayOutcome>,
    /// Managers that the node's agent hears, as its relay said since the cut.
    pub hears: Vec<ManagerId>,
    /// It saw a VM of the node since the cut.
    pub saw_vm: bool,
}

/// What the node shares with others that fell silent with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SharedCause<'a> {
    /// Nothing.
    None,
    /// Every node is cut off over the management network, and some watcher is heard over the other.
    ManagementNetwork,
    /// Every node of its rack is silent, and other nodes are not.
    Rack(&'a str),
    /// No node is heard, and no watcher.
    Site,
}

impl SharedCause<'_> {
    /// Returns whether it shares nothing that is broken.
    pub fn is_none(self) -> bool {
        self == Self::None
    }
}

/// Whether anything of the node is heard, by anyone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeLife {
    /// Something is.
    Lives,
    /// Nothing is, and somebody who could hear it says so.
    Silent,
    /// Nobody can tell.
    Unknown,
}

/// What is broken, and why that is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PathJudgement {
    pub faults: Vec<Fault>,
    pub reason: String,
    pub life: NodeLife,
}

/// What is said of all nodes where none is heard and nobody can tell why.
pub(crate) const SITE_SILENT: &str =
    "no manager hears any node or any watcher: the way to all of them is cut, or all have no power";

/// Returns the fault of all nodes where none is heard and nobody can tell why.
pub(crate) fn site_silent() -> Fault {
    let causes = [(Cause::Network(Network::Management), 40), (Cause::Node, 30), (Cause::NodeIsolated, 30)];
    Fault::weighed(&causes).with_detail("no watcher can tell")
}

fn told(causes: Vec<(Cause, u8)>, detail: &str, life: NodeLife, reason: String) -> PathJudgement {
    PathJudgement { faults: vec![Fault::weighed(&causes).with_detail(detail)], reason, life }
}

/// Returns whether anything of a node is heard by these witnesses.
pub(crate) fn node_life(witnesses: &[PathWitness]) -> NodeLife {
    let lives = |w: &PathWitness| {
        let relay = matches!(w.relay, Some(RelayOutcome::Silent) | None);
        !relay || (w.local && w.heard) || w.saw_vm
    };
    if witnesses.iter().any(lives) {
        NodeLife::Lives
    } else if witnesses.iter().any(|w| !w.local && w.healthy && w.relay == Some(RelayOutcome::Silent)) {
        NodeLife::Silent
    } else {
        NodeLife::Unknown
    }
}

/// Returns what the witnesses' evidence says of a node that no manager hears.
///
/// The cases stand in the order of their strength: an answer of the relay proves a living agent, a refusal proves a
/// dead one, and only where every way is silent is the node itself named.
pub(crate) fn judge_path(node: &NodeId, witnesses: &[PathWitness], shared: SharedCause<'_>) -> PathJudgement {
    use RelayOutcome::{Denied, Reached, Refused, Silent, Stalled};
    let management = Network::Management;
    let first = |test: &dyn Fn(&PathWitness) -> bool| witnesses.iter().find(|w| test(w));
    // A relay that turns a watcher away is alive all the same.
    let answers = |w: &PathWitness| matches!(w.relay, Some(Reached | Denied));
    let lives = NodeLife::Lives;

    if let Some(w) = first(&|w| !w.local && answers(w)) {
        return path_cut(node, w, format!("{} reaches its relay over the management network", w.watcher));
    }
    if let Some(w) = first(&|w| w.local && answers(w)) {
        if w.heard_over_management {
            let how = format!("{} on it reaches its relay and is heard over the management network", w.watcher);
            return path_cut(node, w, how);
        }
        if shared == SharedCause::ManagementNetwork {
            return network_down(w);
        }
        let reason = format!(
            "no manager hears the node; {} on it reaches its relay over the local bridge, and the management network \
             carries neither of them",
            w.watcher
        );
        return told(vec![(Cause::NodeUplink(management), 80), (Cause::ManagerNodePath, 20)], "", lives, reason);
    }
    if let Some(w) = first(&|w| w.relay == Some(Refused)) {
        let reason = format!("no manager hears the node; {} found nothing listening at its relay", w.watcher);
        return told(vec![(Cause::NodeAgent, 100)], "not running", lives, reason);
    }
    if let Some(w) = first(&|w| w.relay == Some(Stalled)) {
        let reason = format!("no manager hears the node; its relay accepted {} and never answered", w.watcher);
        return told(vec![(Cause::NodeAgent, 100)], "stalled", lives, reason);
    }
    if let Some(w) = first(&|w| w.local && w.heard_over_management) {
        let reason = format!("no manager hears the node; {} on it is heard, and its relay is silent", w.watcher);
        return told(vec![(Cause::NodeAgent, 70), (Cause::ManagerNodePath, 30)], "silent", lives, reason);
    }
    if let Some(w) = first(&|w| w.local && w.heard).or_else(|| first(&|w| w.saw_vm)) {
        if shared == SharedCause::ManagementNetwork {
            return network_down(w);
        }
        let how = if w.local { "on it is heard over the service network alone" } else { "sees a VM of it" };
        let reason = format!("no manager hears the node; {} {how}", w.watcher);
        return told(vec![(Cause::NodeUplink(management), 60), (Cause::NodeAgent, 40)], "", lives, reason);
    }
    if let SharedCause::Rack(rack) = shared {
        let reason = format!("every node of rack {rack} is silent, and nodes of other racks are heard");
        let causes = vec![(Cause::Rack, 70), (Cause::Node, 15), (Cause::NodeIsolated, 15)];
        return told(causes, "silent", NodeLife::Silent, reason);
    }
    if let Some(w) = first(&|w| !w.local && w.healthy && w.relay == Some(Silent)) {
        let reason = format!("nobody hears the node: not a manager, not {}, not a watcher on it", w.watcher);
        return told(vec![(Cause::Node, 50), (Cause::NodeIsolated, 50)], "silent", NodeLife::Silent, reason);
    }
    if shared == SharedCause::ManagementNetwork {
        let reason = "no node is heard over the management network".to_owned();
        return told(vec![(Cause::Network(management), 70), (Cause::Node, 30)], "", NodeLife::Unknown, reason);
    }
    if shared == SharedCause::Site {
        let reason = SITE_SILENT.to_owned();
        return PathJudgement { faults: vec![site_silent()], reason, life: NodeLife::Unknown };
    }
    // It was heard beside the agent, by ways of its own; that both are silent speaks for what they share.
    if let Some(w) = first(&|w| w.local && !w.heard) {
        let causes = vec![(Cause::Node, 40), (Cause::NodeIsolated, 40), (Cause::ManagerNodePath, 20)];
        let reason =
            format!("no manager hears the node or {} on it, and no healthy watcher elsewhere looks", w.watcher);
        return told(causes, "no watcher can tell", NodeLife::Unknown, reason);
    }
    let causes = vec![(Cause::ManagerNodePath, 34), (Cause::Node, 33), (Cause::NodeIsolated, 33)];
    let reason = "no manager hears the node, and no healthy watcher can tell why".to_owned();
    told(causes, "no watcher can tell", NodeLife::Unknown, reason)
}

/// The agent lives, and its words do not come: both ways, or only from it.
fn path_cut(node: &NodeId, witness: &PathWitness, how: String) -> PathJudgement {
    if let [first, rest @ ..] = witness.hears.as_slice() {
        let also = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        let reason = format!("no manager hears the node; {how}, and it hears {first}{also}");
        let one_way = Cause::OneWay { from: node.to_string(), to: "managers".to_owned() };
        return told(vec![(one_way, 70), (Cause::ManagerNodePath, 30)], "", NodeLife::Lives, reason);
    }
    let reason = format!("no manager hears the node; {how}");
    told(vec![(Cause::ManagerNodePath, 100)], "", NodeLife::Lives, reason)
}

fn network_down(witness: &PathWitness) -> PathJudgement {
    let reason =
        format!("no node is heard over the management network; {} is, over the service network", witness.watcher);
    let causes = vec![(Cause::Network(Network::Management), 90), (Cause::NodeUplink(Network::Management), 10)];
    told(causes, "", NodeLife::Lives, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(number: u64, local: bool) -> PathWitness {
        PathWitness {
            watcher: WatcherId::new(number),
            local,
            heard: true,
            heard_over_management: true,
            healthy: true,
            relay: None,
            hears: Vec::new(),
            saw_vm: false,
        }
    }

    fn top(witnesses: &[PathWitness]) -> String {
        judge_path(&NodeId::new("n1").expect("a name"), witnesses, SharedCause::None).faults[0].to_string()
    }

    #[test]
    fn a_relay_that_answers_from_afar_proves_the_path() {
        let local = PathWitness { relay: Some(RelayOutcome::Reached), ..witness(1, true) };
        let remote = PathWitness { relay: Some(RelayOutcome::Reached), ..witness(2, false) };
        assert_eq!(top(&[local, remote]), "manager_node_path");
    }

    #[test]
    fn a_relay_that_answers_on_the_bridge_alone_names_the_uplink() {
        let local =
            PathWitness { relay: Some(RelayOutcome::Reached), heard_over_management: false, ..witness(1, true) };
        let remote = PathWitness { relay: Some(RelayOutcome::Silent), ..witness(2, false) };
        assert_eq!(top(&[local, remote]), "node_uplink(management)");
    }

    #[test]
    fn a_refusing_relay_names_the_agent() {
        let local = PathWitness { relay: Some(RelayOutcome::Refused), ..witness(1, true) };
        let remote = PathWitness { relay: Some(RelayOutcome::Refused), ..witness(2, false) };
        assert_eq!(top(&[local, remote]), "node_agent not running");
    }

    #[test]
    fn a_stalled_relay_names_the_agent() {
        let remote = PathWitness { relay: Some(RelayOutcome::Stalled), ..witness(2, false) };
        assert_eq!(top(&[remote]), "node_agent stalled");
    }

    #[test]
    fn silence_everywhere_names_the_node() {
        let local = PathWitness { heard: false, heard_over_management: false, ..witness(1, true) };
        let remote = PathWitness { relay: Some(RelayOutcome::Silent), ..witness(2, false) };
        assert_eq!(top(&[local, remote]), "node silent");
    }

    #[test]
    fn a_sick_observer_is_not_believed_about_silence() {
        let remote = PathWitness { relay: Some(RelayOutcome::Silent), healthy: false, ..witness(2, false) };
        assert_eq!(top(&[remote]), "manager_node_path no watcher can tell");
    }

    #[test]
    fn silence_of_the_node_and_of_its_own_watcher_names_the_node_with_less_certainty() {
        let local = PathWitness { heard: false, heard_over_management: false, ..witness(1, true) };
        let judged = judge_path(&NodeId::new("n1").expect("a name"), &[local], SharedCause::None);
        let scores: Vec<u8> = judged.faults[0].causes.iter().map(|cause| cause.score).collect();
        assert_eq!((judged.faults[0].top(), judged.life), (&Cause::Node, NodeLife::Unknown));
        assert_eq!(scores, [40, 40, 20]);
    }

    #[test]
    fn an_agent_that_hears_managers_and_is_not_heard_is_cut_one_way() {
        let hears = vec![ManagerId::new(1), ManagerId::new(2)];
        let remote = PathWitness { relay: Some(RelayOutcome::Reached), hears, ..witness(2, false) };
        assert_eq!(top(&[remote]), "one_way(n1, managers)");
    }

    #[test]
    fn nodes_that_are_all_cut_over_management_have_a_dead_network() {
        let local =
            PathWitness { relay: Some(RelayOutcome::Reached), heard_over_management: false, ..witness(1, true) };
        let j = judge_path(&NodeId::new("n1").expect("a name"), &[local], SharedCause::ManagementNetwork);
        assert_eq!((j.faults[0].to_string(), j.life), ("network(management)".to_owned(), NodeLife::Lives));
    }

    #[test]
    fn silent_nodes_of_one_rack_have_the_rack_as_their_cause() {
        let remote = PathWitness { relay: Some(RelayOutcome::Silent), ..witness(2, false) };
        let j = judge_path(&NodeId::new("n1").expect("a name"), &[remote], SharedCause::Rack("r1"));
        assert_eq!((j.faults[0].top(), j.life), (&Cause::Rack, NodeLife::Silent));
    }
}
