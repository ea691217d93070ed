//! The truth about outages: whether an uplink carried nothing when something was said to be cut off or degraded.
//!
//! Nothing dies in this fleet, but its uplinks flap: for up to two seconds one carries nothing. To say so meanwhile, or
//! right after it, is right; to say it of an uplink that carried packets is not.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_detector::Proposal;
use vouch_types::{Cause, Fault, Moment, Network, Source, VmState};

use super::network::{Machine, SimNetworks};
use super::outcome::{node_number, node_of};
use super::records::Records;

/// How long ago an outage may have been that is told now: a suspicion, a round of asks, and what settles it.
const LATELY: Duration = Duration::from_secs(5);
/// An outage shorter than this is no reason to say anything.
const OUTAGE_LEAST: Duration = Duration::from_millis(400);

/// One thing that was said of a node and what is on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    /// How many verdicts or paths say it.
    pub(crate) count: u64,
    /// Whether an uplink that it may rest on was out.
    pub(crate) is_true: bool,
    /// For people.
    pub(crate) line: String,
}

/// Returns what a proposal says of nodes that are cut off or VMs that are degraded, a node each, against the truth.
pub(crate) fn told(networks: &mut SimNetworks, records: &Records, now: Moment, proposal: &Proposal) -> Vec<Told> {
    let mut said: BTreeMap<(usize, String), u64> = BTreeMap::new();
    let nodes = networks.nodes();
    for change in &proposal.verdicts {
        let known = records.vm(change.vm).map(|vm| vm.verdict.state);
        if change.verdict.state == VmState::Degraded && known != Some(VmState::Degraded) {
            let what = format!("degraded: {}", causes(&change.verdict.faults));
            *said.entry((node_of(change.vm, nodes), what)).or_default() += 1;
        }
    }
    for change in &proposal.paths {
        if change.source == Source::Watcher && records.source(&change.node) == Some(Source::Direct) {
            let what = format!("cut off: {}", causes(&change.faults));
            *said.entry((node_number(&change.node), what)).or_default() += 1;
        }
    }
    let since = now - LATELY;
    let mut told = Vec::new();
    for ((node, what), count) in said {
        let mut out = Vec::new();
        let mut is_true = false;
        // Its own uplinks, those of the node whose watcher looks at it, those of the node that its own watcher looks at.
        let before = (node + nodes - 1) % nodes;
        let machines =
            [Machine::Node(node), Machine::Manager, Machine::Node(before), Machine::Node((node + 1) % nodes)];
        for machine in machines {
            for network in Network::ALL {
                let (flap, burst) = networks.outage(machine, network, since, now);
                is_true |= flap >= OUTAGE_LEAST && may_rest_on(&what, node, machine, network);
                for (kind, lasted) in [("flap", flap), ("burst", burst)] {
                    if !lasted.is_zero() {
                        out.push(format!("{kind} of {machine}/{network} {} ms", lasted.as_millis()));
                    }
                }
            }
        }
        let out = if out.is_empty() { "nothing".to_owned() } else { out.join(", ") };
        told.push(Told { count, is_true, line: format!("{now:?} n{node} x {count} {what}; lately: {out}") });
    }
    told
}

/// Returns whether what is said may rest on an outage of this uplink: the network that it names, of the node itself; and
/// for a cut, whatever carries the node's words to the managers.
fn may_rest_on(what: &str, node: usize, machine: Machine, network: Network) -> bool {
    let named =
        what.contains(&Cause::NodeUplink(network).to_string()) || what.contains(&Cause::Network(network).to_string());
    match machine {
        Machine::Node(own) => own == node && (named || what.starts_with("cut off")),
        Machine::Manager => what.starts_with("cut off"),
    }
}

fn causes(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_rests_on_the_uplink_that_it_names_and_a_cut_on_any_way_to_the_managers() {
        let degraded = "degraded: node_uplink(service)";
        assert!(may_rest_on(degraded, 3, Machine::Node(3), Network::Service));
        assert!(!may_rest_on(degraded, 3, Machine::Node(3), Network::Management));
        assert!(!may_rest_on(degraded, 3, Machine::Manager, Network::Service));
        assert!(!may_rest_on(degraded, 3, Machine::Node(2), Network::Service), "another node's");
        assert!(!may_rest_on("degraded: service(rdp)", 3, Machine::Node(3), Network::Service));
        assert!(may_rest_on("cut off: node_agent", 3, Machine::Manager, Network::Management));
    }
}
