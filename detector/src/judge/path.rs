//! Judges what is broken between the managers and a node that none of them hears.

use vouch_types::{Cause, Fault, Network, RankedCause, RelayOutcome, WatcherId};

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
    /// It saw a VM of the node since the cut.
    pub saw_vm: bool,
}

/// What is broken, and why that is said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PathJudgement {
    pub faults: Vec<Fault>,
    pub reason: String,
}

fn told(causes: Vec<(Cause, u8)>, detail: &str, reason: String) -> PathJudgement {
    let causes = causes.into_iter().map(|(cause, score)| RankedCause { cause, score }).collect();
    PathJudgement { faults: vec![Fault::ranked(causes).with_detail(detail)], reason }
}

/// Returns what the witnesses' evidence says of a node that no manager hears.
///
/// The cases stand in the order of their strength: an answer of the relay proves a living agent, a refusal proves a
/// dead one, and only where every way is silent is the node itself named.
pub(crate) fn judge_path(witnesses: &[PathWitness]) -> PathJudgement {
    use RelayOutcome::{Denied, Reached, Refused, Silent, Stalled};
    let management = Network::Management;
    let first = |test: &dyn Fn(&PathWitness) -> bool| witnesses.iter().find(|w| test(w));
    // A relay that turns a watcher away is alive all the same.
    let answers = |w: &PathWitness| matches!(w.relay, Some(Reached | Denied));

    if let Some(w) = first(&|w| !w.local && answers(w)) {
        let reason = format!("no manager hears the node; {} reaches its relay over the management network", w.watcher);
        return told(vec![(Cause::ManagerNodePath, 100)], "", reason);
    }
    if let Some(w) = first(&|w| w.local && answers(w)) {
        if w.heard_over_management {
            let reason = format!(
                "no manager hears the node; {} on it reaches its relay and is heard over the management network",
                w.watcher
            );
            return told(vec![(Cause::ManagerNodePath, 100)], "", reason);
        }
        let reason = format!(
            "no manager hears the node; {} on it reaches its relay over the local bridge, and the management network \
             carries neither of them",
            w.watcher
        );
        return told(vec![(Cause::NodeUplink(management), 80), (Cause::ManagerNodePath, 20)], "", reason);
    }
    if let Some(w) = first(&|w| w.relay == Some(Refused)) {
        let reason = format!("no manager hears the node; {} found nothing listening at its relay", w.watcher);
        return told(vec![(Cause::NodeAgent, 100)], "not running", reason);
    }
    if let Some(w) = first(&|w| w.relay == Some(Stalled)) {
        let reason = format!("no manager hears the node; its relay accepted {} and never answered", w.watcher);
        return told(vec![(Cause::NodeAgent, 100)], "stalled", reason);
    }
    if let Some(w) = first(&|w| w.local && w.heard_over_management) {
        let reason = format!("no manager hears the node; {} on it is heard, and its relay is silent", w.watcher);
        return told(vec![(Cause::NodeAgent, 70), (Cause::ManagerNodePath, 30)], "silent", reason);
    }
    if let Some(w) = first(&|w| w.local && w.heard) {
        let reason = format!("no manager hears the node; {} on it is heard over the service network alone", w.watcher);
        return told(vec![(Cause::NodeUplink(management), 60), (Cause::NodeAgent, 40)], "", reason);
    }
    if let Some(w) = first(&|w| w.saw_vm) {
        let reason = format!("no manager hears the node; {} sees a VM of it", w.watcher);
        return told(vec![(Cause::NodeUplink(management), 60), (Cause::NodeAgent, 40)], "", reason);
    }
    if let Some(w) = first(&|w| !w.local && w.healthy && w.relay == Some(Silent)) {
        let reason = format!("nobody hears the node: not a manager, not {}, not a watcher on it", w.watcher);
        return told(vec![(Cause::Node, 50), (Cause::NodeIsolated, 50)], "silent", reason);
    }
    let causes = vec![(Cause::ManagerNodePath, 34), (Cause::Node, 33), (Cause::NodeIsolated, 33)];
    told(causes, "no watcher can tell", "no manager hears the node, and no healthy watcher can tell why".to_owned())
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
            saw_vm: false,
        }
    }

    fn top(witnesses: &[PathWitness]) -> String {
        judge_path(witnesses).faults[0].to_string()
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
}
