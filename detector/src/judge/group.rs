//! Groups before telling (rule 8): many nodes that fall silent behind one shared element have that element as their
//! cause.

use std::collections::{BTreeMap, BTreeSet};

use vouch_types::Network;

use super::path::{NodeLife, SharedCause};

/// The fewest nodes that can show that something which they share is broken.
const SHARED_NODES_MIN: usize = 2;

/// Where the direct path to a node stands, for grouping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// A manager hears it.
    Yes,
    /// It has been missed for a while, or is cut.
    No,
}

/// What users beyond a node's own can reach of it over the service network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ServiceReach {
    /// Nothing speaks against it, or something of it is reached.
    Fine,
    /// Nobody elsewhere looks at a VM of it (it has none, for one), and its own watcher reaches nothing beyond it: it says
    /// nothing either way.
    Untold,
    /// Nothing of it is reached from elsewhere and its own watcher reaches nothing beyond it, not yet for long enough to
    /// be sure.
    Doubtful,
    /// Nothing of it is reached from elsewhere, while its own watcher sees VMs of it, and its own watcher reaches
    /// nothing beyond it.
    CutOff,
}

/// One node as grouping sees it.
#[derive(Clone, Debug)]
pub(crate) struct NodeView<'a> {
    pub rack: Option<&'a str>,
    pub heard: Heard,
    pub life: NodeLife,
    /// Something of it was heard or reached over the management network since it fell silent.
    pub over_management: bool,
    /// Its own watcher was heard over the service network since then.
    pub over_service: bool,
    pub service: ServiceReach,
    /// Per mille lost on every path to it, per network, where that is measured.
    pub lossy: BTreeSet<Network>,
}

/// What is shared, and broken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Groups {
    /// Networks that carry nothing.
    pub networks_down: BTreeSet<Network>,
    /// Networks that lose much, towards most nodes.
    pub networks_lossy: BTreeSet<Network>,
    /// Racks of which nothing is heard.
    pub racks_silent: BTreeSet<String>,
    /// Nothing is heard of any node, and nobody is left who could tell why.
    pub site_silent: bool,
}

impl Groups {
    /// Returns what a node that no manager hears shares with others.
    pub fn cause_of<'a>(&self, rack: Option<&'a str>) -> SharedCause<'a> {
        match rack {
            _ if self.site_silent => SharedCause::Site,
            Some(rack) if self.racks_silent.contains(rack) => SharedCause::Rack(rack),
            _ if self.networks_down.contains(&Network::Management) => SharedCause::ManagementNetwork,
            Some(_) | None => SharedCause::None,
        }
    }
}

