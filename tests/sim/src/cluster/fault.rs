//! [`Fault`]: one row of the table at one place. It changes the truth when it begins, while it lasts, and when it heals.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;
use vouch_types::{Command, ExitReason, FenceKind, ManagerId, Network, Operation, PauseReason, WallTime};

use super::agent;
use super::guest::{RESET_SHOWN, Run, ServiceState, SimVm, Stuck};
use super::host::{Host, NodeNo, RackNo, VmNo};
use super::network::{Condition, Element, Toward};
use super::node::AgentState;
use super::row::{PROOF_AFTER, Row, Strikes};
use super::sim::Sim;

/// How long a node takes to boot until its agent speaks.
const NODE_BOOT: Duration = Duration::from_secs(3);
/// How long a snapshot freezes the guest's file systems.
const FREEZE: Duration = Duration::from_secs(3);
/// When a migration stops the guest, and when it runs on the other node.
const MIGRATION: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_millis(1_650)];
/// A burst is this long, and begins this often.
const BURST: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];
/// A flapping link changes this often.
const FLAP: Duration = Duration::from_secs(5);
/// An hour.
const HOUR_MILLIS: i64 = 3_600_000;

/// Where a fault strikes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Subject {
    /// A node.
    Node(NodeNo),
    /// A VM.
    Vm(VmNo),
    /// A rack.
    Rack(RackNo),
    /// Everything.
    Cluster,
}

/// One row of the table at one place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// Which row.
    pub row: Row,
    /// Where.
    pub subject: Subject,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Node(no) => write!(f, "{}:{no}", self.row),
            Subject::Vm(no) => write!(f, "{}:{no}", self.row),
            Subject::Rack(no) => write!(f, "{}:{no}", self.row),
            Subject::Cluster => write!(f, "{}", self.row),
        }
    }
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (row, subject) = text.split_once(':').unwrap_or((text, ""));
        let row: Row = row.parse()?;
        let subject = match row.spec().strikes {
            Strikes::Node => Subject::Node(subject.parse()?),
            Strikes::Vm => Subject::Vm(subject.parse()?),
            Strikes::Rack => Subject::Rack(subject.parse()?),
            Strikes::Cluster if subject.is_empty() => Subject::Cluster,
            Strikes::Cluster => {
                return Err(format!("row {row}: it strikes everything, and {subject:?} cannot be named"));
            }
        };
        Ok(Self { row, subject })
    }
}

/// A fault that was begun and is not over.
#[derive(Debug)]
pub struct Active {
    /// Which.
    pub fault: Fault,
    key: u64,
    begun: Instant,
    phase: u64,
    manager: Option<ManagerId>,
}

fn restarted(vm: &mut SimVm) {
    let shown = Instant::now().checked_sub(RESET_SHOWN).unwrap_or_else(Instant::now);
    vm.run = Run::Booting { since: shown };
    vm.start += 1;
}

impl Fault {
    /// Returns the nodes that it strikes.
    pub fn nodes(&self, sim: &Sim) -> Vec<NodeNo> {
        let racks = sim.network().racks();
        match self.subject {
            Subject::Node(node) => vec![node],
            Subject::Vm(_) => Vec::new(),
            Subject::Rack(rack) => racks.iter().filter(|(_, r)| **r == rack).map(|(n, _)| *n).collect(),
            Subject::Cluster => racks.into_keys().collect(),
        }
    }

    /// Returns the VMs that it strikes.
    pub fn vms(&self, sim: &Sim) -> Vec<VmNo> {
        match self.subject {
            Subject::Vm(vm) => vec![vm],
            Subject::Node(_) | Subject::Rack(_) | Subject::Cluster => {
                let nodes = self.nodes(sim);
                let all = (1..=sim.world.size.vms()).map(VmNo);
                all.filter(|vm| sim.world.home(*vm).is_some_and(|home| nodes.contains(&home))).collect()
            }
        }
    }

    /// Begins it. `key` tells it from every other fault of the run.
    pub async fn begin(self, sim: &mut Sim, key: u64) -> Active {
        let mut active = Active { fault: self, key, begun: Instant::now(), phase: 0, manager: None };
        active.begin(sim).await;
        sim.world.touch();
        active
    }
}

impl Active {
    fn lay(&self, sim: &Sim, elements: impl IntoIterator<Item = Element>, condition: Condition) {
        sim.network().change(|topology| {
            elements.into_iter().for_each(|element| topology.set(element, self.key, condition));
        });
    }

    fn managers(sim: &Sim) -> Vec<ManagerId> {
        sim.world.size.managers().collect()
    }

