//! A scripted node: reports its VMs to every manager, answers watchers through its relay, and runs watchers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use vouch_types::{
    BootId, Generation, HypervisorState, Incarnation, ManagerId, Network, NodeId, Nonce, Sequence, StartId, Statement,
    TickSequence, Timing, VmId, VmSpec, WatcherId,
};
use vouch_wire::convert::{CreateWatcher, NodeHello, NodeReport, VmReport, ownership};
use vouch_wire::links::Session;
use vouch_wire::proto;
use vouch_wire::sign::StatementSigner;

use super::network::{Part, SimNetwork};
use super::watcher;

/// How long a node waits before it dials a manager again.
pub const REDIAL: Duration = Duration::from_millis(200);

/// What a node has in memory.
pub struct NodeState {
    /// Its VMs and what their hypervisor says.
    pub vms: BTreeMap<VmId, (VmSpec, HypervisorState)>,
    generations: BTreeMap<VmId, Generation>,
    watchers: BTreeMap<WatcherId, (HypervisorState, Option<JoinHandle<()>>)>,
    sequence: u64,
}

/// A scripted node.
pub struct SimNode {
    /// Its name.
    pub id: NodeId,
    /// Its managers.
    pub managers: Vec<ManagerId>,
    /// Timing of the cluster.
    pub timing: Timing,
    /// The network.
    pub network: Arc<SimNetwork>,
    /// What it has in memory.
    pub state: Mutex<NodeState>,
    /// All nodes, for watchers that look for relays.
    pub all: Arc<Mutex<BTreeMap<NodeId, Arc<SimNode>>>>,
    number: u128,
    signer: StatementSigner,
}

impl SimNode {
    /// Starts a node that runs these VMs.
    pub fn start(
        id: &str,
        number: u128,
        timing: &Timing,
        network: &Arc<SimNetwork>,
        all: &Arc<Mutex<BTreeMap<NodeId, Arc<SimNode>>>>,
        vms: Vec<VmSpec>,
    ) -> Arc<Self> {
        let node = Arc::new(Self {
            id: NodeId::new(id).unwrap(),
            managers: (1..=3).map(ManagerId::new).collect(),
            timing: timing.clone(),
            network: Arc::clone(network),
            state: Mutex::new(NodeState {
                vms: vms.into_iter().map(|spec| (spec.id, (spec, HypervisorState::Running))).collect(),
                generations: BTreeMap::new(),
                watchers: BTreeMap::new(),
                sequence: 0,
            }),
            all: Arc::clone(all),
            number,
            signer: StatementSigner::generate(&ring::rand::SystemRandom::new()).unwrap(),
        });
        all.lock().unwrap().insert(node.id.clone(), Arc::clone(&node));
        for manager in node.managers.clone() {
            tokio::spawn(Arc::clone(&node).talk_to(manager));
        }
        node
    }

    /// Returns its end of links.
    pub fn part(&self) -> Part {
        Part::Node(self.id.clone())
    }

    /// Returns the watchers that run on it.
    pub fn running_watchers(&self) -> Vec<WatcherId> {
        let state = self.state.lock().unwrap();
        state.watchers.iter().filter(|(_, (s, _))| *s == HypervisorState::Running).map(|(w, _)| *w).collect()
    }

    /// Kills the process of a watcher.
    pub fn kill_watcher(&self, watcher: WatcherId) {
        let mut state = self.state.lock().unwrap();
        let entry = state.watchers.get_mut(&watcher).unwrap();
        entry.0 = HypervisorState::Gone(vouch_types::ExitReason::Process);
        entry.1.take().unwrap().abort();
    }

    /// Returns signed statements on these VMs, as its relay gives them.
    pub fn statements(&self, vms: &[VmId], nonce: Nonce) -> Vec<proto::Signed> {
        let mut state = self.state.lock().unwrap();
        let mut out = Vec::new();
        for vm in vms {
            let Some((_, hypervisor)) = state.vms.get(vm) else { continue };
            let statement = Statement {
                progress: vouch_types::Progress::Unknown,
                node: self.id.clone(),
                boot: self.boot(),
                incarnation: Incarnation::new(1),
                vm: *vm,
                generation: state.generations.get(vm).copied().unwrap_or_default(),
                start: StartId::new(1),
                sequence: Sequence::new(state.sequence + 1),
                nonce,
                state: *hypervisor,
            };
            state.sequence += 1;
            out.push(self.signer.sign(&statement));
        }
        out
    }