/// Returns what the nodes together show.
pub(crate) fn group(nodes: &[NodeView<'_>]) -> Groups {
    let mut groups = Groups::default();
    let enough = nodes.len() >= SHARED_NODES_MIN;
    let all_missed = nodes.iter().all(|n| n.heard == Heard::No);
    let none_over_management = nodes.iter().all(|n| !n.over_management);
    if enough && all_missed && none_over_management && nodes.iter().any(|n| n.over_service) {
        groups.networks_down.insert(Network::Management);
    }
    // One node that is surely cut off, and none that is reached: where only its own uplink is dead, the watchers of other
    // nodes are still heard over the network. To wait until each is sure by itself would name one node first.
    let is_cut = nodes.iter().any(|n| n.service == ServiceReach::CutOff);
    let telling = nodes.iter().filter(|n| n.service != ServiceReach::Untold).count();
    if telling >= SHARED_NODES_MIN && is_cut && nodes.iter().all(|n| n.service != ServiceReach::Fine) {
        groups.networks_down.insert(Network::Service);
    }
    for network in Network::ALL {
        let lossy = nodes.iter().filter(|n| n.lossy.contains(&network)).count();
        if lossy >= SHARED_NODES_MIN && lossy * 3 >= nodes.len() * 2 {
            groups.networks_lossy.insert(network);
        }
    }
    let mut racks: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for node in nodes {
        if let Some(rack) = node.rack {
            let (count, silent) = racks.entry(rack).or_insert((0, true));
            *count += 1;
            *silent &= node.heard == Heard::No && node.life == NodeLife::Silent;
        }
    }
    let heard_elsewhere =
        |rack: &str| nodes.iter().any(|n| n.rack != Some(rack) && (n.heard == Heard::Yes || n.life == NodeLife::Lives));
    for (rack, (count, silent)) in racks {
        if count >= SHARED_NODES_MIN && silent && heard_elsewhere(rack) {
            groups.racks_silent.insert(rack.to_owned());
        }
    }
    groups
}

/// Returns whether nothing is heard of any node. Where that is `told` it stays so until half of the nodes are back: they
/// return one by one, and those that are still missed need no incident each.
pub(crate) fn is_site_silent(nodes: &[NodeView<'_>], told: bool) -> bool {
    let missed = |n: &&NodeView<'_>| n.heard == Heard::No && n.life != NodeLife::Lives;
    let unheard = |n: &NodeView<'_>| missed(&n) && n.life == NodeLife::Unknown && !n.over_management && !n.over_service;
    nodes.len() >= SHARED_NODES_MIN
        && (nodes.iter().all(unheard) || told && nodes.iter().filter(missed).count() * 2 > nodes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> NodeView<'static> {
        NodeView {
            rack: None,
            heard: Heard::Yes,
            life: NodeLife::Lives,
            over_management: true,
            over_service: true,
            service: ServiceReach::Fine,
            lossy: BTreeSet::new(),
        }
    }

    #[test]
    fn nodes_that_are_all_missed_and_heard_over_service_have_a_dead_management_network() {
        let cut = NodeView { heard: Heard::No, over_management: false, ..well() };
        assert!(group(&[cut.clone(), cut.clone()]).networks_down.contains(&Network::Management));
        assert_eq!(group(&[cut.clone(), well()]), Groups::default(), "one is heard");
        assert_eq!(group(std::slice::from_ref(&cut)), Groups::default(), "one node shows nothing that is shared");
        let reached = NodeView { over_management: true, ..cut.clone() };
        assert_eq!(group(&[cut, reached]), Groups::default(), "a relay was reached over it");
    }

    #[test]
    fn a_service_network_is_dead_when_every_node_is_cut_off() {
        let cut = NodeView { service: ServiceReach::CutOff, ..well() };
        assert!(group(&[cut.clone(), cut.clone()]).networks_down.contains(&Network::Service));
        assert_eq!(group(&[cut, well()]), Groups::default());
    }

    #[test]
    fn one_node_that_is_surely_cut_off_speaks_for_those_that_are_not_reached_either() {
        let cut = NodeView { service: ServiceReach::CutOff, ..well() };
        let doubtful = NodeView { service: ServiceReach::Doubtful, ..well() };
        assert!(group(&[cut.clone(), doubtful.clone()]).networks_down.contains(&Network::Service));
        assert_eq!(group(&[cut, doubtful.clone(), well()]), Groups::default(), "one is reached");
        assert_eq!(group(&[doubtful.clone(), doubtful]), Groups::default(), "none is sure");
    }

    #[test]
    fn nodes_that_nobody_looks_at_neither_hide_a_dead_service_network_nor_show_one() {
        let cut = NodeView { service: ServiceReach::CutOff, ..well() };
        let untold = NodeView { service: ServiceReach::Untold, ..well() };
        assert!(group(&[cut.clone(), cut.clone(), untold.clone()]).networks_down.contains(&Network::Service));
        assert_eq!(group(&[cut, untold.clone(), untold]), Groups::default(), "it may be the uplink of the one");
    }

    #[test]
    fn a_rack_is_named_when_all_its_nodes_are_silent_and_others_are_heard() {
        let silent = NodeView {
            rack: Some("r1"),
            heard: Heard::No,
            life: NodeLife::Silent,
            over_management: false,
            over_service: false,
            ..well()
        };
        let other = NodeView { rack: Some("r2"), ..well() };
        let groups = group(&[silent.clone(), silent.clone(), other.clone(), other.clone()]);
        assert_eq!(groups.racks_silent.iter().collect::<Vec<_>>(), ["r1"]);
        let lives = NodeView { life: NodeLife::Lives, ..silent.clone() };
        assert_eq!(group(&[silent.clone(), lives, other]), Groups::default());
        assert_eq!(group(&[silent.clone(), silent]), Groups::default(), "nobody else is there to compare");
    }

    #[test]
    fn a_site_is_silent_when_nobody_is_heard_and_stays_so_until_half_of_it_is_back() {
        let gone = NodeView {
            heard: Heard::No,
            life: NodeLife::Unknown,
            over_management: false,
            over_service: false,
            ..well()
        };
        let all = [gone.clone(), gone.clone(), gone.clone(), gone.clone()];
        assert!(is_site_silent(&all, false));
        assert!(!is_site_silent(&all[..1], false), "one node shows nothing that is shared");
        let told_of = NodeView { life: NodeLife::Silent, ..gone.clone() };
        assert!(!is_site_silent(&[gone.clone(), told_of.clone()], false), "a watcher tells of it");
        let beside = NodeView { over_service: true, ..gone.clone() };
        assert!(!is_site_silent(&[gone.clone(), beside], false), "its watcher is heard");
        let one_is_back = [gone.clone(), told_of.clone(), gone.clone(), well()];
        assert!(!is_site_silent(&one_is_back, false));
        assert!(is_site_silent(&one_is_back, true));
        assert!(!is_site_silent(&[gone, told_of, well(), well()], true));
    }

    #[test]
    fn a_network_is_lossy_when_most_paths_over_it_are() {
        let lossy = NodeView { lossy: BTreeSet::from([Network::Management]), ..well() };
        let most = group(&[lossy.clone(), lossy.clone(), well()]);
        assert!(most.networks_lossy.contains(&Network::Management));
        assert_eq!(group(&[lossy, well(), well()]), Groups::default(), "one path is one path");
    }
}
