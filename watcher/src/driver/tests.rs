//! The driver over links in memory, with the real probe host and real probes against loopback listeners.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use vouch_probe_host::{Icmp, IcmpSockets, ProbeHost};
use vouch_probe_kit::fakes::FakeRdp;
use vouch_types::{Digest, Incarnation, ManagerId, Network, NodeId, ProbeGrant, ProbeName, Timing, VmId, WatcherId};
use vouch_wire::links::{LinkError, ManagerEndpoint, RelayLink, SESSION_QUEUE, Session, WatcherLink};
use vouch_wire::proto;
use vouch_wire::proto::from_watcher::Message as Said;
use vouch_wire::proto::to_watcher::Message as Heard;

use super::host_runner::NOT_GRANTED;
use super::*;
use crate::logic::{Ended, Origin, ProbeSpec, RunLimit};
use crate::shipped::Shipped;

mod agent;
mod compiled;
mod load;

const PATIENCE: Duration = Duration::from_secs(60);
const VM: [u8; 16] = [3; 16];

type ManagerSide = Session<proto::FromWatcher, proto::ToWatcher>;

/// A link that hands the manager's end of each stream to the test, and serves whatever bytes the test set.
struct SimLink {
    dialled: mpsc::UnboundedSender<ManagerSide>,
    components: Mutex<Vec<Vec<u8>>>,
}

#[async_trait]
impl WatcherLink for SimLink {
    async fn open(&self, _: &ManagerEndpoint) -> Result<Session<proto::ToWatcher, proto::FromWatcher>, LinkError> {
        let (here, there) = Session::pair(SESSION_QUEUE);
        self.dialled.send(there).map_err(|_| LinkError::Reset("the test is over".to_owned()))?;
        Ok(here)
    }

    async fn fetch_probe(&self, _: &ManagerEndpoint, _: &[u8; 32]) -> Result<Vec<u8>, LinkError> {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        match components.len() {
            0 => Err(LinkError::Refused("no such component".to_owned())),
            1 => Ok(components[0].clone()),
            _ => Ok(components.remove(0)),
        }
    }
}

/// A relay that answers every question for statements with one, the nonce, and those to agents always the same, or not.
struct SimRelay(Option<proto::GuestAgentResponse>);

#[async_trait]
impl RelayLink for SimRelay {
    async fn state(
        &self,
        _: &NodeId,
        _: SocketAddr,
        request: proto::StateRequest,
    ) -> Result<proto::StateResponse, LinkError> {
        let payload = request.nonce.to_be_bytes().to_vec();
        Ok(proto::StateResponse {
            hears: Vec::new(),
            statements: vec![proto::Signed { payload, signature: Vec::new() }],
        })
    }

    async fn guest_agent(
        &self,
        _: &NodeId,
        _: SocketAddr,
        _: proto::GuestAgentRequest,
    ) -> Result<proto::GuestAgentResponse, LinkError> {
        self.0.clone().ok_or_else(|| LinkError::Refused("not here".to_owned()))
    }
}

/// The real runner, whose components count as having come with the watcher.
struct AsShipped(HostRunner);

#[async_trait]
impl ProbeRunner for AsShipped {
    async fn prepare(&self, probe: &ProbeName, digest: &Digest) -> Result<Origin, String> {
        self.0.prepare(probe, digest).await.map(|_compiled| Origin::Shipped)
    }

    fn forget(&self, digest: &Digest) {
        self.0.forget(digest);
    }

    async fn run(&self, spec: &ProbeSpec, timeout: Duration) -> Ended {
        self.0.run(spec, timeout).await
    }
}