    fn cut_from_managers(&self, sim: &Sim, node: NodeNo, directions: &[Toward]) {
        let between = Self::managers(sim).into_iter().flat_map(|manager| {
            let (a, b) = (Host::Node(node), Host::Manager(manager));
            directions.iter().map(move |toward| match toward {
                Toward::Out => Element::Between(a, b),
                Toward::In => Element::Between(b, a),
            })
        });
        self.lay(sim, between.collect::<Vec<_>>(), Condition::cut());
    }

    fn whole_network(sim: &Sim, network: Network) -> Vec<Element> {
        let racks: std::collections::BTreeSet<RackNo> = sim.network().racks().into_values().collect();
        racks.into_iter().map(|rack| Element::Rack(rack, network)).chain([Element::Core(network)]).collect()
    }

    fn uplinks(node: NodeNo, network: Network) -> [Element; 2] {
        [Element::Uplink(node, network, Toward::Out), Element::Uplink(node, network, Toward::In)]
    }

    fn cut_managers_from_others(&self, sim: &Sim, alone: ManagerId) {
        let others = Self::managers(sim).into_iter().filter(|m| *m != alone);
        let pairs = others.flat_map(|other| {
            let (a, b) = (Host::Manager(alone), Host::Manager(other));
            [Element::Between(a, b), Element::Between(b, a)]
        });
        self.lay(sim, pairs.collect::<Vec<_>>(), Condition::cut());
    }

    fn change_vm(&self, sim: &Sim, change: impl FnOnce(&mut SimVm)) {
        if let Subject::Vm(vm) = self.fault.subject {
            sim.world.change_vm(vm, change);
        }
    }

    async fn begin(&mut self, sim: &mut Sim) {
        let nodes = self.fault.nodes(sim);
        let first = nodes.first().copied();
        let now = Instant::now();
        let (management, service) = (Network::Management, Network::Service);
        match self.fault.row {
            Row::PathCut | Row::Heal | Row::Flap => {
                nodes.iter().for_each(|n| self.cut_from_managers(sim, *n, &[Toward::Out, Toward::In]));
            }
            Row::OneWayFrom => nodes.iter().for_each(|n| self.cut_from_managers(sim, *n, &[Toward::Out])),
            Row::OneWayTo => nodes.iter().for_each(|n| self.cut_from_managers(sim, *n, &[Toward::In])),
            Row::LeaderDeaf => {
                let leader = Host::Manager(sim.leader().await);
                let pairs = first
                    .map(Host::Node)
                    .into_iter()
                    .flat_map(|n| [Element::Between(n, leader), Element::Between(leader, n)]);
                self.lay(sim, pairs.collect::<Vec<_>>(), Condition::cut());
            }
            Row::AgentKilled => nodes.iter().for_each(|n| sim.node(*n).kill_agent()),
            Row::AgentWedged => nodes.iter().for_each(|n| sim.node(*n).change(|s| s.agent = AgentState::Wedged)),
            Row::HypervisorSilent => nodes.iter().for_each(|n| sim.node(*n).change(|s| s.hypervisor_answers = false)),
            Row::ProcessDead => self.change_vm(sim, |vm| vm.run = Run::Dead(ExitReason::Process)),
            Row::PanicTold => self.change_vm(sim, |vm| vm.run = Run::Panicked),
            Row::PanicSilent | Row::HangSpinning => {
                self.change_vm(sim, |vm| vm.run = Run::Hung { how: Stuck::Spinning, since: now });
            }
            Row::HangStill => self.change_vm(sim, |vm| vm.run = Run::Hung { how: Stuck::Still, since: now }),
            Row::IoError => self.change_vm(sim, |vm| vm.run = Run::Paused(PauseReason::IoError)),
            Row::Pause => self.change_vm(sim, |vm| vm.run = Run::Paused(PauseReason::Operator)),
            Row::Snapshot => self.change_vm(sim, |vm| vm.operation = Some(Operation::FsFreeze)),
            Row::Migration => self.change_vm(sim, |vm| vm.operation = Some(Operation::Migration)),
            Row::Reboot => self.change_vm(sim, |vm| vm.run = Run::Booting { since: now }),
            Row::NicDown => self.change_vm(sim, |vm| vm.broken.nic = true),
            Row::RdpStopped => self.change_vm(sim, |vm| vm.rdp = ServiceState::Stopped),
            Row::RdpWedged => self.change_vm(sim, |vm| vm.rdp = ServiceState::Wedged),
            Row::GuestAgentStopped => self.change_vm(sim, |vm| vm.broken.guest_agent = true),
            Row::PingDropped => self.change_vm(sim, |vm| vm.broken.ping = true),
            Row::MonitorCut => self.change_vm(sim, |vm| vm.broken.monitor = true),
            Row::PowerOff | Row::PowerOffProved | Row::WatcherNodeDead | Row::RackLost => {
                nodes.iter().for_each(|n| sim.node(*n).power_off());
                if let Subject::Rack(rack) = self.fault.subject {
                    self.lay(sim, Network::ALL.map(|network| Element::Rack(rack, network)), Condition::cut());
                }
            }
            Row::Isolated => nodes.iter().for_each(|n| {
                Network::ALL.iter().for_each(|network| self.lay(sim, Self::uplinks(*n, *network), Condition::cut()));
            }),
            Row::UplinkDead => {
                nodes.iter().for_each(|n| self.lay(sim, Self::uplinks(*n, management), Condition::cut()))
            }
            Row::StorageLost => nodes.iter().for_each(|n| {
                sim.node(*n).change(|s| {
                    s.vms
                        .values_mut()
                        .filter(|vm| vm.run == Run::Running)
                        .for_each(|vm| vm.run = Run::Paused(PauseReason::IoError));
                });
            }),
            Row::ManagementDown => self.lay(sim, Self::whole_network(sim, management), Condition::cut()),
            Row::ServiceDown => self.lay(sim, Self::whole_network(sim, service), Condition::cut()),
            Row::LossManagement => self.lay(sim, [Element::Core(management)], Condition::lossy(300)),
            Row::LossService => self.lay(sim, [Element::Core(service)], Condition::lossy(300)),
            Row::Bursts => {}
            Row::WatcherDead => {
                for node in nodes {
                    let running = sim.node(node).running_watchers();
                    running.into_iter().take(1).for_each(|watcher| sim.node(node).kill_watcher(watcher));
                }
            }
            Row::LeaderKilled => {
                let leader = sim.leader().await;
                sim.kill(leader).await;
            }
            Row::LeaderCut => {
                let leader = sim.leader().await;
                self.manager = Some(leader);
                self.cut_managers_from_others(sim, leader);
            }
            Row::MinorityCut => {
                let leader = sim.leader().await;
                if let Some(follower) = sim.managers.keys().copied().find(|id| *id != leader) {
                    self.manager = Some(follower);
                    self.cut_managers_from_others(sim, follower);
                }
            }
            Row::ClockJump => {
                let leader = sim.leader().await;
                if let Some(clock) = sim.clocks.get(&leader) {
                    clock.jump(HOUR_MILLIS);
                }
                self.manager = Some(leader);
            }
        }
    }

