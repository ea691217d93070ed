//! What a node's agent says to managers and, through its relay, to watchers: real messages about the truth of the node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use vouch_types::{
    Grant, HypervisorState, Incarnation, ManagerId, Network, Nonce, Progress, Sequence, StartId, Statement,
    TickSequence, VmId, WatcherId,
};
use vouch_wire::convert::{CreateWatcher, NodeHello, NodeReport, VmReport, cluster_id, ownership};
use vouch_wire::links::{Caller, LinkError, Session};
use vouch_wire::proto;
use vouch_wire::sign::verify_grant;

use super::echoes;
use super::guest::SimVm;
use super::heartbeats::Heartbeats;
use super::network::Lane;
use super::node::{AgentState, NodeState, SimNode, WatcherVm};
use super::watcher;
use super::world::World;

/// How long after a failed attempt the next one begins (`node`, REDIAL_EVERY).
const REDIAL: Duration = Duration::from_millis(300);
/// How long a manager may be silent (`node`, SILENCE_MIN).
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// How often everything is told again (`node`, FULL_EVERY).
const FULL_EVERY: Duration = Duration::from_secs(10);
/// How long a question to a relay may take.
const RELAY_TIMEOUT: Duration = Duration::from_millis(350);
/// Ticks for which a manager counts as heard after the last one.
const TICKS_HEARD: u32 = 5;
/// Why a VM's agent is not asked.
const NO_MONITOR: &str = "the monitor does not answer";

/// Starts the agent of a node.
pub fn start(world: &Arc<World>, node: &Arc<SimNode>) {
    node.network.process_started(node.host());
    let mut tasks = Vec::new();
    for manager in world.size.managers() {
        let heartbeats = Heartbeats::new(node, manager);
        let (world, node) = (Arc::clone(world), Arc::clone(node));
        let every = world.timing.heartbeat_interval;
        tasks.push(tokio::spawn(heartbeats.clone().run(every)).abort_handle());
        tasks.push(tokio::spawn(talk_to(world, node, manager, heartbeats)).abort_handle());
    }
    node.change(|state| {
        state.agent = AgentState::Running;
        state.tasks = tasks;
    });
}

/// Starts the agent of a node again, as another life of it.
pub fn restart(world: &Arc<World>, node: &Arc<SimNode>) {
    node.note(|state| state.incarnation += 1);
    start(world, node);
}

async fn talk_to(world: Arc<World>, node: Arc<SimNode>, manager: ManagerId, heartbeats: Heartbeats) {
    loop {
        if let Ok(served) = node.network.dial(node.host(), manager, Network::Management).await {
            let other = super::host::Host::Manager(manager);
            let (mine, theirs) = node.network.stream(node.host(), other, Network::Management);
            if served.manager.node_session(Caller::without_tls(node.id.clone()), theirs).await.is_ok() {
                AgentSession::new(&world, &node, manager, &heartbeats).run(mine).await;
            }
        }
        tokio::time::sleep(REDIAL).await;
    }
}

struct AgentSession<'a> {
    world: &'a Arc<World>,
    node: &'a Arc<SimNode>,
    manager: ManagerId,
    heartbeats: &'a Heartbeats,
    tick: TickSequence,
    told: BTreeMap<VmId, VmReport>,
    full_at: Instant,
}

impl<'a> AgentSession<'a> {
    fn new(world: &'a Arc<World>, node: &'a Arc<SimNode>, manager: ManagerId, heartbeats: &'a Heartbeats) -> Self {
        let (tick, told) = (TickSequence::default(), BTreeMap::new());
        Self { world, node, manager, heartbeats, tick, told, full_at: Instant::now() }
    }