/// A watcher with one manager, played by the test.
struct Bench {
    watcher: tokio::task::JoinHandle<()>,
    dialled: mpsc::UnboundedReceiver<ManagerSide>,
    manager: ManagerSide,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Bench {
    /// Starts a watcher that has no shipped probes and fetches these components, one per attempt, the last for ever.
    async fn start(components: Vec<Vec<u8>>) -> Self {
        Self::start_with(components, RunLimit::LEAST, |runner| Arc::new(runner)).await
    }

    async fn start_with(
        components: Vec<Vec<u8>>,
        runs: RunLimit,
        probes: impl FnOnce(HostRunner) -> Arc<dyn ProbeRunner>,
    ) -> Self {
        let (sender, mut dialled) = mpsc::unbounded_channel();
        let link: Arc<dyn WatcherLink> = Arc::new(SimLink { dialled: sender, components: Mutex::new(components) });
        let relays: Arc<dyn RelayLink> = Arc::new(SimRelay(None));
        let address = "127.0.0.1:1".parse().unwrap();
        let managers = vec![ManagerEndpoint { manager: ManagerId::new(1), network: Network::Management, address }];
        let host = ProbeHost::new(host_limits(runs)).unwrap();
        let icmp: Arc<dyn Icmp> = Arc::new(IcmpSockets::open());
        let (probe_icmp, shipped) = (Arc::clone(&icmp), Shipped::none());
        let runner =
            HostRunner::new(host, shipped, None, probe_icmp, Arc::clone(&link), Arc::clone(&relays), managers.clone());
        let (watcher, incarnation) = (WatcherId::new(1), Incarnation::new(1));
        let config = WatcherConfig { watcher, incarnation, managers, timing: Timing::default(), runs };
        let parts = WatcherParts { link, relays, probes: probes(runner), icmp };
        let watcher = tokio::spawn(async move {
            run(config, parts).await;
        });
        let manager = Self::welcome(&mut dialled).await;
        Self { watcher, dialled, manager }
    }

    /// Takes the next stream, expects a hello, says welcome and sends ticks for as long as it stands.
    async fn welcome(dialled: &mut mpsc::UnboundedReceiver<ManagerSide>) -> ManagerSide {
        let mut manager = timeout(PATIENCE, dialled.recv()).await.expect("the watcher dials").unwrap();
        let hello = timeout(PATIENCE, manager.inbound.recv()).await.unwrap().unwrap().unwrap();
        assert!(matches!(hello.message, Some(Said::Hello(_))));
        let profile = Timing { probe_timeout: Duration::from_secs(5), ..Timing::default() };
        let timing = serde_json::to_string(&profile).unwrap();
        let welcome = Heard::Welcome(proto::ManagerWelcome { timing, ..Default::default() });
        manager.outbound.send(proto::ToWatcher { message: Some(welcome) }).await.unwrap();
        let ticks = manager.outbound.clone();
        tokio::spawn(async move {
            for sequence in 1.. {
                let tick = proto::ToWatcher { message: Some(Heard::Tick(proto::Tick { sequence })) };
                if ticks.send(tick).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        manager
    }

    async fn tell(&self, message: Heard) {
        self.manager.outbound.send(proto::ToWatcher { message: Some(message) }).await.unwrap();
    }

    /// Returns the first message that `wanted` makes something of.
    async fn hear<T>(&mut self, what: &str, wanted: impl Fn(Said) -> Option<T>) -> T {
        let hear = async {
            loop {
                let message = self.manager.inbound.recv().await.unwrap().unwrap();
                if let Some(found) = message.message.and_then(&wanted) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, hear).await.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
    }

    async fn outcome(&mut self, outcome: proto::Outcome) -> proto::Observation {
        self.hear("such observation", move |said| match said {
            Said::Report(report) => report.observations.into_iter().find(|o| o.outcome == i32::from(outcome)),
            Said::Answer(_) | Said::Durations(_) | Said::Hello(_) => None,
        })
        .await
    }
}

fn tcp_assignment(index: u64, port: u16) -> proto::Assignment {
    assignment(index, "tcp", format!(r#"{{"port": {port}}}"#))
}

fn assignment(index: u64, probe: &str, settings: String) -> proto::Assignment {
    let digest = vouch_probe_bundle::by_name(probe).unwrap().digest();
    proto::Assignment {
        fence: Some(proto::Fence { term: 1, log_index: index }),
        generation: index,
        targets: vec![proto::Target {
            vm: VM.to_vec(),
            node: "n1".to_owned(),
            addresses: vec![proto::Address {
                network: proto::Network::Service.into(),
                address: IpAddr::from(Ipv4Addr::LOCALHOST).to_string(),
            }],
            probes: vec![proto::ProbeAssignment {
                probe: probe.to_owned(),
                network: proto::Network::Service.into(),
                settings,
                ..Default::default()
            }],
            ..Default::default()
        }],
        relays: vec![proto::RelayTarget {
            node: "n1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            grant: Some(proto::Signed::default()),
        }],
        probes: vec![proto::ProbeComponent { name: probe.to_owned(), digest: digest.as_bytes().to_vec(), grant: None }],
        peers: Vec::new(),
    }
}

fn tcp_component() -> Vec<u8> {
    vouch_probe_bundle::by_name("tcp").unwrap().bytes.to_vec()
}

/// A service that takes connections until it is dropped.
async fn service() -> (tokio::task::JoinHandle<()>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    };
    (tokio::spawn(serve), port)
}

#[tokio::test]
async fn a_fetched_probe_sees_a_service_and_tells_unasked_that_it_went_away() {
    let (service, port) = service().await;
    let mut bench = Bench::start(vec![tcp_component()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    let up = bench.outcome(proto::Outcome::Up).await;
    assert_eq!((up.vm.as_slice(), up.probe.as_str()), (VM.as_slice(), "tcp"));
    service.abort();
    let down = bench.outcome(proto::Outcome::Down).await;
    assert!(down.begun.is_some_and(|tick| tick.sequence > 0), "dated with the manager's tick");
}

#[tokio::test]
async fn another_machine_at_the_address_is_told_by_its_identity_and_the_same_one_again_by_the_same() {
    let desktop = async |name: &str, address: SocketAddr| {
        let name = name.parse().unwrap();
        // The machine before it has just gone from there.
        let start = async {
            loop {
                match FakeRdp::Nla(name).start_at(address).await {
                    Ok(fake) => return fake,
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse),
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, start).await.expect("the address is free again")
    };
    let first = desktop("DESK-1", "127.0.0.1:0".parse().unwrap()).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, first.port().unwrap()));
    let mut bench = Bench::start(vec![vouch_probe_bundle::by_name("rdp").unwrap().bytes.to_vec()]).await;
    let settings = format!(r#"{{"port": {}, "nla": true, "identity": "name"}}"#, address.port());
    bench.tell(Heard::Assignment(assignment(1, "rdp", settings))).await;
    let mut identified = async |not: Option<u64>| {
        bench
            .hear("identity that is another one", move |said| match said {
                Said::Report(report) => {
                    report.observations.iter().find_map(|o| o.identity.filter(|who| Some(*who) != not))
                }
                Said::Answer(_) | Said::Durations(_) | Said::Hello(_) => None,
            })
            .await
    };
    let known = identified(None).await;
    drop(first);
    let intruder = desktop("DESK-2", address).await;
    let other = identified(Some(known)).await;
    drop(intruder);
    let _back = desktop("desk-1", address).await;
    assert_eq!(identified(Some(other)).await, known);
}

#[tokio::test]
async fn an_ask_is_answered_with_a_fresh_look_and_the_statements_of_the_relay() {
    let (_service, port) = service().await;
    let mut bench = Bench::start(vec![tcp_component()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    bench.outcome(proto::Outcome::Up).await;
    let (nonce, deadline_micros) = (4711, 20_000_000);
    bench
        .tell(Heard::Ask(proto::Ask {
            nonce,
            deadline_micros,
            nodes: vec!["n1".to_owned()],
            vms: vec![VM.to_vec()],
            light: false,
            findings: true,
        }))
        .await;
    let (mut observations, mut statements, mut phases) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let answer = bench
            .hear("answer", |said| match said {
                Said::Answer(answer) => Some(answer),
                Said::Report(_) | Said::Durations(_) | Said::Hello(_) => None,
            })
            .await;
        assert_eq!(answer.nonce, nonce);
        observations.extend(answer.observations);
        statements.extend(answer.statements);
        phases.extend(answer.findings.into_iter().flat_map(|found| found.phases));
        if answer.complete {
            break;
        }
    }
    assert_eq!(observations.iter().map(|o| o.outcome).collect::<Vec<_>>(), [i32::from(proto::Outcome::Up)]);
    assert_eq!(phases.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["connect"]);
    assert_eq!(statements.iter().map(|s| s.payload.clone()).collect::<Vec<_>>(), [nonce.to_be_bytes().to_vec()]);
}

#[tokio::test]
async fn a_dropped_stream_is_dialled_anew_and_begins_with_everything() {
    let (_service, port) = service().await;
    let mut bench = Bench::start(vec![tcp_component()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    bench.outcome(proto::Outcome::Up).await;
    let (spare, _) = Session::pair(1);
    drop(std::mem::replace(&mut bench.manager, spare));
    bench.manager = Bench::welcome(&mut bench.dialled).await;
    let report = bench
        .hear("report", |said| match said {
            Said::Report(report) => Some(report),
            Said::Answer(_) | Said::Durations(_) | Said::Hello(_) => None,
        })
        .await;
    assert!(report.full && report.sequence == 1);
    let vm = VmId::new(uuid::Uuid::from_bytes(VM));
    assert_eq!(report.observations.iter().map(|o| o.vm.clone()).collect::<Vec<_>>(), [vm.get().as_bytes().to_vec()]);
}

#[tokio::test]
async fn a_watcher_tells_which_of_its_peers_it_reaches() {
    let mut bench = Bench::start(Vec::new()).await;
    if IcmpSockets::open().kind_of(Ipv4Addr::LOCALHOST.into()).is_err() {
        // What is told where nothing can be sent is the logic's own test.
        return;
    }
    let leg = |network: proto::Network, address: &str| proto::Address {
        network: network.into(),
        address: address.to_owned(),
    };
    let legs = vec![leg(proto::Network::Management, "127.0.0.2"), leg(proto::Network::Service, "127.0.0.3")];
    let peers = vec![proto::Peer { watcher: 2, legs }];
    let fence = Some(proto::Fence { term: 1, log_index: 1 });
    bench.tell(Heard::Assignment(proto::Assignment { fence, generation: 1, peers, ..Default::default() })).await;
    let reached = bench
        .hear("health with peers", |said| match said {
            Said::Report(report) => report.health.map(|h| h.peers).filter(|p| p.iter().any(|peer| peer.reached)),
            Said::Answer(_) | Said::Durations(_) | Said::Hello(_) => None,
        })
        .await;
    assert!(reached.iter().all(|peer| peer.watcher == 2), "{reached:?}");
}

/// Returns the order to run the probe tcp by this grant.
fn granted_assignment(index: u64, port: u16, network: proto::Network, grant: &ProbeGrant) -> proto::Assignment {
    let mut assigned = tcp_assignment(index, port);
    assigned.targets[0].addresses[0].network = network.into();
    assigned.targets[0].probes[0].network = network.into();
    assigned.probes[0].grant = Some(grant.into());
    assigned
}

/// A service that tells of every connection.
async fn counted_service() -> (mpsc::UnboundedReceiver<SocketAddr>, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, connections) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((_, peer)) = listener.accept().await {
            if sender.send(peer).is_err() {
                return;
            }
        }
    });
    (connections, port)
}

#[tokio::test]
async fn what_is_not_granted_is_unknown_and_never_touches_the_network_until_it_is_granted() {
    use proto::Network::{Management, Service};
    let (mut connections, port) = counted_service().await;
    let here = port.to_string();
    let grant = |interface: &str, port: &str| ProbeGrant::parse(&[interface], &["service"], &[port]).unwrap();
    for (index, network, grant, why) in [
        (
            1,
            Management,
            grant("sockets", &here),
            "it is to run over network management; it is granted service".to_owned(),
        ),
        (2, Service, grant("sockets", "1"), format!("it is to reach port {here}; it is granted 1")),
        (3, Service, grant("icmp", &here), "the component imports sockets; it is granted icmp".to_owned()),
    ] {
        // A watcher tells changes, and another sentence on the same refusal is none: each is told by a watcher of its own.
        let mut bench = Bench::start(vec![tcp_component()]).await;
        bench.tell(Heard::Assignment(granted_assignment(index, port, network, &grant))).await;
        let told = bench
            .hear("refusal", |said| match said {
                Said::Report(report) => report.observations.into_iter().find(|o| o.message == why),
                Said::Answer(_) | Said::Durations(_) | Said::Hello(_) => None,
            })
            .await;
        assert_eq!((told.outcome, told.reason.as_str()), (i32::from(proto::Outcome::Unknown), NOT_GRANTED));
    }
    assert!(connections.try_recv().is_err(), "nothing was connected to");
    let mut bench = Bench::start(vec![tcp_component()]).await;
    bench.tell(Heard::Assignment(granted_assignment(1, port, Service, &grant("sockets", "1")))).await;
    bench.outcome(proto::Outcome::Unknown).await;
    let enough = granted_assignment(2, port, Service, &grant("sockets", &here));
    bench.tell(Heard::Assignment(enough)).await;
    bench.outcome(proto::Outcome::Up).await;
    assert!(connections.recv().await.is_some());
}

#[tokio::test]
async fn the_ports_of_the_settings_are_granted_by_that_word_and_so_they_were_before_there_were_grants() {
    let (_service, port) = service().await;
    let mut bench = Bench::start(vec![tcp_component()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    bench.outcome(proto::Outcome::Up).await;
    let grant = ProbeGrant::parse(&["sockets"], &["management"], &["settings"]).unwrap();
    bench.tell(Heard::Assignment(granted_assignment(2, port, proto::Network::Management, &grant))).await;
    let up = bench.outcome(proto::Outcome::Up).await;
    assert_eq!(up.network, i32::from(proto::Network::Management));
}
