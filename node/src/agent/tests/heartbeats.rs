//! Heartbeats of a whole agent: over real sockets on loopback, and over a link that loses what the test says.

use std::sync::atomic::{AtomicBool, Ordering};

use vouch_types::{Incarnation, Moment};
use vouch_wire::heartbeat::{Agreement, Arrival, Exchange, HEARTBEAT_LEN, HeartbeatSession, KEY_LEN, Role};
use vouch_wire::links::DatagramLink;
use vouch_wire::udp::UdpLink;

use super::*;

const KEY: [u8; KEY_LEN] = [5; KEY_LEN];
const MANAGER_LIFE: Incarnation = Incarnation::new(5);

fn path() -> (ManagerId, Network) {
    (ManagerId::new(1), Network::Management)
}

fn welcome(timing: &Timing, heartbeats: Option<proto::Heartbeats>) -> to_node::Message {
    to_node::Message::Welcome(proto::ManagerWelcome {
        manager: 1,
        incarnation: MANAGER_LIFE.get(),
        timing: serde_json::to_string(timing).unwrap(),
        heartbeats,
        ..Default::default()
    })
}

fn agreed() -> Option<proto::Heartbeats> {
    Some(Agreement::message(HeartbeatSession::new(8), &KEY))
}

/// The manager's side of the heartbeats.
fn manager_side(bed: &Bed) -> Exchange {
    let agreement = Agreement::try_from(agreed().unwrap()).unwrap();
    Exchange::new(Role::Manager, MANAGER_LIFE, bed.store.incarnation(), agreement)
}

/// A link whose other end the test holds, and which it can cut for what is to arrive at the node.
struct SimDatagrams {
    sent: mpsc::UnboundedSender<Vec<u8>>,
    arriving: tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
    loses_arriving: AtomicBool,
}

#[async_trait]
impl DatagramLink for SimDatagrams {
    async fn send(&self, _: SocketAddr, datagram: &[u8]) -> Result<(), LinkError> {
        self.sent.send(datagram.to_vec()).map_err(|_| LinkError::Reset("test over".into()))
    }

    async fn receive(&self, buffer: &mut [u8]) -> Result<(usize, SocketAddr), LinkError> {
        loop {
            let datagram = self.arriving.lock().await.recv().await.ok_or(LinkError::Reset("test over".into()))?;
            if !self.loses_arriving.load(Ordering::Relaxed) {
                buffer[..datagram.len()].copy_from_slice(&datagram);
                return Ok((datagram.len(), "127.0.0.1:7001".parse().unwrap()));
            }
        }
    }
}

struct SimPath {
    link: Arc<SimDatagrams>,
    from_node: mpsc::UnboundedReceiver<Vec<u8>>,
    to_node: mpsc::UnboundedSender<Vec<u8>>,
}

