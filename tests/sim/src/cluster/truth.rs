//! The truth of a simulation at one time, as the oracle needs it: which VM executes, who could see it, who is heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vouch_types::{ExitReason, ManagerId, Network, NodeId, VmState, WatcherId};

use super::guest::{Run, SimVm};
use super::host::{Host, NodeNo, VmNo};
use super::node::AgentState;
use super::sim::Sim;

/// The truth of one VM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmTruth {
    /// The node that it is on.
    pub home: NodeNo,
    /// Its vCPUs may execute.
    pub executes: bool,
    /// Its own node can prove that it does not run, or its node provably has no power.
    pub gone: bool,
    /// Its hypervisor could be heard saying that its process died or its kernel panicked.
    pub proof: bool,
    /// Some healthy observer reaches it, its node's relay, or is a watcher on its node.
    pub reached: bool,
    /// The states that may be said of it while everything about it is known.
    pub states: Vec<VmState>,
}

/// The truth of one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeTruth {
    /// It has power.
    pub power: bool,
    /// Some manager of the majority hears its agent.
    pub heard: bool,
}

/// The truth at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Truth {
    /// Of VMs.
    pub vms: BTreeMap<VmNo, VmTruth>,
    /// Of nodes.
    pub nodes: BTreeMap<NodeNo, NodeTruth>,
}

/// The truth over a run: each from a time on.
#[derive(Clone, Debug, Default)]
pub struct Truths(pub Vec<(Duration, Arc<Truth>)>);

impl Truths {
    /// Returns the truths that held at some time between two, both included.
    pub fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Truth> {
        let first = self.0.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        self.0[first.min(self.0.len())..].iter().take_while(move |(at, _)| *at <= to).map(|(_, truth)| &**truth)
    }
}

/// Who watches what, as recorded.
type Watching = Vec<(WatcherId, NodeNo, Vec<VmNo>)>;

fn watching(sim: &Sim) -> Watching {
    let of = |id: &NodeId| NodeNo::of(id);
    sim.read(|state| {
        let all = state.watchers().values();
        all.filter_map(|w| Some((w.id, of(&w.node)?, w.vms.iter().map(|vm| VmNo::of(*vm)).collect()))).collect()
    })
}

fn connects(sim: &Sim, a: Host, b: Host, networks: &[Network]) -> bool {
    networks.iter().any(|network| sim.network().connects(a, b, *network))
}

/// Returns the managers that can agree with a majority.
fn majority(sim: &Sim) -> Vec<ManagerId> {
    let living: Vec<ManagerId> = sim.managers.keys().copied().collect();
    let talks = |a: &&ManagerId| {
        let others =
            living.iter().filter(|b| *b == *a || connects(sim, Host::Manager(**a), Host::Manager(**b), &Network::ALL));
        others.count() as u64 * 2 > sim.world.size.managers
    };
    living.iter().filter(talks).copied().collect()
}

/// Returns the states that may be said of a VM whose truth is known.
pub fn states_of(vm: &SimVm, power: bool) -> Vec<VmState> {
    if !power {
        return vec![VmState::Lost, VmState::Down];
    }
    match vm.run {
        Run::Dead(_) | Run::Panicked => vec![VmState::Down],
        Run::Paused(_) => vec![VmState::Paused],
        Run::Booting { .. } => vec![VmState::Rebooting, VmState::Up, VmState::Degraded],
        Run::Hung { .. } => vec![VmState::Hung, VmState::Degraded],
        Run::Running if vm.broken.nic => vec![VmState::Degraded],
        Run::Running if vm.rdp != super::guest::ServiceState::Serving => vec![VmState::Degraded],
        Run::Running => vec![VmState::Up],
    }
}

impl Truth {
    /// Returns the truth as it is now.
    pub fn now(sim: &Sim) -> Self {
        let (managers, watching) = (majority(sim), watching(sim));
        let mut truth = Self::default();
        for (no, node) in &sim.world.nodes {
            let (power, agent) = node.read(|state| (state.power, state.agent));
            let talks = power && agent == AgentState::Running;
            let hears =
                |manager: &ManagerId| connects(sim, node.host(), Host::Manager(*manager), &[Network::Management]);
            let heard = talks && managers.iter().any(hears);
            truth.nodes.insert(*no, NodeTruth { power, heard });
            let running = node.running_watchers();
            let vms: Vec<SimVm> = node.read(|state| state.vms.values().cloned().collect());
            for vm in vms {
                let home = sim.world.home(vm.no).unwrap_or(*no);
                if home != *no {
                    continue;
                }
                let vouches = |(watcher, on, watched): &(WatcherId, NodeNo, Vec<VmNo>)| {
                    let own = Host::Watcher(*watcher);
                    let local = running.contains(watcher);
                    let elsewhere = sim.world.nodes.get(on).is_some_and(|n| n.running_watchers().contains(watcher));
                    let tells = managers.iter().any(|m| connects(sim, own, Host::Manager(*m), &Network::ALL));
                    let sees = watched.contains(&vm.no)
                        && (vm.is_on_network() && connects(sim, own, Host::Vm(vm.no), &[Network::Service])
                            || talks && connects(sim, own, node.host(), &[Network::Management]));
                    tells && (local || elsewhere && sees)
                };
                let reached = heard || power && watching.iter().any(vouches);
                let gone = !power || matches!(vm.run, Run::Dead(_));
                let proof = matches!(vm.run, Run::Dead(ExitReason::Process | ExitReason::Panic) | Run::Panicked);
                let executes = power && vm.executes();
                let states = states_of(&vm, power);
                truth.vms.insert(vm.no, VmTruth { home, executes, gone, proof, reached, states });
            }
        }
        truth
    }
}