    fn boot(&self) -> BootId {
        BootId::new(uuid::Uuid::from_u128(self.number))
    }

    fn hello(&self) -> NodeHello {
        NodeHello {
            boot: self.boot(),
            incarnation: Incarnation::new(1),
            statement_key: self.signer.public_key(),
            relay: "127.0.0.1:7002".parse().unwrap(),
            rack: None,
            driver: "local".to_owned(),
            hosts_watchers: true,
            network: Network::Management,
        }
    }

    fn report(&self, tick: TickSequence, full: bool) -> proto::NodeReport {
        let mut state = self.state.lock().unwrap();
        state.sequence += 1;
        let vms = state.vms.values().map(|(spec, hypervisor)| VmReport {
            operation: None,
            progress: vouch_types::Progress::Unknown,
            vm: spec.id,
            generation: state.generations.get(&spec.id).copied().unwrap_or_default(),
            start: StartId::new(1),
            state: *hypervisor,
            spec: full.then(|| spec.clone()),
            counters: None,
            links: BTreeMap::new(),
        });
        let report = NodeReport {
            hypervisor_silent: false,
            sequence: Sequence::new(state.sequence),
            tick,
            age: Duration::ZERO,
            full,
            vms: vms.collect(),
            watchers: state.watchers.iter().map(|(w, (s, _))| (*w, *s)).collect(),
        };
        (&report).into()
    }

    async fn talk_to(self: Arc<Self>, manager: ManagerId) {
        loop {
            if let Ok(served) = self.network.reach(&self.part(), manager) {
                let (mine, theirs) = self.network.stream(&self.part(), &Part::Manager(manager));
                served.manager.node_session(self.id.clone(), theirs).await;
                self.session(mine).await;
            }
            tokio::time::sleep(REDIAL).await;
        }
    }

    async fn session(self: &Arc<Self>, session: Session<proto::ToNode, proto::FromNode>) {
        use proto::to_node::Message;
        let Session { outbound, mut inbound } = session;
        let from = |message| proto::FromNode { message: Some(message) };
        let hello = proto::from_node::Message::Hello((&self.hello()).into());
        if outbound.send(from(hello)).await.is_err() {
            return;
        }
        let mut tick = TickSequence::default();
        let mut full = true;
        let mut interval = tokio::time::interval(self.timing.report_interval);
        loop {
            tokio::select! {
                biased;
                message = inbound.recv() => match message.and_then(Result::ok).map(|m| m.message) {
                    None => return,
                    Some(Some(Message::Tick(t))) => {
                        let first = tick == TickSequence::default();
                        tick = TickSequence::new(t.sequence);
                        if first {
                            interval.reset_immediately();
                        }
                    }
                    Some(Some(Message::Ownership(owned))) => {
                        self.state.lock().unwrap().generations = ownership(owned).unwrap().1;
                    }
                    Some(Some(Message::CreateWatcher(order))) => self.create(order.try_into().unwrap()),
                    Some(Some(Message::DestroyWatcher(order))) => {
                        let watcher = WatcherId::new(order.watcher);
                        if let Some((_, Some(task))) = self.state.lock().unwrap().watchers.remove(&watcher) {
                            task.abort();
                        }
                    }
                    Some(Some(Message::Resync(_))) => full = true,
                    Some(Some(Message::Welcome(_)) | None) => {}
                },
                _ = interval.tick() => {
                    if tick != TickSequence::default() {
                        let report = proto::from_node::Message::Report(self.report(tick, full));
                        full = false;
                        if outbound.send(from(report)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn create(self: &Arc<Self>, order: CreateWatcher) {
        let mut state = self.state.lock().unwrap();
        state.watchers.entry(order.watcher).or_insert_with(|| {
            let task = tokio::spawn(watcher::run(Arc::clone(self), order.watcher, order.secret));
            (HypervisorState::Running, Some(task))
        });
    }
}
