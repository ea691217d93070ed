//! Probes that operators assign to the VMs of a scope, beside those that the VMs' own files name.
//!
//! Closeness is that of policies, and a VM's file is closer than any scope: of several assignments of one probe over one
//! network the closest rules. A VM has at most [`PROBES_PER_VM_MAX`]; what goes beyond that is left out, the widest scope
//! first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::vm::PROBES_PER_VM_MAX;
use crate::{LogIndex, Network, NodeId, PolicyScope, ProbeAssignment, ProbeName, VmSpec};

/// The most probes that operators assign: each is one probe over one network to one scope.
pub const SCOPED_PROBES_MAX: usize = 256;
/// The shortest and the longest interval of an assignment, in milliseconds.
pub const ASSIGNED_INTERVAL_MS: (u64, u64) = (100, 3_600_000);
/// The shortest and the longest timeout of an assignment, in milliseconds.
pub const ASSIGNED_TIMEOUT_MS: (u64, u64) = (50, 60_000);

/// A probe that an operator assigns to the VMs of a scope.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScopedProbe {
    /// To which VMs.
    pub scope: PolicyScope,
    /// Which probe, over which network, with which settings.
    pub assignment: ProbeAssignment,
    /// How often it runs, in milliseconds; `None`: as policies say, else as it proposes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u64>,
    /// How long one run may take, in milliseconds; as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Who assigned it, as far as is known.
    pub by: String,
    /// The index at which it was last changed; set when it is applied.
    #[serde(default)]
    pub modified: LogIndex,
}

impl ScopedProbe {
    /// Returns what tells it from all others.
    pub fn key(&self) -> ScopedProbeKey {
        let ProbeAssignment { probe, network, .. } = &self.assignment;
        ScopedProbeKey { scope: self.scope.clone(), probe: probe.clone(), network: *network }
    }
}

/// What tells one assignment to a scope from all others, in the order of closeness.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ScopedProbeKey {
    /// To which VMs.
    pub scope: PolicyScope,
    /// Which probe.
    pub probe: ProbeName,
    /// Over which network.
    pub network: Network,
}

/// A probe that is run against one VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmProbe<'a> {
    /// Which, over which network, with which settings.
    pub assignment: &'a ProbeAssignment,
    /// The scope that it comes from; `None`: the VM's own file.
    pub scoped: Option<&'a ScopedProbe>,
}

/// How often a probe runs against one VM and how long a run may take, where that is not as the VM's policies say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeTimes {
    /// Which probe.
    pub probe: ProbeName,
    /// Over which network.
    pub network: Network,
    /// How often it runs.
    pub interval: Option<Duration>,
    /// How long one run may take.
    pub timeout: Option<Duration>,
}

/// Returns all probes that the file of a VM and scopes that cover it name, the closest first, each over each network once;
/// `scoped` stands in the order of its keys. Those beyond [`PROBES_PER_VM_MAX`] are not run.
pub fn named_for<'a>(scoped: &'a [ScopedProbe], vm: &'a VmSpec, node: &NodeId) -> Vec<VmProbe<'a>> {
    let mut named: Vec<VmProbe<'a>> = vm.probes.iter().map(|assignment| VmProbe { assignment, scoped: None }).collect();
    for closer in scoped.iter().rev().filter(|scoped| scoped.scope.covers(vm, node)) {
        let assignment = &closer.assignment;
        let is_named = |known: &VmProbe<'_>| {
            known.assignment.probe == assignment.probe && known.assignment.network == assignment.network
        };
        if !named.iter().any(is_named) {
            named.push(VmProbe { assignment, scoped: Some(closer) });
        }
    }
    named
}

/// Returns the probes that are run against a VM.
pub fn probes_of<'a>(scoped: &'a [ScopedProbe], vm: &'a VmSpec, node: &NodeId) -> Vec<VmProbe<'a>> {
    let mut named = named_for(scoped, vm, node);
    named.truncate(PROBES_PER_VM_MAX.max(vm.probes.len()));
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SortedMap, VmId};

    fn assignment(probe: &str, network: Network, settings: &str) -> ProbeAssignment {
        ProbeAssignment { probe: ProbeName::new(probe).expect("a name"), network, settings: settings.to_owned() }
    }

    fn scoped(scope: PolicyScope, assignment: ProbeAssignment) -> ScopedProbe {
        let (interval_ms, timeout_ms, by) = (None, None, String::new());
        ScopedProbe { scope, assignment, interval_ms, timeout_ms, by, modified: LogIndex::default() }
    }

    fn vm(probes: Vec<ProbeAssignment>) -> VmSpec {
        VmSpec {
            id: VmId::new(uuid::Uuid::from_u128(1)),
            name: "desk-1".to_owned(),
            addresses: SortedMap::new(),
            probes,
            labels: SortedMap::from([("pool".to_owned(), "gold".to_owned())]),
            datastore: None,
        }
    }

    fn settings(probes: &[VmProbe<'_>]) -> Vec<String> {
        probes.iter().map(|p| format!("{} {}", p.assignment.probe, p.assignment.settings)).collect()
    }

    #[test]
    fn the_closest_assignment_of_a_probe_over_a_network_rules_and_the_file_is_closer_than_all() {
        let node = NodeId::new("n1").expect("a name");
        let tag = PolicyScope::Tag { key: "pool".to_owned(), value: "gold".to_owned() };
        let of = |scope: PolicyScope, text: &str| scoped(scope, assignment("ssh", Network::Service, text));
        let mut all = vec![
            of(PolicyScope::Cluster, "cluster"),
            of(PolicyScope::Node(node.clone()), "node"),
            of(tag, "tag"),
            of(PolicyScope::Vm(vm(Vec::new()).id), "vm"),
        ];
        assert!(all.iter().map(ScopedProbe::key).is_sorted(), "the order of keys is that of closeness");
        let bare = vm(Vec::new());
        for closest in ["vm", "tag", "node", "cluster"] {
            assert_eq!(settings(&probes_of(&all, &bare, &node)), [format!("ssh {closest}")]);
            all.pop();
        }
        let own = vm(vec![assignment("ssh", Network::Service, "file")]);
        all.push(of(PolicyScope::Cluster, "cluster"));
        all.push(scoped(PolicyScope::Cluster, assignment("ssh", Network::Management, "other way")));
        assert_eq!(settings(&probes_of(&all, &own, &node)), ["ssh file", "ssh other way"]);
        let elsewhere = NodeId::new("n2").expect("a name");
        let on_node = [of(PolicyScope::Node(node), "node")];
        assert!(probes_of(&on_node, &bare, &elsewhere).is_empty());
    }

    #[test]
    fn a_vm_has_so_many_probes_and_the_widest_are_left_out() {
        let node = NodeId::new("n1").expect("a name");
        let own =
            vm((0..PROBES_PER_VM_MAX - 1).map(|n| assignment(&format!("p{n}"), Network::Service, "{}")).collect());
        let wide = scoped(PolicyScope::Cluster, assignment("wide", Network::Service, "{}"));
        let close = scoped(PolicyScope::Vm(own.id), assignment("close", Network::Service, "{}"));
        let all = [wide, close];
        assert_eq!(named_for(&all, &own, &node).len(), PROBES_PER_VM_MAX + 1);
        let run = probes_of(&all, &own, &node);
        assert_eq!(run.len(), PROBES_PER_VM_MAX);
        assert_eq!(run.last().map(|p| p.assignment.probe.as_str()), Some("close"));
    }
}