    /// Goes on with what happens while it lasts.
    pub fn step(&mut self, sim: &Sim) {
        let lasts = self.begun.elapsed();
        match self.fault.row {
            Row::Flap => {
                let phase = u64::try_from(lasts.as_millis() / FLAP.as_millis()).unwrap_or(0);
                if phase == self.phase {
                    return;
                }
                self.phase = phase;
                if phase % 2 == 1 {
                    sim.network().change(|topology| topology.clear(self.key));
                } else if let Subject::Node(node) = self.fault.subject {
                    self.cut_from_managers(sim, node, &[Toward::Out, Toward::In]);
                }
            }
            Row::Bursts => {
                let [long, every] = BURST;
                let in_burst = lasts.as_millis() % every.as_millis() < 400;
                if in_burst == (self.phase == 1) {
                    return;
                }
                self.phase = u64::from(in_burst);
                if in_burst {
                    let slow = Condition::slow(long, Duration::from_millis(200));
                    self.lay(sim, [Element::Core(Network::Management), Element::Core(Network::Service)], slow);
                } else {
                    sim.network().change(|topology| topology.clear(self.key));
                }
            }
            Row::Snapshot if self.phase == 0 && lasts >= FREEZE => {
                self.phase = 1;
                self.change_vm(sim, |vm| vm.operation = None);
            }
            Row::Migration => self.migrate(sim, lasts),
            Row::PowerOffProved if self.phase == 0 && lasts >= PROOF_AFTER => {
                self.phase = 1;
                self.prove(sim);
            }
            _ => return,
        }
        sim.world.touch();
    }

    fn migrate(&mut self, sim: &Sim, lasts: Duration) {
        let Subject::Vm(no) = self.fault.subject else { return };
        let Some(from) = sim.world.home(no) else { return };
        let others: Vec<NodeNo> = sim.world.nodes.keys().copied().filter(|n| *n != from).collect();
        let target = others.get(usize::from(from.0) % others.len().max(1)).copied();
        match self.phase {
            0 if lasts >= MIGRATION[0] => {
                self.phase = 1;
                self.change_vm(sim, |vm| vm.run = Run::Paused(PauseReason::Migration));
            }
            1 if lasts >= MIGRATION[1] => {
                self.phase = 2;
                let Some(target) = target else { return };
                let moved = sim.node(from).change(|state| state.vms.remove(&no));
                if let Some(mut vm) = moved {
                    vm.run = Run::Running;
                    vm.operation = None;
                    sim.node(target).change(|state| state.vms.insert(no, vm));
                    sim.network().place(Host::Vm(no), target);
                    sim.world.set_home(no, target);
                }
            }
            _ => {}
        }
    }

