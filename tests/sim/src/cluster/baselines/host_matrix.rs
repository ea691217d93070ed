//! (b) A matrix of host checks over two networks, in the manner of Masakari's Consul driver: a host is dead when it is
//! dead on every network; on one alone, the network is named. VMs are what their hosts are, and what their monitor says.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Cause, Network, VmState};

use super::super::guest::Run;
use super::super::host::{Host, NodeNo, VmNo, m};
use super::super::network::Lane;
use super::super::node::AgentState;
use super::super::sim::Sim;
use super::super::world::Size;
use super::{Baseline, Word};

/// How often each host is checked over each network (Consul's LAN gossip, `probe_interval`, default 1 s).
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Failures in a row before a network counts as dead for a host: Consul's suspicion of 4 s at this size.
const FAILURES: u32 = 5;
/// How often the matrix is looked up (Masakari, `monitoring_interval`, default 60 s; 10 s is generous).
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// The matrix.
pub struct HostMatrix {
    failures: BTreeMap<(NodeNo, Network), u32>,
    verdicts: BTreeMap<NodeNo, Word>,
    dead_vms: BTreeMap<VmNo, Word>,
    checked: Duration,
    looked: Duration,
}

impl HostMatrix {
    /// Returns one that has seen everybody.
    pub fn new(size: Size) -> Self {
        let all = size.nodes().flat_map(|node| Network::ALL.map(|network| ((node, network), 0)));
        let (checked, looked) = (Duration::ZERO, Duration::ZERO);
        Self { failures: all.collect(), verdicts: BTreeMap::new(), dead_vms: BTreeMap::new(), checked, looked }
    }

    fn is_dead(&self, node: NodeNo, network: Network) -> bool {
        self.failures.get(&(node, network)).is_some_and(|n| *n >= FAILURES)
    }
}

impl Baseline for HostMatrix {
    fn step(&mut self, sim: &Sim, now: Duration) {
        if now.saturating_sub(self.checked) >= CHECK_INTERVAL {
            self.checked = now;
            for ((node, network), failures) in &mut self.failures {
                let answers = sim.node(*node).read(|s| s.power && s.agent != AgentState::Killed);
                let trip = sim.network().round_trip(Host::Manager(m(1)), Host::Node(*node), *network, Lane::Baseline);
                let good = answers && trip.is_some_and(|takes| takes < CHECK_INTERVAL / 2);
                *failures = if good { 0 } else { *failures + 1 };
            }
        }
        if now.saturating_sub(self.looked) < LOOK_INTERVAL {
            return;
        }
        self.looked = now;
        for (no, node) in &sim.world.nodes {
            let (management, service) = (self.is_dead(*no, Network::Management), self.is_dead(*no, Network::Service));
            let word = match (management, service) {
                (true, true) => Word { state: VmState::Down, cause: Some(Cause::Node) },
                (true, false) => Word { state: VmState::Up, cause: Some(Cause::NodeUplink(Network::Management)) },
                (false, true) => Word { state: VmState::Up, cause: Some(Cause::NodeUplink(Network::Service)) },
                (false, false) => Word::up(),
            };
            self.verdicts.insert(*no, word);
            // Masakari's instance monitor tells life-cycle events of the hypervisor, while its host is reached.
            if !management {
                self.dead_vms.extend(node.read(|s| {
                    let words = s.vms.values().map(|vm| {
                        let dead = matches!(vm.run, Run::Dead(_) | Run::Panicked);
                        let word = Word { state: VmState::Down, cause: Some(Cause::VmProcess) };
                        (vm.no, if dead { word } else { Word::up() })
                    });
                    words.collect::<Vec<_>>()
                }));
            }
        }
    }

    fn says(&self, _sim: &Sim, vm: VmNo, home: NodeNo) -> Word {
        match self.verdicts.get(&home) {
            Some(word) if *word != Word::up() => word.clone(),
            Some(_) | None => self.dead_vms.get(&vm).cloned().unwrap_or_else(Word::up),
        }
    }
}
