//! Heartbeats of a whole manager with a node that the test plays, over real sockets on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::time::{Instant, timeout};
use vouch_manager::background::Disk;
use vouch_manager::counters::Count;
use vouch_manager::seams::{MemoryBlobs, SeededRng, SimSpace, SystemWallClock};
use vouch_manager::store::Stores;
use vouch_manager::{CaKeys, Manager, ManagerHandle, Parts};
use vouch_types::command::PathChange;
use vouch_types::{
    Applied, BootId, Cause, Command, Fault, Incarnation, ManagerId, ManagerNode, Moment, Network, NodeId, Source,
    Timing, VmsLeft, WallTime,
};
use vouch_wire::convert::NodeHello;
use vouch_wire::heartbeat::{Agreement, Exchange, HEARTBEAT_LEN, Role};
use vouch_wire::links::{
    Caller, DatagramLink, LinkError, LogNames, PeerLink, RaftCall, RaftLink, SESSION_QUEUE, Session,
};
use vouch_wire::pki::CertificateAuthority;
use vouch_wire::proto::{self, from_node, to_node};
use vouch_wire::renewal::CHECK_DEFAULT;
use vouch_wire::udp::UdpLink;

const LONG: Duration = Duration::from_secs(30);
const LIFE: Incarnation = Incarnation::new(3);

/// There is no other manager.
struct Alone;

fn alone<T>() -> Result<T, LinkError> {
    Err(LinkError::Reset("there is no other manager".into()))
}

#[async_trait]
impl RaftLink for Alone {
    async fn call(&self, _: ManagerId, _: RaftCall) -> Result<Vec<u8>, LinkError> {
        alone()
    }
    async fn append_stream(
        &self,
        _: ManagerId,
        _: LogNames,
        _: BoxStream<'static, Vec<u8>>,
    ) -> Result<BoxStream<'static, Result<Vec<u8>, LinkError>>, LinkError> {
        alone()
    }
}

#[async_trait]
impl PeerLink for Alone {
    async fn evidence(&self, _: ManagerId) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError> {
        alone()
    }
    async fn forward(&self, _: ManagerId, _: proto::ForwardRequest) -> Result<proto::ForwardResponse, LinkError> {
        alone()
    }
}

async fn manager(datagrams: BTreeMap<Network, Arc<dyn DatagramLink>>) -> ManagerHandle {
    let own = ManagerId::new(1);
    let ca = CertificateAuthority::generate("test", WallTime::from_unix_millis(1_795_383_407_042)).unwrap();
    let addresses = vec![(Network::Management, "127.0.0.1:7001".parse().unwrap())];
    let handle = Manager::start(Parts {
        manager: own,
        incarnation: Incarnation::new(2),
        timing: Timing { heartbeat_interval: Duration::from_millis(20), ..Timing::default() },
        members: BTreeMap::from([(own, ManagerNode { addresses, api: String::new() })]),
        stores: Stores::memory(),
        disk: Disk { space: Arc::new(SimSpace::default()), least_free: 0 },
        raft_link: Arc::new(Alone),
        peer_link: Arc::new(Alone),
        datagrams,
        wall_clock: Arc::new(SystemWallClock),
        rng: Arc::new(SeededRng::new(1)),
        blobs: Arc::new(MemoryBlobs::default()),
        shipped: Vec::new(),
        certificate_check: CHECK_DEFAULT,
        ca: CaKeys { certificate: ca.certificate_pem().to_owned(), key: Some(ca.key_pem()) },
    })
    .await
    .unwrap();
    handle.init_cluster().await.unwrap();
    handle
}

/// Opens a node's stream, and returns it with what the welcome says of heartbeats.
async fn greeted(manager: &ManagerHandle) -> (Session<proto::ToNode, proto::FromNode>, Option<proto::Heartbeats>) {
    let (mut mine, theirs) = Session::pair(SESSION_QUEUE);
    let node = NodeId::new("n1").unwrap();
    manager.service().node_session(Caller::without_tls(node), theirs).await.unwrap();
    let hello = NodeHello {
        boot: BootId::new(uuid::Uuid::from_u128(1)),
        incarnation: LIFE,
        statement_key: [1; 32],
        relay: "127.0.0.1:7002".parse().unwrap(),
        rack: None,
        driver: "local".to_owned(),
        hosts_watchers: false,
        network: Network::Management,
    };
    let hello = from_node::Message::Hello((&hello).into());
    mine.outbound.send(proto::FromNode { message: Some(hello) }).await.unwrap();
    let first = timeout(LONG, mine.inbound.recv()).await.unwrap().unwrap().unwrap();
    let Some(to_node::Message::Welcome(welcome)) = first.message else { panic!("{first:?}") };
    assert_eq!(welcome.incarnation, 2);
    (mine, welcome.heartbeats)
}

fn node_side(heartbeats: proto::Heartbeats) -> Exchange {
    Exchange::new(Role::Node, LIFE, Incarnation::new(2), Agreement::try_from(heartbeats).unwrap())
}

