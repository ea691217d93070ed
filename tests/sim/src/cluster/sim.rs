//! [`Sim`]: a whole cluster on one thread, with a paused clock: real managers over memory, real watcher logic, models
//! of nodes, VMs and networks.
//!
//! The same seed does the same thing every time: delays, losses, election timeouts and ids all follow from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use vouch_manager::api::Readiness;
use vouch_manager::background::Disk;
use vouch_manager::raft::SeededRuntime;
use vouch_manager::seams::{MemoryBlobs, SeededRng, SimSpace, SimWallClock, WallClock};
use vouch_manager::store::{MemoryLogStore, State, Stores};
use vouch_manager::{CaKeys, Manager, ManagerHandle, Parts};
use vouch_types::{
    EventRecord, Incarnation, ManagerId, ManagerNode, Network, Timing, VmRecord, VmState, WallTime, WatcherLife,
};
use vouch_wire::links::DatagramLink;
use vouch_wire::pki::CertificateAuthority;
use vouch_wire::renewal::CHECK_DEFAULT;

use super::agent;
use super::heartbeats;
use super::host::{Host, NodeNo, m};
use super::network::{Condition, Element, Served, SimNetwork};
use super::node::SimNode;
use super::probes;
use super::world::{Size, World};

/// How long anything that a script waits for may take, on the paused clock.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// When simulations take place.
const EPOCH: WallTime = WallTime::from_unix_millis(1_795_383_407_042);
/// How much of a manager's disk has to be free.
pub const LEAST_FREE: u64 = 128 * 1024 * 1024;
/// How often a script looks whether what it waits for has come.
const LOOK: Duration = Duration::from_millis(10);
/// The key under which scripts cut links; schedules use others.
const SCRIPT: u64 = 0;

/// A wall clock that can be set to another time.
pub struct JumpingClock {
    clock: SimWallClock,
    ahead_millis: AtomicI64,
}

impl JumpingClock {
    /// Sets it ahead by this much, or back.
    pub fn jump(&self, millis: i64) {
        self.ahead_millis.fetch_add(millis, Ordering::Relaxed);
    }
}

impl WallClock for JumpingClock {
    fn now(&self) -> WallTime {
        let now = self.clock.now().as_unix_millis();
        WallTime::from_unix_millis(now.saturating_add_signed(self.ahead_millis.load(Ordering::Relaxed)))
    }
}

/// The cluster.
pub struct Sim {
    /// The network and the nodes.
    pub world: Arc<World>,
    /// The managers that live.
    pub managers: BTreeMap<ManagerId, ManagerHandle>,
    /// The time of day of each manager.
    pub clocks: BTreeMap<ManagerId, Arc<JumpingClock>>,
    /// The room on the managers' disks, by id.
    pub disks: BTreeMap<ManagerId, Arc<SimSpace>>,
    /// When it began.
    pub begun: Instant,
    seed: u64,
}

/// The CA of all simulations of this process: making one is slow, and which one it is decides nothing.
fn ca() -> CaKeys {
    static CA: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = CA.get_or_init(|| {
        let ca = CertificateAuthority::generate("sim", EPOCH).expect("the operating system has random numbers");
        (ca.certificate_pem().to_owned(), ca.key_pem())
    });
    CaKeys { certificate: certificate.clone(), key: Some(key.clone()) }
}

/// Returns the codes of the reasons for which a manager is not ready, and those of its notes.
pub fn codes(readiness: &Readiness) -> (Vec<&str>, Vec<&str>) {
    (
        readiness.reasons.iter().map(|reason| reason.code.as_str()).collect(),
        readiness.notes.iter().map(|note| note.code.as_str()).collect(),
    )
}

/// Runs a future on a runtime with a paused clock, on random numbers that follow from the seed.
///
/// # Panics
/// When the operating system gives no runtime.
pub fn on_paused_clock<F: Future>(seed: u64, future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without I/O needs nothing of the system");
    runtime.block_on(SeededRuntime::scope(seed, future))
}

impl Sim {
    /// Starts a cluster and waits until all is well: every VM judged up, its probes proven, watched from two nodes.
    ///
    /// # Panics
    /// When it does not come up within [`PATIENCE`].
    pub async fn start(seed: u64, size: Size) -> Self {
        Self::start_on(seed, size, &|_| Stores::memory()).await
    }

    /// As [`Sim::start`], with each manager on stores of its own making.
    ///
    /// # Panics
    /// When it does not come up within [`PATIENCE`].
    pub async fn start_on(seed: u64, size: Size, stores: &dyn Fn(ManagerId) -> Stores<MemoryLogStore>) -> Self {
        Self::start_older(seed, size, stores, []).await
    }