    async fn run(mut self, session: Session<proto::ToNode, proto::FromNode>) {
        let Session { outbound, mut inbound } = session;
        let from = |message| proto::FromNode { message: Some(message) };
        let hello = proto::from_node::Message::Hello((&hello(self.node)).into());
        if outbound.try_send(from(hello)).is_err() {
            return;
        }
        let mut changed = self.node.follow();
        let mut interval = tokio::time::interval(self.world.timing.report_interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let report_now = tokio::select! {
                biased;
                message = inbound.recv() => match message {
                    Some(Ok(message)) => {
                        heard = Instant::now();
                        self.hear(message)
                    }
                    Some(Err(_)) | None => return,
                },
                () = changed.changed() => true,
                _ = interval.tick() => true,
                () = sleep_until(heard + SILENCE_MAX) => return,
            };
            Heartbeats::note_read(self.node);
            let wedged = self.node.read(|state| state.agent == AgentState::Wedged);
            if !report_now || wedged || self.tick == TickSequence::default() {
                continue;
            }
            let report = proto::from_node::Message::Report(self.report());
            if outbound.try_send(from(report)).is_err() {
                return;
            }
        }
    }

    /// Takes a manager's message. Returns whether a report is due at once.
    fn hear(&mut self, message: proto::ToNode) -> bool {
        use proto::to_node::Message;
        let Some(message) = message.message else { return false };
        match message {
            Message::Tick(tick) => {
                let first = self.tick == TickSequence::default();
                self.tick = TickSequence::new(tick.sequence);
                self.node.hears(self.manager, self.world.timing.tick_interval * TICKS_HEARD);
                first
            }
            Message::Ownership(owned) => {
                let generations = ownership(owned).expect("managers keep the contract").1;
                self.node.note(|state| state.generations = generations);
                false
            }
            Message::CreateWatcher(order) => {
                self.create(order.try_into().expect("managers keep the contract"));
                true
            }
            Message::DestroyWatcher(order) => {
                let watcher = WatcherId::new(order.watcher);
                let gone = self.node.note(|state| state.watchers.remove(&watcher));
                if let Some(running) = gone.and_then(|vm| vm.running) {
                    running.abort();
                    self.node.network.power_lost(super::host::Host::Watcher(watcher));
                }
                true
            }
            Message::Resync(_) => {
                self.told.clear();
                true
            }
            Message::Welcome(welcome) => {
                self.heartbeats.agree(welcome.incarnation, welcome.heartbeats);
                let cluster = cluster_id("welcome.cluster", &welcome.cluster).expect("managers keep the contract");
                self.node.note(|state| state.cluster = Some((cluster, welcome.grant_public_key)));
                false
            }
        }
    }

    fn create(&self, order: CreateWatcher) {
        self.node.change(|state| {
            state.watchers.entry(order.watcher).or_insert_with(|| {
                let (world, node) = (Arc::clone(self.world), Arc::clone(self.node));
                node.network.place(super::host::Host::Watcher(order.watcher), node.no);
                let task = tokio::spawn(watcher::run(world, order.watcher, order.secret));
                WatcherVm { state: HypervisorState::Running, running: Some(task.abort_handle()) }
            });
        });
    }

    fn report(&mut self) -> proto::NodeReport {
        let node = self.node;
        node.note(|state| {
            state.sequence += 1;
            let now: BTreeMap<VmId, VmReport> =
                state.vms.values().map(|vm| (vm.spec.id, vm_report(state, vm))).collect();
            let same_vms = self.told.len() == now.len() && now.keys().all(|vm| self.told.contains_key(vm));
            let full = !same_vms || Instant::now() >= self.full_at;
            if full {
                self.full_at = Instant::now() + FULL_EVERY;
            }
            let changed = now.iter().filter(|(vm, report)| full || self.told.get(vm) != Some(report));
            let vms = changed.map(|(_, report)| {
                let mut report = report.clone();
                if full {
                    let vm = state.vms.values().find(|vm| vm.spec.id == report.vm);
                    report.spec = vm.map(|vm| vm.spec.clone());
                }
                report
            });
            let report = NodeReport {
                hypervisor_silent: !state.hypervisor_answers,
                sequence: Sequence::new(state.sequence),
                tick: self.tick,
                age: Duration::ZERO,
                full,
                vms: vms.collect(),
                watchers: state.watchers.iter().map(|(id, vm)| (*id, vm.state)).collect(),
                legs: state.watchers.keys().map(|id| (*id, echoes::legs(*id))).collect(),
            };
            self.told = now;
            (&report).into()
        })
    }
}

