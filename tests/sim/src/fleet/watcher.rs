//! A watcher VM: the real logic, with its streams and its machine as models.

use vouch_types::{
    AssignmentGeneration, Digest, Incarnation, LogIndex, ManagerId, Moment, Network, ProbeAssignment, SortedMap, Term,
    Timing, VmId, WatcherId,
};
use vouch_watcher::logic::{Logic, RunLimit, SessionId};
use vouch_wire::convert::{AssignedProbe, Assignment, Fence, RelayTarget, Target};
use vouch_wire::links::ManagerEndpoint;
use vouch_wire::proto;

use super::echoes;
use super::network::{Machine, Path, slot};
use super::outcome::{node_name, node_of};
use super::stream::SimStream;

/// A stream of a watcher to the manager.
#[derive(Debug)]
pub(crate) struct WatcherStream {
    pub(crate) id: SessionId,
    pub(crate) up: SimStream,
    pub(crate) down: SimStream,
}

/// A watcher VM.
pub(crate) struct SimWatcher {
    pub(crate) id: WatcherId,
    pub(crate) incarnation: Incarnation,
    pub(crate) generation: AssignmentGeneration,
    /// The node that it runs on.
    pub(crate) node: usize,
    /// What it watches.
    pub(crate) vms: Vec<VmId>,
    pub(crate) logic: Logic,
    pub(crate) streams: [Option<WatcherStream>; 2],
    /// When it is to be woken next, as far as it is planned.
    pub(crate) wake: Option<Moment>,
    sessions: u64,
}

impl SimWatcher {
    pub(crate) fn new(
        id: WatcherId,
        incarnation: Incarnation,
        generation: AssignmentGeneration,
        node: usize,
        vms: Vec<VmId>,
        timing: &Timing,
    ) -> Self {
        let logic = Logic::new(id, incarnation, timing.clone(), RunLimit::LEAST);
        Self { id, incarnation, generation, node, vms, logic, streams: [None, None], wake: None, sessions: 0 }
    }

    /// Returns the way of its messages to the manager.
    pub(crate) fn up(&self, network: Network) -> Path {
        Path { from: Machine::Node(self.node), to: Machine::Manager, network }
    }

    /// Returns the way of the manager's messages to it.
    pub(crate) fn down(&self, network: Network) -> Path {
        Path { from: Machine::Manager, to: Machine::Node(self.node), network }
    }

    /// A stream stands; returns its number and where it leads.
    pub(crate) fn opened(&mut self, network: Network) -> (SessionId, ManagerEndpoint) {
        self.sessions += 1;
        let id = SessionId(self.sessions);
        let stream = WatcherStream { id, up: SimStream::default(), down: SimStream::default() };
        self.streams[slot(network)] = Some(stream);
        (id, ManagerEndpoint { manager: ManagerId::new(1), network, address: ([127, 0, 0, 1], 7441).into() })
    }

    /// Returns the network of an open stream.
    pub(crate) fn network_of(&self, session: SessionId) -> Option<Network> {
        Network::ALL.into_iter().find(|n| self.streams[slot(*n)].as_ref().is_some_and(|s| s.id == session))
    }

    /// Returns the assignment as the manager sends it.
    pub(crate) fn assignment(&self, nodes: usize, probes: &[ProbeAssignment]) -> proto::Assignment {
        let targets = self.vms.iter().map(|vm| Target {
            vm: *vm,
            node: node_name(node_of(*vm, nodes)),
            addresses: Network::ALL.into_iter().map(|n| (n, vec![[10, 0, 0, 1].into()])).collect(),
            probes: probes.iter().cloned().map(Into::into).collect(),
            labels: SortedMap::new(),
            probe_interval: None,
            probe_timeout: None,
        });
        let own: std::collections::BTreeSet<_> = self.vms.iter().map(|vm| node_of(*vm, nodes)).collect();
        let relays = own.into_iter().map(|node| RelayTarget {
            node: node_name(node),
            address: ([127, 0, 0, 1], 7443).into(),
            grant: proto::Signed::default(),
        });
        (&Assignment {
            fence: Fence { term: Term::new(1), log_index: LogIndex::new(1) },
            generation: self.generation,
            targets: targets.collect(),
            relays: relays.collect(),
            probes: probes
                .iter()
                .map(|p| (p.probe.clone(), AssignedProbe { digest: Digest::new([1; 32]), grant: None }))
                .collect(),
            peers: echoes::peers(self.node, nodes),
        })
            .into()
    }
}