    fn prove(&self, sim: &Sim) {
        let Subject::Node(node) = self.fault.subject else { return };
        let node = sim.node(node);
        let command = Command::RecordFenceProof {
            node: node.id.clone(),
            boot: node.boot(),
            kind: FenceKind::PowerOff,
            note: "its power is off".to_owned(),
            at: WallTime::default(),
        };
        if let Some(manager) = sim.managers.values().next().cloned() {
            tokio::spawn(async move {
                if let Err(error) = manager.submit(command).await {
                    tracing::warn!(%error, "the proof was not recorded");
                }
            });
        }
    }

    /// Ends it: what it broke works again.
    pub fn heal(self, sim: &Sim) {
        sim.network().change(|topology| topology.clear(self.key));
        let nodes = self.fault.nodes(sim);
        match self.fault.row {
            Row::AgentKilled => nodes.iter().for_each(|n| agent::restart(&sim.world, sim.node(*n))),
            Row::AgentWedged => nodes.iter().for_each(|n| sim.node(*n).change(|s| s.agent = AgentState::Running)),
            Row::HypervisorSilent => nodes.iter().for_each(|n| sim.node(*n).change(|s| s.hypervisor_answers = true)),
            Row::ProcessDead => self.change_vm(sim, restarted),
            Row::PanicTold | Row::PanicSilent | Row::HangSpinning | Row::HangStill => {
                self.change_vm(sim, |vm| vm.run = Run::Booting { since: Instant::now() });
            }
            Row::IoError | Row::Pause => self.change_vm(sim, |vm| vm.run = Run::Running),
            Row::Snapshot => self.change_vm(sim, |vm| vm.operation = None),
            Row::NicDown => self.change_vm(sim, |vm| vm.broken.nic = false),
            Row::RdpStopped | Row::RdpWedged => self.change_vm(sim, |vm| vm.rdp = ServiceState::Serving),
            Row::GuestAgentStopped => self.change_vm(sim, |vm| vm.broken.guest_agent = false),
            Row::PingDropped => self.change_vm(sim, |vm| vm.broken.ping = false),
            Row::MonitorCut => self.change_vm(sim, |vm| vm.broken.monitor = false),
            Row::PowerOff | Row::PowerOffProved | Row::WatcherNodeDead | Row::RackLost => {
                nodes.into_iter().for_each(|n| power_on(sim, n));
            }
            Row::StorageLost => nodes.iter().for_each(|n| {
                sim.node(*n).change(|s| {
                    let stopped = s.vms.values_mut().filter(|vm| vm.run == Run::Paused(PauseReason::IoError));
                    stopped.for_each(|vm| vm.run = Run::Running);
                });
            }),
            Row::ClockJump => {
                if let Some(clock) = self.manager.and_then(|m| sim.clocks.get(&m)) {
                    clock.jump(-HOUR_MILLIS);
                }
            }
            Row::PathCut
            | Row::LeaderDeaf
            | Row::Migration
            | Row::Reboot
            | Row::Isolated
            | Row::ManagementDown
            | Row::ServiceDown
            | Row::WatcherDead
            | Row::LeaderKilled
            | Row::LeaderCut
            | Row::MinorityCut
            | Row::OneWayFrom
            | Row::OneWayTo
            | Row::LossManagement
            | Row::LossService
            | Row::Bursts
            | Row::Flap
            | Row::Heal
            | Row::UplinkDead => {}
        }
        sim.world.touch();
    }
}

fn power_on(sim: &Sim, no: NodeNo) {
    let (world, node) = (std::sync::Arc::clone(&sim.world), std::sync::Arc::clone(sim.node(no)));
    tokio::spawn(async move {
        tokio::time::sleep(NODE_BOOT).await;
        node.network.power_back(node.host());
        let vms = node.change(|state| {
            state.power = true;
            state.boot += 1;
            state.hears.clear();
            state.vms.values_mut().for_each(restarted);
            state.vms.keys().copied().collect::<Vec<_>>()
        });
        for vm in vms {
            node.network.power_back(Host::Vm(vm));
            node.network.process_started(Host::Vm(vm));
        }
        agent::restart(&world, &node);
    });
}