fn hello(node: &SimNode) -> NodeHello {
    let relay: SocketAddr = ([10, 1, 1, u8::try_from(node.no.0).unwrap_or(u8::MAX)], 7002).into();
    NodeHello {
        boot: node.boot(),
        incarnation: Incarnation::new(node.read(|state| state.incarnation)),
        statement_key: node.signer.public_key(),
        relay,
        rack: Some(node.rack.to_string()),
        driver: "qemu".to_owned(),
        hosts_watchers: true,
        network: Network::Management,
    }
}

/// What the node's hypervisor says of a VM; nothing while its service does not answer.
fn hypervisor_word(state: &NodeState, vm: &SimVm) -> (HypervisorState, Progress) {
    if state.hypervisor_answers {
        (vm.hypervisor_state(), vm.progress())
    } else {
        (HypervisorState::Unknown, Progress::Unknown)
    }
}

fn vm_report(state: &NodeState, vm: &SimVm) -> VmReport {
    let (word, progress) = hypervisor_word(state, vm);
    VmReport {
        vm: vm.spec.id,
        generation: state.generations.get(&vm.spec.id).copied().unwrap_or_default(),
        start: StartId::new(vm.start),
        state: word,
        spec: None,
        counters: None,
        links: BTreeMap::from([(Network::Service, !vm.broken.nic)]),
        progress,
        operation: vm.operation.filter(|_| state.hypervisor_answers && !vm.broken.monitor),
    }
}

/// Returns signed statements on these VMs, as its relay gives them.
fn statements(node: &SimNode, vms: &[VmId], nonce: Nonce) -> Vec<proto::Signed> {
    let boot = node.boot();
    let statements: Vec<Statement> = node.note(|state| {
        let mut out = Vec::new();
        for vm in vms {
            let Some(found) = state.vms.values().find(|v| v.spec.id == *vm) else { continue };
            let (word, progress) = hypervisor_word(state, found);
            // One that could not be read gets no statement.
            if word == HypervisorState::Unknown {
                continue;
            }
            let start = StartId::new(found.start);
            state.sequence += 1;
            out.push(Statement {
                progress,
                node: node.id.clone(),
                boot,
                incarnation: Incarnation::new(state.incarnation),
                vm: *vm,
                generation: state.generations.get(vm).copied().unwrap_or_default(),
                start,
                sequence: Sequence::new(state.sequence),
                nonce,
                state: word,
            });
        }
        out
    });
    statements.iter().map(|statement| node.signer.sign(statement)).collect()
}

/// Checks a grant offline, as the relay does, and returns its VMs.
fn granted(node: &SimNode, watcher: WatcherId, grant: Option<&proto::Signed>) -> Result<Vec<VmId>, LinkError> {
    let refused = |why: &str| LinkError::Refused(why.to_owned());
    let signed = grant.ok_or_else(|| refused("the request carries no grant"))?;
    node.note(|state| {
        let (cluster, key) = state.cluster.as_ref().ok_or_else(|| refused("this node knows no cluster yet"))?;
        let grant = verify_grant_once(&mut state.checked, signed, key).map_err(|e| refused(&e))?;
        if grant.cluster != *cluster || grant.watcher != watcher || grant.node != node.id {
            return Err(refused("the grant is for somebody else"));
        }
        let highest = state.grants.entry(watcher).or_default();
        if grant.generation < *highest {
            return Err(refused("a later assignment has replaced the grant"));
        }
        *highest = grant.generation;
        Ok(grant.vms)
    })
}

/// Checks a grant's signature. One that was found good once is good: checking it a thousand times more is what a
/// simulation would spend its time on.
fn verify_grant_once(
    checked: &mut BTreeMap<Vec<u8>, Grant>,
    signed: &proto::Signed,
    key: &[u8],
) -> Result<Grant, String> {
    let whole = [signed.signature.as_slice(), signed.payload.as_slice()].concat();
    if let Some(grant) = checked.get(&whole) {
        return Ok(grant.clone());
    }
    let grant = verify_grant(signed, key).map_err(|e| e.to_string())?;
    checked.insert(whole, grant.clone());
    Ok(grant)
}

