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
        let mut outages = Vec::new();
        let mut is_true = false;
        for (machine, name) in [(Machine::Node(node), format!("n{node}")), (Machine::Manager, "managers".to_owned())] {
            for network in Network::ALL {
                let out = networks.outage(machine, network, since, now);
                if out >= OUTAGE_LEAST {
                    outages.push(format!("{name}/{network} {} ms", out.as_millis()));
                    is_true |= may_rest_on(&what, machine, network);
                }
            }
        }
        let outages = if outages.is_empty() { "nothing".to_owned() } else { outages.join(", ") };
        told.push(Told { count, is_true, line: format!("{now:?} n{node} x {count} {what}; out were: {outages}") });
    }
    told
}

/// Returns whether what is said may rest on an outage of this uplink: the network that it names, of the node itself; and
/// for a cut, whatever carries the node's words to the managers.
fn may_rest_on(what: &str, machine: Machine, network: Network) -> bool {
    let named =
        what.contains(&Cause::NodeUplink(network).to_string()) || what.contains(&Cause::Network(network).to_string());
    match machine {
        Machine::Node(_) => named || what.starts_with("cut off"),
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
        assert!(may_rest_on(degraded, Machine::Node(3), Network::Service));
        assert!(!may_rest_on(degraded, Machine::Node(3), Network::Management));
        assert!(!may_rest_on(degraded, Machine::Manager, Network::Service));
        assert!(!may_rest_on("degraded: service(rdp)", Machine::Node(3), Network::Service));
        assert!(may_rest_on("cut off: node_agent", Machine::Manager, Network::Management));
    }
}
