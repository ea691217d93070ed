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

/// What was said of a node, or of what is on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Word {
    /// VMs of it are degraded.
    Degraded,
    /// No manager hears it.
    CutOff,
}

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
    // By node, word and causes as they are told; with the faults themselves, and how often it was said.
    let mut said: BTreeMap<(usize, Word, String), (&[Fault], u64)> = BTreeMap::new();
    let nodes = networks.nodes();
    let degraded = proposal.verdicts.iter().filter(|change| {
        let known = records.vm(change.vm).map(|vm| vm.verdict.state);
        change.verdict.state == VmState::Degraded && known != Some(VmState::Degraded)
    });
    let cut = proposal
        .paths
        .iter()
        .filter(|change| change.source == Source::Watcher && records.source(&change.node) == Some(Source::Direct));
    let degraded = degraded.map(|c| (node_of(c.vm, nodes), Word::Degraded, c.verdict.faults.as_slice()));
    let cut = cut.map(|c| (node_number(&c.node), Word::CutOff, c.faults.as_slice()));
    for (node, word, faults) in degraded.chain(cut) {
        said.entry((node, word, causes(faults))).or_insert((faults, 0)).1 += 1;
    }
    let since = now - LATELY;
    let mut told = Vec::new();
    for ((node, word, causes), (faults, count)) in said {
        let mut out = Vec::new();
        let mut is_true = false;
        // Its own uplinks, those of the node whose watcher looks at it, those of the node that its own watcher looks
        // at.
        let before = (node + nodes - 1) % nodes;
        let machines =
            [Machine::Node(node), Machine::Manager, Machine::Node(before), Machine::Node((node + 1) % nodes)];
        for machine in machines {
            for network in Network::ALL {
                let (flap, burst) = networks.outage(machine, network, since, now);
                is_true |= flap >= OUTAGE_LEAST && may_rest_on(word, faults, node, machine, network);
                for (kind, lasted) in [("flap", flap), ("burst", burst)] {
                    if !lasted.is_zero() {
                        out.push(format!("{kind} of {machine}/{network} {} ms", lasted.as_millis()));
                    }
                }
            }
        }
        let out = if out.is_empty() { "nothing".to_owned() } else { out.join(", ") };
        told.push(Told {
            count,
            is_true,
            line: format!("{now:?} n{node} x {count} {word:?}: {causes}; lately: {out}"),
        });
    }
    told
}

/// Returns whether what is said may rest on an outage of this uplink: the network that it names, of the node itself;
/// and for a cut, whatever carries the node's words to the managers.
fn may_rest_on(word: Word, faults: &[Fault], node: usize, machine: Machine, network: Network) -> bool {
    let names = |cause: &Cause| [Cause::NodeUplink(network), Cause::Network(network)].contains(cause);
    let named = faults.iter().flat_map(|fault| &fault.causes).any(|ranked| names(&ranked.cause));
    match machine {
        Machine::Node(own) => own == node && (named || word == Word::CutOff),
        Machine::Manager => word == Word::CutOff,
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
        let uplink = [Fault::sure(Cause::NodeUplink(Network::Service))];
        let degraded = |machine, network| may_rest_on(Word::Degraded, &uplink, 3, machine, network);
        assert!(degraded(Machine::Node(3), Network::Service));
        assert!(!degraded(Machine::Node(3), Network::Management));
        assert!(!degraded(Machine::Manager, Network::Service));
        assert!(!degraded(Machine::Node(2), Network::Service), "another node's");
        let service = [Fault::sure(Cause::Service("rdp".to_owned()))];
        assert!(!may_rest_on(Word::Degraded, &service, 3, Machine::Node(3), Network::Service));
        let agent = [Fault::sure(Cause::NodeAgent)];
        assert!(may_rest_on(Word::CutOff, &agent, 3, Machine::Manager, Network::Management));
    }
}
