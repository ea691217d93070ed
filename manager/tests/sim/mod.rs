//! A simulated cluster: three real managers on one thread, a paused clock and memory; scripted nodes and watchers.
//!
//! The same seed does the same thing every time: delays, election timeouts and ids all follow from it.

pub mod network;
pub mod node;
pub mod watcher;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use vouch_manager::raft::SeededRuntime;
use vouch_manager::seams::{MemoryBlobs, SeededRng, SimWallClock};
use vouch_manager::store::{State, Stores};
use vouch_manager::{CaKeys, Manager, ManagerHandle, Parts};
use vouch_types::{
    EventRecord, Incarnation, ManagerId, ManagerNode, Network, NodeId, ProbeAssignment, ProbeName, Timing, VmId,
    VmSpec, VmState, WallTime, WatcherLife,
};
use vouch_wire::pki::CertificateAuthority;

use network::{Part, Served, SimNetwork};
use node::SimNode;

/// How long anything that a test waits for may take, on the paused clock.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster.
pub struct Sim {
    pub network: Arc<SimNetwork>,
    pub managers: BTreeMap<ManagerId, ManagerHandle>,
    pub nodes: Arc<Mutex<BTreeMap<NodeId, Arc<SimNode>>>>,
}

/// Returns the VM of this number.
pub fn vm(number: u128) -> VmId {
    VmId::new(uuid::Uuid::from_u128(number))
}

pub fn m(number: u64) -> ManagerId {
    ManagerId::new(number)
}

pub fn n(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn spec(number: u128) -> VmSpec {
    let address: IpAddr = [10, 2, 0, u8::try_from(number).unwrap()].into();
    VmSpec {
        id: vm(number),
        name: format!("desk-{number}"),
        addresses: BTreeMap::from([(Network::Service, vec![address])]),
        probes: vec![ProbeAssignment {
            probe: ProbeName::new("tcp").unwrap(),
            network: Network::Service,
            settings: "{}".to_owned(),
        }],
        labels: BTreeMap::new(),
        datastore: None,
    }
}

#[expect(clippy::print_stderr, reason = "the seed of a failed simulation is for the person who replays it")]
fn say_how_to_replay(seed: u64) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("seed {seed} failed; replay: cargo test -p vouch-manager --test three_managers {test}");
}

/// Runs a script against a cluster that is up, with two nodes, four VMs and a watcher on each node. Prints the seed of
/// one that fails.
pub fn simulate<T>(seed: u64, script: impl AsyncFnOnce(&mut Sim) -> T) -> T {
    struct Told(u64);
    impl Drop for Told {
        fn drop(&mut self) {
            if std::thread::panicking() {
                say_how_to_replay(self.0);
            }
        }
    }
    let _told = Told(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(SeededRuntime::scope(seed, async {
        let mut sim = Sim::start(seed).await;
        script(&mut sim).await
    }))
}

impl Sim {
    async fn start(seed: u64) -> Self {
        let timing = Timing::default();
        let network = SimNetwork::new(seed);
        let ca = CertificateAuthority::generate("sim", WallTime::from_unix_millis(1_795_383_407_042)).unwrap();
        let members: BTreeMap<_, _> = (1..=3)
            .map(|i| {
                let address = |net: u8| ([10, net, 0, i], 7001).into();
                let addresses = vec![(Network::Management, address(1)), (Network::Service, address(2))];
                (m(u64::from(i)), ManagerNode { addresses, api: String::new() })
            })
            .collect();
        let wall_clock = Arc::new(SimWallClock::starting_at(WallTime::from_unix_millis(1_795_383_407_042)));
        let mut managers = BTreeMap::new();
        for manager in members.keys().copied() {
            let links = network.links_of(manager);
            let handle = Manager::start(Parts {
                manager,
                incarnation: Incarnation::new(1),
                timing: timing.clone(),
                members: members.clone(),
                stores: Stores::memory(),
                raft_link: links.clone(),
                peer_link: links,
                datagrams: BTreeMap::new(),
                wall_clock: wall_clock.clone(),
                rng: Arc::new(SeededRng::new(seed ^ manager.get())),
                blobs: Arc::new(MemoryBlobs::default()),
                shipped: Vec::new(),
                ca: CaKeys { certificate: ca.certificate_pem().to_owned(), key: Some(ca.key_pem()) },
            })
            .await
            .unwrap();
            network.serve(manager, Some(Served { manager: handle.service(), raft: handle.raft_service() }));
            managers.insert(manager, handle);
        }
        managers[&m(1)].init_cluster().await.unwrap();
        let nodes = Arc::default();
        SimNode::start("n1", 1, &timing, &network, &nodes, vec![spec(1), spec(2)]);
        SimNode::start("n2", 2, &timing, &network, &nodes, vec![spec(3), spec(4)]);
        let sim = Self { network, managers, nodes };
        sim.until("every vm is up, proven and watched twice", |state| {
            let watched = |id: &VmId| {
                let live = state.watchers().values().filter(|w| w.life == WatcherLife::Live);
                live.filter(|w| w.vms.contains(id)).count() == 2
            };
            let good = |(id, vm): (&VmId, &Arc<vouch_types::VmRecord>)| {
                vm.verdict.state == VmState::Up && !vm.proven.is_empty() && watched(id)
            };
            state.vms().len() == 4 && state.vms().iter().all(good)
        })
        .await;
        // One window, so that what follows finds watchers that have been heard for a while.
        tokio::time::sleep(timing.window * 2).await;
        sim
    }

    /// Returns the leader that has a quorum behind it.
    pub async fn leader(&self) -> ManagerId {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some((id, _)) = self.managers.iter().find(|(_, m)| m.leads().is_some()) {
                return *id;
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads the state of the manager that has applied most.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        let most = self.managers.values().max_by_key(|m| m.consensus().status().applied).unwrap();
        most.consensus().read_state(read)
    }

    /// Waits for a condition on the replicated state; returns how long that took.
    pub async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            if self.read(&holds) {
                return begun.elapsed();
            }
            if begun.elapsed() > PATIENCE {
                let events: Vec<String> = self.events().iter().map(|e| format!("{e:?}")).collect();
                panic!(
                    "not within {PATIENCE:?}: {what}\n{}\n{:#?}",
                    events.join("\n"),
                    self.read(|s| {
                        (
                            s.watchers().values().cloned().collect::<Vec<_>>(),
                            s.vms()
                                .values()
                                .map(|v| (v.spec.id, v.verdict.clone(), v.proven.clone()))
                                .collect::<Vec<_>>(),
                        )
                    })
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns the replicated event log.
    pub fn events(&self) -> Vec<EventRecord> {
        self.read(|state| state.events().map(|e| (**e).clone()).collect())
    }

    /// Returns the node of this name.
    pub fn node(&self, name: &str) -> Arc<SimNode> {
        Arc::clone(&self.nodes.lock().unwrap()[&n(name)])
    }

    /// Cuts a node's agent from these managers.
    pub fn cut_node(&self, name: &str, managers: impl IntoIterator<Item = ManagerId>) {
        for manager in managers {
            self.network.cut(&Part::Node(n(name)), &Part::Manager(manager));
        }
    }

    /// Kills a manager: it stops at once, and nobody reaches it.
    pub async fn kill(&mut self, manager: ManagerId) {
        self.network.serve(manager, None);
        let handle = self.managers.remove(&manager).unwrap();
        for other in self.managers.keys() {
            self.network.cut(&Part::Manager(manager), &Part::Manager(*other));
        }
        handle.shutdown().await;
    }
}