fn sim_path() -> SimPath {
    let ((sent, from_node), (to_node, arriving)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let arriving = tokio::sync::Mutex::new(arriving);
    SimPath {
        link: Arc::new(SimDatagrams { sent, arriving, loses_arriving: AtomicBool::new(false) }),
        from_node,
        to_node,
    }
}

fn links(link: Arc<dyn DatagramLink>) -> BTreeMap<(ManagerId, Network), Arc<dyn DatagramLink>> {
    BTreeMap::from([(path(), link)])
}

#[tokio::test]
async fn a_node_and_a_manager_hear_each_other_over_real_sockets() {
    let socket = UdpLink::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let node_link = UdpLink::towards(address, None).await.unwrap();
    let mut bed = bed_at(address, links(Arc::new(node_link))).await;
    let mut side = manager_side(&bed);
    let manager = bed.dialled().await;
    manager.send(welcome(&Timing::default(), agreed())).await;
    let origin = Instant::now();
    let now = || Moment::ZERO + origin.elapsed();
    let mut buffer = [0; HEARTBEAT_LEN + 1];
    while side.measure().echoed.is_none() || side.measure().read_age.is_none() {
        let (length, from) = timeout(Duration::from_secs(30), socket.receive(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(side.take(now(), &buffer[..length]), Ok(Arrival::Newest));
        socket.send(from, &side.next(now(), None)).await.unwrap();
    }
    assert_eq!(bed.hearing.managers(Instant::now()), [ManagerId::new(1)]);
    assert!(side.measure().echoed <= side.measure().heard);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_arrive_at_the_node_shows_as_a_stale_echo_while_the_node_is_heard() {
    let mut path = sim_path();
    let mut bed = bed_at("127.0.0.1:7001".parse().unwrap(), links(path.link.clone())).await;
    let mut side = manager_side(&bed);
    let manager = bed.dialled().await;
    manager.send(welcome(&Timing::default(), agreed())).await;
    let origin = Instant::now();
    let now = || Moment::ZERO + origin.elapsed();
    let mut lost_since = None;
    for beat in 1..=40 {
        if beat == 20 {
            path.link.loses_arriving.store(true, Ordering::Relaxed);
            lost_since = Some(now());
        }
        let datagram = path.from_node.recv().await.unwrap();
        assert_eq!(side.take(now(), &datagram), Ok(Arrival::Newest));
        path.to_node.send(side.next(now(), None).to_vec()).unwrap();
        // Ticks go on: a stream has buffers, so that a one-way cut does not stop them at once.
        manager.tick(beat).await;
    }
    let measure = side.measure();
    assert!(now().since(measure.heard.unwrap()) < Duration::from_millis(300), "the node is heard");
    assert!(measure.echoed.unwrap() <= lost_since.unwrap(), "nothing that was lost is echoed");
    assert_eq!(measure.loss_in_per_mille, 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_outlive_their_stream_and_the_next_stream_brings_the_next_key() {
    let mut path = sim_path();
    let mut bed = bed_at("127.0.0.1:7001".parse().unwrap(), links(path.link.clone())).await;
    let mut side = manager_side(&bed);
    let manager = bed.dialled().await;
    manager.send(welcome(&Timing::default(), agreed())).await;
    *bed.link.refuse.lock().unwrap() = true;
    drop(manager);
    for _ in 0..50 {
        let datagram = path.from_node.recv().await.unwrap();
        assert_eq!(side.take(Moment::ZERO, &datagram), Ok(Arrival::Newest));
    }
    *bed.link.refuse.lock().unwrap() = false;
    let manager = bed.dialled().await;
    let next = Agreement::message(HeartbeatSession::new(9), &[6; KEY_LEN]);
    manager.send(welcome(&Timing::default(), Some(next.clone()))).await;
    side.agree(bed.store.incarnation(), Agreement::try_from(next).unwrap());
    loop {
        let datagram = path.from_node.recv().await.unwrap();
        match side.take(Moment::ZERO, &datagram) {
            Ok(arrival) => break assert_eq!(arrival, Arrival::Newest),
            Err(error) => assert_eq!(error.reason(), "unknown_session", "sent before the welcome came"),
        }
    }
    assert_eq!(side.measure().loss_in_per_mille, 0, "sequences go on");
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_reads_nothing_any_more_tells_a_rising_age_of_its_last_read() {
    let mut path = sim_path();
    let mut bed = bed_at("127.0.0.1:7001".parse().unwrap(), links(path.link.clone())).await;
    let mut side = manager_side(&bed);
    let manager = bed.dialled().await;
    // Reads so rarely that it reads no more while the test looks.
    let hour = Duration::from_secs(3600);
    let timing = Timing { report_interval: hour, lost_after: hour * 4, ..Timing::default() };
    manager.send(welcome(&timing, agreed())).await;
    let mut ages = Vec::new();
    for _ in 0..20 {
        let datagram = path.from_node.recv().await.unwrap();
        assert_eq!(side.take(Moment::ZERO, &datagram), Ok(Arrival::Newest));
        ages.extend(side.measure().read_age);
    }
    assert!(ages.is_sorted() && ages.last() >= Some(&Duration::from_secs(3)), "{ages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_exchanges_no_heartbeats_gets_none_and_its_ticks_carry_that_it_is_heard() {
    let mut path = sim_path();
    let mut bed = bed_at("127.0.0.1:7001".parse().unwrap(), links(path.link.clone())).await;
    let manager = bed.dialled().await;
    manager.send(welcome(&Timing::default(), None)).await;
    for tick in 1..=5 {
        manager.tick(tick).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(bed.hearing.managers(Instant::now()), [ManagerId::new(1)]);
    assert!(path.from_node.try_recv().is_err());
    assert_eq!(bed.hearing.managers(Instant::now() + Duration::from_secs(1)), []);
}
