//! (a) The node's word alone: what its agent reports, and `down` when it has not reported for long.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Cause, Network, VmState};

use super::super::guest::{Run, SimVm};
use super::super::host::{Host, NodeNo, VmNo, m};
use super::super::node::AgentState;
use super::super::sim::Sim;
use super::super::world::Size;
use super::{Baseline, Word};

/// How often an agent reports (OpenStack Nova, `report_interval`, default 10 s).
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// How long a node that does not report is taken to live (OpenStack Nova, `service_down_time`, default 60 s).
const SERVICE_DOWN_TIME: Duration = Duration::from_secs(60);

/// The node's word alone.
pub struct NodeWord {
    reported: BTreeMap<NodeNo, Duration>,
    words: BTreeMap<VmNo, Word>,
    now: Duration,
}

impl NodeWord {
    /// Returns one that has heard everybody just now.
    pub fn new(size: Size) -> Self {
        let reported = size.nodes().map(|node| (node, Duration::ZERO)).collect();
        Self { reported, words: BTreeMap::new(), now: Duration::ZERO }
    }
}

/// What a hypervisor's life-cycle events and power states say.
fn word(vm: &SimVm) -> Word {
    match vm.run {
        Run::Dead(_) => Word { state: VmState::Down, cause: Some(Cause::VmProcess) },
        Run::Panicked => Word { state: VmState::Down, cause: Some(Cause::GuestOs) },
        Run::Paused(_) => Word { state: VmState::Paused, cause: None },
        Run::Running | Run::Booting { .. } | Run::Hung { .. } => Word::up(),
    }
}

impl Baseline for NodeWord {
    fn step(&mut self, sim: &Sim, now: Duration) {
        self.now = now;
        for (no, node) in &sim.world.nodes {
            let talks = node.read(|s| s.power && s.agent == AgentState::Running);
            if !talks || !sim.network().connects(node.host(), Host::Manager(m(1)), Network::Management) {
                continue;
            }
            let last = self.reported.entry(*no).or_default();
            if now.saturating_sub(*last) >= REPORT_INTERVAL {
                *last = now;
            }
            // Life-cycle events travel at once.
            self.words.extend(node.read(|s| {
                let known = s.vms.values().filter(|vm| s.hypervisor_answers && !vm.broken.monitor);
                known.map(|vm| (vm.no, word(vm))).collect::<Vec<_>>()
            }));
        }
    }

    fn says(&self, _sim: &Sim, vm: VmNo, home: NodeNo) -> Word {
        let last = self.reported.get(&home).copied().unwrap_or_default();
        if self.now.saturating_sub(last) > SERVICE_DOWN_TIME {
            return Word { state: VmState::Down, cause: Some(Cause::Node) };
        }
        self.words.get(&vm).cloned().unwrap_or_else(Word::up)
    }
}