    /// As [`Sim::start_on`], with these managers of a version that says nothing of logs.
    ///
    /// # Panics
    /// When it does not come up within [`PATIENCE`].
    pub async fn start_older(
        seed: u64,
        size: Size,
        stores: &dyn Fn(ManagerId) -> Stores<MemoryLogStore>,
        older: impl IntoIterator<Item = ManagerId>,
    ) -> Self {
        let timing = Timing::default();
        let world = World::new(seed, size, timing.clone());
        world.network.set_older(older);
        let Started { managers, clocks, disks } = start_managers(seed, &world, stores).await;
        managers[&m(1)].init_cluster().await.expect("a fresh cluster can be made");
        for node in world.nodes.values() {
            agent::start(&world, node);
        }
        let sim = Self { world, managers, clocks, disks, begun: Instant::now(), seed };
        let vms = usize::try_from(size.vms()).unwrap_or(usize::MAX);
        sim.until("every vm is up, proven and watched twice", |state| {
            let live = |id: &vouch_types::VmId| {
                let live = state.watchers().values().filter(|w| w.life == WatcherLife::Live);
                live.filter(|w| w.vms.contains(id)).count() >= 2
            };
            let good = |vm: &VmRecord| {
                vm.verdict.state == VmState::Up && vm.proven.len() == vm.spec.probes.len() && live(&vm.spec.id)
            };
            state.vms().len() == vms && state.vms().values().all(|vm| good(vm))
        })
        .await;
        // One window, so that what follows finds watchers that have been heard for a while.
        tokio::time::sleep(timing.window * 2).await;
        sim
    }

    /// Returns network and nodes without any manager, agent or watcher.
    pub fn models_only(seed: u64, size: Size) -> Self {
        let world = World::new(seed, size, Timing::default());
        let (managers, clocks, disks) = Default::default();
        Self { world, managers, clocks, disks, begun: Instant::now(), seed }
    }

    /// Returns the network.
    pub fn network(&self) -> &Arc<SimNetwork> {
        &self.world.network
    }

    /// Returns the node of this number.
    pub fn node(&self, no: NodeNo) -> &Arc<SimNode> {
        self.world.node(no)
    }

    /// Returns the manager that leads with a quorum behind it, if one does now.
    pub fn leads_now(&self) -> Option<ManagerId> {
        self.managers.iter().find(|(_, manager)| manager.leads().is_some()).map(|(id, _)| *id)
    }

