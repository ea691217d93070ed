//! (c) SWIM as in memberlist: every member probes another each second, asks three others when that fails, suspects, and
//! calls dead after the suspicion timeout. Over the management network; VMs are what their node is.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::{Cause, Network, VmState};

use super::super::host::{Host, NodeNo, VmNo, m};
use super::super::network::{Draw, Lane};
use super::super::node::AgentState;
use super::super::sim::Sim;
use super::super::world::Size;
use super::{Baseline, Word};

/// How often each member probes one other (memberlist, DefaultLANConfig, ProbeInterval).
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a direct probe may take (memberlist, ProbeTimeout).
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// How many others are asked to probe (memberlist, IndirectChecks).
const INDIRECT: usize = 3;
/// How long a suspect has to be heard of again: SuspicionMult 4, times max(1, log10 of the members), times the interval.
const SUSPICION: Duration = Duration::from_secs(4);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Alive,
    Suspect { since: Duration },
    Dead,
}

/// The membership as the first manager sees it.
pub struct Swim {
    members: BTreeMap<NodeNo, Member>,
    probed: Duration,
    draw: Draw,
}

impl Swim {
    /// Returns a membership in which everybody is alive.
    pub fn new(seed: u64, size: Size) -> Self {
        let members = size.nodes().map(|node| (node, Member::Alive)).collect();
        Self { members, probed: Duration::ZERO, draw: Draw::of([seed, 0x5171]) }
    }

    fn answers(sim: &Sim, prober: Host, target: NodeNo, within: Duration) -> bool {
        let runs = |host| match host {
            Host::Node(no) => sim.node(no).read(|s| s.power && s.agent != AgentState::Killed),
            Host::Manager(_) | Host::Watcher(_) | Host::Vm(_) => true,
        };
        let trip = sim.network().round_trip(prober, Host::Node(target), Network::Management, Lane::Baseline);
        runs(prober) && runs(Host::Node(target)) && trip.is_some_and(|takes| takes < within)
    }
}

impl Baseline for Swim {
    fn step(&mut self, sim: &Sim, now: Duration) {
        if now.saturating_sub(self.probed) >= PROBE_INTERVAL {
            self.probed = now;
            let nodes: Vec<NodeNo> = self.members.keys().copied().collect();
            let observer = Host::Manager(m(1));
            // Each target is probed once per interval in the mean: here, by one prober that is drawn.
            for target in &nodes {
                let others: Vec<Host> =
                    nodes.iter().filter(|n| *n != target).map(|n| Host::Node(*n)).chain([observer]).collect();
                let Some(prober) = self.draw.pick(&others).copied() else { continue };
                let tells = prober == observer || sim.network().connects(prober, observer, Network::Management);
                if !tells {
                    continue;
                }
                let direct = Self::answers(sim, prober, *target, PROBE_TIMEOUT);
                let helpers = others.iter().filter(|h| **h != prober).take(INDIRECT);
                let indirect = helpers.filter(|h| sim.network().connects(prober, **h, Network::Management));
                let alive = direct || indirect.into_iter().any(|h| Self::answers(sim, *h, *target, PROBE_TIMEOUT));
                let Some(member) = self.members.get_mut(target) else { continue };
                *member = match (*member, alive) {
                    (_, true) => Member::Alive,
                    (Member::Alive, false) => Member::Suspect { since: now },
                    (suspect_or_dead, false) => suspect_or_dead,
                };
            }
        }
        for member in self.members.values_mut() {
            if matches!(member, Member::Suspect { since } if now.saturating_sub(*since) >= SUSPICION) {
                *member = Member::Dead;
            }
        }
    }

    fn says(&self, _sim: &Sim, _vm: VmNo, home: NodeNo) -> Word {
        match self.members.get(&home) {
            Some(Member::Dead) => Word { state: VmState::Down, cause: Some(Cause::Node) },
            Some(Member::Alive | Member::Suspect { .. }) | None => Word::up(),
        }
    }
}