async fn bound() -> (UdpLink, SocketAddr) {
    let link = UdpLink::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = link.local_addr().unwrap();
    (link, address)
}

#[tokio::test]
async fn a_manager_and_a_node_hear_each_other_over_real_sockets_and_go_on_after_the_stream_broke() {
    let (link, address) = bound().await;
    let manager = manager(BTreeMap::from([(Network::Management, Arc::new(link) as Arc<dyn DatagramLink>)])).await;
    let (session, heartbeats) = greeted(&manager).await;
    let mut node = node_side(heartbeats.expect("heartbeats are on"));
    let socket = UdpLink::towards(address, None).await.unwrap();
    let origin = Instant::now();
    let now = || Moment::ZERO + origin.elapsed();
    let mut buffer = [0; HEARTBEAT_LEN + 1];

    // Nobody's datagrams are counted, and answered by nothing.
    socket.send(address, b"hello").await.unwrap();
    socket.send(address, &[1; HEARTBEAT_LEN]).await.unwrap();
    while node.measure().echoed.is_none() {
        socket.send(address, &node.next(now(), Some(Duration::from_millis(5)))).await.unwrap();
        let (length, from) = timeout(LONG, socket.receive(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(from, address);
        node.take(now(), &buffer[..length]).unwrap();
    }
    drop(session);
    for _ in 0..5 {
        let before = node.measure().echoed;
        while node.measure().echoed == before {
            socket.send(address, &node.next(now(), None)).await.unwrap();
            let (length, _) = timeout(LONG, socket.receive(&mut buffer)).await.unwrap().unwrap();
            node.take(now(), &buffer[..length]).unwrap();
        }
    }
    let counters = manager.counters();
    assert!(counters.total(Count::HeartbeatsSent) >= 6 && counters.total(Count::HeartbeatsReceived) >= 6);
    assert_eq!(counters.total(Count::HeartbeatsDropped), 2);
    manager.shutdown().await;
}

#[tokio::test]
async fn a_manager_without_heartbeats_agrees_on_none() {
    let manager = manager(BTreeMap::new()).await;
    let (_session, heartbeats) = greeted(&manager).await;
    assert_eq!(heartbeats, None);
    manager.shutdown().await;
}

/// Has a node removed, whose own word the detector may be about to let rule again.
async fn remove(manager: &ManagerHandle, node: &NodeId) {
    let at = WallTime::from_unix_millis(1_795_383_407_042);
    loop {
        let path = manager.consensus().read_state(|state| state.nodes().get(node).map(|record| record.path.clone()));
        if let Some(path) = path {
            let (replaces, faults) = (path.version, vec![Fault::sure(Cause::ManagerNodePath)]);
            let (source, reason, hand_backs) = (Source::Watcher, String::new(), Vec::new());
            let change = PathChange { node: node.clone(), replaces, source, faults, reason, hand_backs };
            let cut = Command::RecordVerdicts {
                verdicts: Vec::new(),
                paths: vec![change],
                manager_notes: None,
                incidents: Vec::new(),
                placements: Vec::new(),
                boots: Vec::new(),
                claims: Vec::new(),
                at,
            };
            manager.consensus().propose(cut).await.unwrap();
            let by = "a test".to_owned();
            let gone = Command::RemoveNode { node: node.clone(), vms: VmsLeft::Refuse, by, at };
            if let Applied::NodeRemoved { .. } = manager.consensus().propose(gone).await.unwrap() {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_node_that_is_removed_loses_its_stream_and_its_key_and_gets_no_other() {
    let (link, address) = bound().await;
    let manager = manager(BTreeMap::from([(Network::Management, Arc::new(link) as Arc<dyn DatagramLink>)])).await;
    let (mut session, heartbeats) = greeted(&manager).await;
    let mut node = node_side(heartbeats.expect("heartbeats are on"));
    let n1 = NodeId::new("n1").unwrap();
    timeout(LONG, remove(&manager, &n1)).await.expect("it is recorded, and can be removed");
    let ended = async { while let Some(Ok(_)) = session.inbound.recv().await {} };
    timeout(LONG, ended).await.expect("its stream is closed in order");
    let (_mine, theirs) = Session::pair(SESSION_QUEUE);
    let refused = manager.service().node_session(Caller::without_tls(n1.clone()), theirs).await.unwrap_err();
    assert!(matches!(&refused, LinkError::Removed(why) if why.contains("node n1 was removed")), "{refused:?}");

    let socket = UdpLink::towards(address, None).await.unwrap();
    let dropped = async {
        while manager.counters().total(Count::HeartbeatsDropped) == 0 {
            socket.send(address, &node.next(Moment::ZERO, None)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, dropped).await.expect("its key counts no more");
    assert!(manager.consensus().read_state(|state| !state.nodes().contains_key(&n1)), "nothing records it again");
    manager.shutdown().await;
}