/// A watcher asks a node's relay for statements.
///
/// # Errors
/// As for `RelayLink::state`.
pub async fn relay_state(
    node: &SimNode,
    watcher: WatcherId,
    request: proto::StateRequest,
) -> Result<proto::StateResponse, LinkError> {
    let nonce = Nonce::new(request.nonce);
    let answer = || {
        let vms = granted(node, watcher, request.grant.as_ref())?;
        // What nobody asked for is told to nobody: signing it would be for nothing.
        let statements = if nonce == Nonce::default() { Vec::new() } else { statements(node, &vms, nonce) };
        let hears = node.read(|state| {
            let heard = state.hears.iter().filter(|(_, until)| **until > Instant::now());
            heard.map(|(manager, _)| manager.get()).collect()
        });
        Ok(proto::StateResponse { statements, hears })
    };
    ask_relay(node, watcher, RELAY_TIMEOUT, answer).await
}

/// A watcher has a node's relay ask the guest agent of a VM.
///
/// # Errors
/// As for `RelayLink::guest_agent`.
pub async fn relay_guest_agent(
    node: &SimNode,
    watcher: WatcherId,
    request: proto::GuestAgentRequest,
    vm: VmId,
) -> Result<proto::GuestAgentResponse, LinkError> {
    use proto::guest_agent_response::Result as Answered;
    let limit = Duration::from_micros(request.timeout_micros);
    let answer = || {
        if !granted(node, watcher, request.grant.as_ref())?.contains(&vm) {
            return Err(LinkError::Refused("the grant does not name the vm".to_owned()));
        }
        let result = node.read(|state| match state.vms.values().find(|v| v.spec.id == vm) {
            Some(found) if !state.hypervisor_answers || found.broken.monitor => {
                Answered::Unavailable(NO_MONITOR.to_owned())
            }
            Some(found) if found.guest_answers() && !found.broken.guest_agent => Answered::Reply("{}".to_owned()),
            Some(_) => Answered::Silent(true),
            None => Answered::NotPut("the vm is not here".to_owned()),
        });
        Ok(proto::GuestAgentResponse { result: Some(result) })
    };
    let begun = Instant::now();
    let answer = ask_relay(node, watcher, limit, answer).await?;
    if matches!(answer.result, Some(Answered::Silent(_))) {
        sleep_until(begun + limit).await;
    }
    Ok(answer)
}

async fn ask_relay<T>(
    node: &SimNode,
    watcher: WatcherId,
    limit: Duration,
    answer: impl FnOnce() -> Result<T, LinkError>,
) -> Result<T, LinkError> {
    let (network, own, relay) = (&node.network, super::host::Host::Watcher(watcher), node.host());
    let over = Network::Management;
    let asked = async {
        network.travel(own, relay, over, Lane::Relay).await;
        if !network.listens(relay) {
            network.travel(relay, own, over, Lane::Relay).await;
            return Err(LinkError::NotListening { to: node.id.to_string(), address: "relay".to_owned() });
        }
        if node.read(|state| state.agent == AgentState::Wedged) {
            std::future::pending::<()>().await;
        }
        let answer = answer();
        network.travel(relay, own, over, Lane::Relay).await;
        answer
    };
    match timeout(limit, asked).await {
        Ok(answer) => answer,
        // A fresh connection tells a relay that is silent from a path that is.
        Err(_) => match network.round_trip(own, relay, over, Lane::Connect) {
            Some(takes) => {
                tokio::time::sleep(takes).await;
                Err(LinkError::Timeout(limit))
            }
            None => {
                let (to, why) = (node.id.to_string(), "no answer".to_owned());
                Err(LinkError::Unreachable { to, address: "relay".to_owned(), why })
            }
        },
    }
}
