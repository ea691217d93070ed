//! The driver over links in memory, with the real probe host and real probes against loopback listeners.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use vouch_probe_host::{IcmpSockets, ProbeHost};
use vouch_types::{Incarnation, ManagerId, Network, NodeId, Timing, VmId, WatcherId};
use vouch_wire::links::{LinkError, ManagerEndpoint, RelayLink, SESSION_QUEUE, Session, WatcherLink};
use vouch_wire::proto;
use vouch_wire::proto::from_watcher::Message as Said;
use vouch_wire::proto::to_watcher::Message as Heard;

use super::*;
use crate::shipped::Shipped;

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

/// A relay that answers every question with one statement: the nonce.
struct SimRelay;

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
        Err(LinkError::Refused("not here".to_owned()))
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
        let (sender, mut dialled) = mpsc::unbounded_channel();
        let link: Arc<dyn WatcherLink> = Arc::new(SimLink { dialled: sender, components: Mutex::new(components) });
        let relays: Arc<dyn RelayLink> = Arc::new(SimRelay);
        let address = "127.0.0.1:1".parse().unwrap();
        let managers = vec![ManagerEndpoint { manager: ManagerId::new(1), network: Network::Management, address }];
        let host = ProbeHost::new(HOST_LIMITS).unwrap();
        let (icmp, shipped) = (Arc::new(IcmpSockets::open()), Shipped::none());
        let runner = HostRunner::new(host, shipped, icmp, Arc::clone(&link), Arc::clone(&relays), managers.clone());
        let (watcher, incarnation) = (WatcherId::new(1), Incarnation::new(1));
        let config = WatcherConfig { watcher, incarnation, managers, timing: Timing::default() };
        let parts = WatcherParts { link, relays, probes: Arc::new(runner) };
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
            Said::Answer(_) | Said::Hello(_) => None,
        })
        .await
    }
}

fn tcp_assignment(index: u64, port: u16) -> proto::Assignment {
    let digest = vouch_probe_bundle::by_name("tcp").unwrap().digest();
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
                probe: "tcp".to_owned(),
                network: proto::Network::Service.into(),
                settings: format!(r#"{{"port": {port}}}"#),
            }],
            ..Default::default()
        }],
        relays: vec![proto::RelayTarget {
            node: "n1".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            grant: Some(proto::Signed::default()),
        }],
        probes: vec![proto::ProbeComponent { name: "tcp".to_owned(), digest: digest.as_bytes().to_vec() }],
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
        }))
        .await;
    let (mut observations, mut statements) = (Vec::new(), Vec::new());
    loop {
        let answer = bench
            .hear("answer", |said| match said {
                Said::Answer(answer) => Some(answer),
                Said::Report(_) | Said::Hello(_) => None,
            })
            .await;
        assert_eq!(answer.nonce, nonce);
        observations.extend(answer.observations);
        statements.extend(answer.statements);
        if answer.complete {
            break;
        }
    }
    assert_eq!(observations.iter().map(|o| o.outcome).collect::<Vec<_>>(), [i32::from(proto::Outcome::Up)]);
    assert_eq!(statements.iter().map(|s| s.payload.clone()).collect::<Vec<_>>(), [nonce.to_be_bytes().to_vec()]);
}

#[tokio::test]
async fn bytes_that_are_not_the_probe_are_refused_and_the_vm_is_not_called_down() {
    let (_service, port) = service().await;
    let other = vouch_probe_bundle::by_name("ping").unwrap().bytes.to_vec();
    let mut bench = Bench::start(vec![other, tcp_component()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    let wrong = |message: &str| message.contains("sent other bytes");
    bench
        .hear("refusal", move |said| match said {
            Said::Report(report) => report.observations.into_iter().find(|o| wrong(&o.message)).map(|o| {
                assert_eq!(o.outcome, i32::from(proto::Outcome::Unknown));
            }),
            Said::Answer(_) | Said::Hello(_) => None,
        })
        .await;
    // It is tried again, and the right bytes are taken.
    bench.outcome(proto::Outcome::Up).await;
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
            Said::Answer(_) | Said::Hello(_) => None,
        })
        .await;
    assert!(report.full && report.sequence == 1);
    let vm = VmId::new(uuid::Uuid::from_bytes(VM));
    assert_eq!(report.observations.iter().map(|o| o.vm.clone()).collect::<Vec<_>>(), [vm.get().as_bytes().to_vec()]);
}
