//! What lies between two hosts, and what is wrong with it.
//!
//! ```text
//!  manager --port-- core switch (one per network) --rack switch-- uplink (per node, network, direction) --port-- host
//! ```
//!
//! Two hosts of one node talk over its bridge, two nodes of one rack over the switch of the rack.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vouch_types::Network;

use super::super::host::{Host, NodeNo, RackNo};

/// A direction of a link, seen from the host or node that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Toward {
    /// Away from it.
    Out,
    /// To it.
    In,
}

/// One thing that a packet passes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Element {
    /// The core switch of a network.
    Core(Network),
    /// The switch of a rack.
    Rack(RackNo, Network),
    /// The uplink of a node, one direction.
    Uplink(NodeNo, Network, Toward),
    /// The port of a host, one direction.
    Port(Host, Network, Toward),
    /// Whatever lies between two hosts, in this direction, on every network.
    Between(Host, Host),
}

/// What is wrong with an element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Condition {
    /// Nothing passes, and nobody is told.
    pub cut: bool,
    /// Packets that are lost, in per mille.
    pub loss_per_mille: u32,
    /// Added to the time that every packet takes.
    pub delay: Duration,
    /// Up to this much is added besides.
    pub jitter: Duration,
}

impl Condition {
    /// Returns the condition of a cut element.
    pub const fn cut() -> Self {
        Self { cut: true, loss_per_mille: 0, delay: Duration::ZERO, jitter: Duration::ZERO }
    }

    /// Returns the condition of an element that loses packets.
    pub const fn lossy(loss_per_mille: u32) -> Self {
        Self { cut: false, loss_per_mille, delay: Duration::ZERO, jitter: Duration::ZERO }
    }

    /// Returns the condition of an element that is slow.
    pub const fn slow(delay: Duration, jitter: Duration) -> Self {
        Self { cut: false, loss_per_mille: 0, delay, jitter }
    }
}

/// How a packet from one host to another fares now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkNow {
    /// Anything passes at all.
    pub open: bool,
    /// Chance to be lost, per million.
    pub loss_per_million: u32,
    /// Least time that it takes beyond the usual.
    pub delay: Duration,
    /// Greatest random time on top.
    pub jitter: Duration,
}

/// Where everything stands, and what is wrong with what.
#[derive(Debug, Default)]
pub struct Topology {
    /// Rack of each node.
    pub racks: BTreeMap<NodeNo, RackNo>,
    /// Node that a watcher or VM runs on.
    pub places: BTreeMap<Host, NodeNo>,
    /// Hosts that are powered off or whose VM does not execute: nothing of them answers anything.
    pub silent: BTreeSet<Host>,
    conditions: BTreeMap<Element, BTreeMap<u64, Condition>>,
}

impl Topology {
    /// Lays a condition on an element, under the key of whoever lays it; several add up.
    pub fn set(&mut self, element: Element, key: u64, condition: Condition) {
        self.conditions.entry(element).or_default().insert(key, condition);
    }

    /// Takes away every condition of this key.
    pub fn clear(&mut self, key: u64) {
        self.conditions.retain(|_, by| {
            by.remove(&key);
            !by.is_empty()
        });
    }

    /// Takes away every condition.
    pub fn clear_all(&mut self) {
        self.conditions.clear();
    }

    fn node_of(&self, host: Host) -> Option<NodeNo> {
        match host {
            Host::Manager(_) => None,
            Host::Node(node) => Some(node),
            Host::Watcher(_) | Host::Vm(_) => self.places.get(&host).copied(),
        }
    }

    fn path(&self, from: Host, to: Host, network: Network) -> Vec<Element> {
        let mut path = vec![Element::Between(from, to), Element::Port(from, network, Toward::Out)];
        let (a, b) = (self.node_of(from), self.node_of(to));
        if a != b || a.is_none() {
            let rack = |node: Option<NodeNo>| node.and_then(|n| self.racks.get(&n).copied());
            path.extend(a.map(|node| Element::Uplink(node, network, Toward::Out)));
            path.extend(rack(a).map(|r| Element::Rack(r, network)));
            if rack(a) != rack(b) || rack(a).is_none() {
                path.push(Element::Core(network));
                path.extend(rack(b).map(|r| Element::Rack(r, network)));
            }
            path.extend(b.map(|node| Element::Uplink(node, network, Toward::In)));
        }
        path.push(Element::Port(to, network, Toward::In));
        path
    }

    /// Returns how a packet fares now.
    pub fn link(&self, from: Host, to: Host, network: Network) -> LinkNow {
        let mut now = LinkNow { open: true, loss_per_million: 0, delay: Duration::ZERO, jitter: Duration::ZERO };
        if !self.silent.is_empty() && (self.silent.contains(&from) || self.silent.contains(&to)) {
            now.open = false;
        }
        if self.conditions.is_empty() || !now.open {
            return now;
        }
        let mut passes = 1_000_000_u64;
        for condition in
            self.path(from, to, network).iter().filter_map(|e| self.conditions.get(e)).flat_map(|c| c.values())
        {
            now.open &= !condition.cut;
            passes = passes * u64::from(1_000 - condition.loss_per_mille.min(1_000)) / 1_000;
            now.delay += condition.delay;
            now.jitter += condition.jitter;
        }
        now.loss_per_million = u32::try_from(1_000_000 - passes).unwrap_or(0);
        now
    }

    /// Returns whether packets pass both ways.
    pub fn connects(&self, a: Host, b: Host, network: Network) -> bool {
        self.link(a, b, network).open && self.link(b, a, network).open
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::host::{VmNo, m, n};
    use super::*;

    fn two_racks() -> Topology {
        Topology {
            racks: [(n(1), RackNo(1)), (n(2), RackNo(1)), (n(3), RackNo(2))].into(),
            places: [(Host::Vm(VmNo(1)), n(1)), (Host::Vm(VmNo(2)), n(1))].into(),
            ..Topology::default()
        }
    }

    #[test]
    fn a_dead_core_leaves_racks_and_bridges_alive() {
        let mut t = two_racks();
        t.set(Element::Core(Network::Service), 1, Condition::cut());
        let connects = |a, b| t.connects(a, b, Network::Service);
        assert!(connects(Host::Vm(VmNo(1)), Host::Vm(VmNo(2))), "one bridge");
        assert!(connects(Host::Node(n(1)), Host::Node(n(2))), "one rack");
        assert!(!connects(Host::Node(n(1)), Host::Node(n(3))));
        assert!(!connects(Host::Manager(m(1)), Host::Node(n(1))));
        assert!(t.connects(Host::Manager(m(1)), Host::Node(n(1)), Network::Management));
    }

    #[test]
    fn losses_of_elements_multiply_and_one_way_is_one_way() {
        let mut t = two_racks();
        t.set(Element::Core(Network::Management), 1, Condition::lossy(300));
        t.set(Element::Uplink(n(1), Network::Management, Toward::In), 2, Condition::lossy(500));
        let (a, b) = (Host::Manager(m(1)), Host::Node(n(1)));
        assert_eq!(t.link(a, b, Network::Management).loss_per_million, 650_000);
        assert_eq!(t.link(b, a, Network::Management).loss_per_million, 300_000);
        t.clear(2);
        assert_eq!(t.link(a, b, Network::Management).loss_per_million, 300_000);
    }
}