    /// Returns the leader that has a quorum behind it, once there is one; the first manager where there are models
    /// only.
    ///
    /// # Panics
    /// When there is none within [`PATIENCE`].
    pub async fn leader(&self) -> ManagerId {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.leads_now() {
                return leader;
            }
            if self.managers.is_empty() {
                return m(1);
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns a number of a manager's metrics.
    ///
    /// # Panics
    /// Where it has none of this name.
    pub async fn gauge(&self, manager: ManagerId, name: &str) -> u64 {
        let metrics = self.managers[&manager].live_view().metrics().await;
        metrics.iter().find(|metric| metric.name == name).expect("it is there").value
    }

    /// Reads the state of the manager that has applied most.
    ///
    /// # Panics
    /// When no manager lives.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let most = self.managers.values().max_by_key(|m| m.consensus().status().applied);
        most.expect("a schedule never kills every manager").consensus().read_state(read)
    }

    /// Waits for a condition on the replicated state; returns how long that took.
    ///
    /// # Panics
    /// When it does not come within [`PATIENCE`].
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            if self.read(&holds) {
                return begun.elapsed();
            }
            if begun.elapsed() > PATIENCE {
                let events: Vec<String> = self.events().iter().map(|e| format!("{e:?}")).collect();
                let watchers: Vec<_> = self.read(|s| s.watchers().values().cloned().collect());
                let vms: Vec<String> = self.read(|s| {
                    let told = |v: &VmRecord| format!("{} {} {:?} {:?}", v.spec.name, v.node, v.verdict, v.proven);
                    s.vms().values().map(|v| told(v)).collect()
                });
                panic!("not within {PATIENCE:?}: {what}\n{}\n{watchers:#?}\n{}", events.join("\n"), vms.join("\n"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the replicated event log.
    pub fn events(&self) -> Vec<EventRecord> {
        self.read(|state| state.events().map(|e| (**e).clone()).collect())
    }

    /// Cuts two hosts from each other, on every network.
    pub fn cut(&self, a: Host, b: Host) {
        self.network().change(|topology| {
            topology.set(Element::Between(a, b), SCRIPT, Condition::cut());
            topology.set(Element::Between(b, a), SCRIPT, Condition::cut());
        });
        self.world.touch();
    }

    /// Cuts a node's agent from these managers.
    pub fn cut_node(&self, node: NodeNo, managers: impl IntoIterator<Item = ManagerId>) {
        for manager in managers {
            self.cut(Host::Node(node), Host::Manager(manager));
        }
    }

    /// Heals everything that is wrong with the network.
    pub fn heal(&self) {
        self.network().change(|topology| topology.clear_all());
        self.world.touch();
    }

    /// Stops everything: managers and network know each other, and would keep each other in memory for ever.
    pub async fn stop(mut self) {
        for manager in self.managers.keys().copied().collect::<Vec<_>>() {
            self.kill(manager).await;
        }
    }

    /// Starts a manager that was killed, on what it left or on something else, in a later life.
    ///
    /// # Panics
    /// When it does not start from that.
    pub async fn start_again(&mut self, manager: ManagerId, life: u64, stores: Stores<MemoryLogStore>) {
        let start = Start {
            seed: self.seed ^ (life << 32),
            incarnation: Incarnation::new(life),
            clock: Arc::clone(&self.clocks[&manager]),
            space: Arc::clone(&self.disks[&manager]),
        };
        self.managers.insert(manager, start_manager(&self.world, manager, start, stores).await);
        self.world.touch();
    }

    /// Kills a manager's process at once.
    pub async fn kill(&mut self, manager: ManagerId) {
        self.network().serve(manager, None);
        if let Some(handle) = self.managers.remove(&manager) {
            handle.shutdown().await;
        }
        self.world.touch();
    }
}

fn datagrams(world: &Arc<World>, manager: ManagerId, over: Network) -> (Network, Arc<dyn DatagramLink>) {
    let socket = world.network.bind(Host::Manager(manager), over, heartbeats::manager_address(manager, over));
    (over, Arc::new(socket))
}

#[derive(Default)]
struct Started {
    managers: BTreeMap<ManagerId, ManagerHandle>,
    clocks: BTreeMap<ManagerId, Arc<JumpingClock>>,
    disks: BTreeMap<ManagerId, Arc<SimSpace>>,
}

async fn start_managers(
    seed: u64,
    world: &Arc<World>,
    stores: &dyn Fn(ManagerId) -> Stores<MemoryLogStore>,
) -> Started {
    let mut started = Started::default();
    for manager in world.size.managers() {
        let clock = Arc::new(JumpingClock { clock: SimWallClock::starting_at(EPOCH), ahead_millis: AtomicI64::new(0) });
        started.clocks.insert(manager, Arc::clone(&clock));
        let space = Arc::new(SimSpace::default());
        started.disks.insert(manager, Arc::clone(&space));
        let start = Start { seed, incarnation: Incarnation::new(1), clock, space };
        started.managers.insert(manager, start_manager(world, manager, start, stores(manager)).await);
    }
    started
}

/// One life of a manager.
struct Start {
    seed: u64,
    incarnation: Incarnation,
    clock: Arc<JumpingClock>,
    space: Arc<SimSpace>,
}

async fn start_manager(
    world: &Arc<World>,
    manager: ManagerId,
    start: Start,
    stores: Stores<MemoryLogStore>,
) -> ManagerHandle {
    let member = |id: ManagerId| {
        let addresses = Network::ALL.map(|network| (network, heartbeats::manager_address(id, network))).into();
        (id, ManagerNode { addresses, api: String::new() })
    };
    let links = world.network.links_of(manager);
    let handle = Manager::start(Parts {
        manager,
        incarnation: start.incarnation,
        timing: world.timing.clone(),
        members: world.size.managers().map(member).collect(),
        stores,
        disk: Disk { space: start.space, least_free: LEAST_FREE },
        raft_link: links.clone(),
        peer_link: links,
        datagrams: Network::ALL.map(|network| datagrams(world, manager, network)).into(),
        wall_clock: start.clock,
        rng: Arc::new(SeededRng::new(start.seed ^ manager.get())),
        blobs: Arc::new(MemoryBlobs::default()),
        shipped: probes::shipped(),
        ca: ca(),
        certificate_check: CHECK_DEFAULT,
    })
    .await
    .expect("a manager over memory starts");
    let served = Served { manager: handle.service(), raft: handle.raft_service() };
    world.network.serve(manager, Some(served));
    handle
}
