//! The whole agent with a hypervisor and managers that the test plays: what a manager is told, when, and what it can
//! order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};
use vouch_types::{
    Generation, HypervisorState, LogIndex, ManagerId, Operation, Progress, Term, TickSequence, VmId, WatcherId,
};
use vouch_wire::convert::{self, CreateWatcher, Fence, NodeReport};
use vouch_wire::links::{LinkError, SESSION_QUEUE, Session};
use vouch_wire::proto::{self, from_node, to_node};

use super::*;
use crate::config::DriverKind;
use crate::hypervisor::ServiceState;
use crate::hypervisor::sim::SimHypervisor;
use crate::vm_file::VmFile;

mod heartbeats;

type ManagerEnd = (mpsc::Sender<Result<proto::ToNode, LinkError>>, mpsc::Receiver<proto::FromNode>);

/// A link whose manager is played by the test: each dial hands its other end over.
struct SimLink {
    dialled: mpsc::UnboundedSender<ManagerEnd>,
    refuse: Mutex<bool>,
}

#[async_trait]
impl NodeLink for SimLink {
    async fn open(&self, to: &ManagerEndpoint) -> Result<Session<proto::ToNode, proto::FromNode>, LinkError> {
        if *self.refuse.lock().unwrap() {
            let (to, address) = (to.manager.to_string(), to.address.to_string());
            return Err(LinkError::Unreachable { to, address, why: "cut".into() });
        }
        let (outbound, from_node) = mpsc::channel(SESSION_QUEUE);
        let (to_node, inbound) = mpsc::channel(SESSION_QUEUE);
        self.dialled.send((to_node, from_node)).map_err(|_| LinkError::Reset("test over".into()))?;
        Ok(Session { outbound, inbound })
    }
}

struct Bed {
    hypervisor: Arc<SimHypervisor>,
    link: Arc<SimLink>,
    dialled: mpsc::UnboundedReceiver<ManagerEnd>,
    store: NodeStore,
    hearing: Hearing,
    vm: VmId,
    _stop: tokio_util::sync::DropGuard,
}

/// One session from the manager's side.
struct Manager {
    to: mpsc::Sender<Result<proto::ToNode, LinkError>>,
    from: mpsc::Receiver<proto::FromNode>,
}

async fn bed() -> Bed {
    bed_at("127.0.0.1:7001".parse().unwrap(), BTreeMap::new()).await
}

async fn bed_at(address: SocketAddr, datagrams: BTreeMap<(ManagerId, Network), Arc<dyn DatagramLink>>) -> Bed {
    let file = VmFile::parse(
        "id = \"6f1c2a9e-0000-4000-8000-000000000001\"\nname = \"a\"\n[local]\naddress = \"127.0.10.1\"\nrdp_port = 5\n",
        DriverKind::Local,
    )
    .unwrap();
    let vm = file.id;
    let hypervisor = Arc::new(SimHypervisor::default());
    hypervisor.set_vms(vec![file]).await;
    let (sender, dialled) = mpsc::unbounded_channel();
    let link = Arc::new(SimLink { dialled: sender, refuse: Mutex::new(false) });
    let store = NodeStore::in_memory();
    let config = AgentConfig {
        node: NodeId::new("n1").unwrap(),
        rack: Some("r1".into()),
        boot: BootId::new(uuid::Uuid::from_u128(9)),
        relay: "127.0.0.1:7002".parse().unwrap(),
        statement_key: [3; 32],
        hosts_watchers: true,
        endpoints: vec![ManagerEndpoint { manager: ManagerId::new(1), network: Network::Management, address }],
    };
    let agent = AgentTask::new(config, hypervisor.clone(), link.clone(), store.clone(), SequenceCounter::default());
    let agent = agent.with_heartbeats(datagrams);
    let hearing = agent.hearing();
    let stop = CancellationToken::new();
    tokio::spawn(agent.run(stop.clone()));
    Bed { hypervisor, link, dialled, store, hearing, vm, _stop: stop.drop_guard() }
}

impl Bed {
    /// Takes the next dialled session, and its hello.
    async fn dialled(&mut self) -> Manager {
        let (to, from) = timeout(Duration::from_secs(60), self.dialled.recv()).await.expect("a dial").unwrap();
        let mut manager = Manager { to, from };
        let Some(from_node::Message::Hello(hello)) = manager.next().await else { panic!("hello comes first") };
        assert_eq!((hello.relay.as_str(), hello.rack.as_str()), ("127.0.0.1:7002", "r1"));
        manager
    }

    /// Takes the next dialled session and greets it.
    async fn greeted(&mut self) -> Manager {
        let manager = self.dialled().await;
        manager
            .send(to_node::Message::Welcome(proto::ManagerWelcome {
                manager: 1,
                incarnation: 5,
                cluster: vec![7; 16],
                grant_public_key: vec![1; 32],
                timing: serde_json::to_string(&Timing::default()).unwrap(),
                ..Default::default()
            }))
            .await;
        manager
    }
}

impl Manager {
    async fn next(&mut self) -> Option<from_node::Message> {
        timeout(Duration::from_secs(60), self.from.recv()).await.expect("a message").and_then(|m| m.message)
    }

    async fn send(&self, message: to_node::Message) {
        self.to.send(Ok(proto::ToNode { message: Some(message) })).await.unwrap();
    }

    async fn tick(&self, n: u64) {
        self.send(to_node::Message::Tick(proto::Tick { sequence: n })).await;
    }

    async fn report(&mut self) -> NodeReport {
        self.report_that(|_| true).await
    }

    async fn report_that(&mut self, wanted: impl Fn(&NodeReport) -> bool) -> NodeReport {
        loop {
            match self.next().await.expect("the session stands") {
                from_node::Message::Report(report) => {
                    let report = NodeReport::try_from(report).unwrap();
                    if wanted(&report) {
                        return report;
                    }
                }
                from_node::Message::Hello(_) | from_node::Message::OrderResult(_) => {}
            }
        }
    }

    async fn result(&mut self) -> proto::order_result::Result {
        loop {
            if let Some(from_node::Message::OrderResult(result)) = self.next().await {
                return result.result.unwrap();
            }
        }
    }
}

fn fence(term: u64, index: u64) -> Fence {
    Fence { term: Term::new(term), log_index: LogIndex::new(index) }
}

fn create(index: u64) -> to_node::Message {
    to_node::Message::CreateWatcher(proto::CreateWatcher::from(&CreateWatcher {
        fence: fence(1, index),
        watcher: WatcherId::new(3),
        placed: LogIndex::new(9),
        secret: [7; 32],
        ca_certificate: "pem".into(),
        managers: Vec::new(),
    }))
}

#[tokio::test(start_paused = true)]
async fn the_first_report_is_full_and_a_change_is_told_at_once() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    let first = manager.report().await;
    assert!(first.full && first.vms[0].spec.is_some());
    manager.tick(1).await;
    manager.report_that(|r| r.tick == TickSequence::new(1)).await;
    let changed = Instant::now();
    bed.hypervisor.set_state(bed.vm, HypervisorState::Stopped);
    let report = manager.report_that(|r| r.vms.iter().any(|v| v.state == HypervisorState::Stopped)).await;
    assert!(changed.elapsed() <= Duration::from_millis(20), "{:?}", changed.elapsed());
    assert!(!report.full && report.sequence > first.sequence);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_stops_to_get_on_is_told_once_and_on_the_beat() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    manager.tick(1).await;
    let first = manager.report_that(|r| r.tick == TickSequence::new(1)).await;
    assert_eq!((first.vms[0].progress, first.vms[0].operation), (Progress::Unknown, None));
    bed.hypervisor.set_progress(bed.vm, Progress::Still);
    let told = manager.report_that(|r| !r.vms.is_empty()).await;
    assert_eq!((told.full, told.vms[0].progress), (false, Progress::Still));
    manager.tick(2).await;
    let same = manager.report_that(|r| r.tick == TickSequence::new(2)).await;
    assert!(same.vms.is_empty(), "the same word again is no change");
    bed.hypervisor.set_operation(bed.vm, Some(Operation::Snapshot));
    let told = manager.report_that(|r| !r.vms.is_empty()).await;
    assert_eq!(told.vms[0].operation, Some(Operation::Snapshot));
}

#[tokio::test(start_paused = true)]
async fn a_silent_hypervisor_service_is_told_at_once_and_the_agents_reports_stay_fresh() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    manager.tick(1).await;
    assert!(!manager.report_that(|r| r.tick == TickSequence::new(1)).await.hypervisor_silent);
    let silenced = Instant::now();
    bed.hypervisor.set_service(ServiceState::Silent);
    manager.report_that(|r| r.hypervisor_silent).await;
    assert!(silenced.elapsed() <= Duration::from_millis(20), "{:?}", silenced.elapsed());
    for n in 2..12 {
        manager.tick(n).await;
        let report = manager.report_that(|r| r.tick == TickSequence::new(n)).await;
        assert!(report.hypervisor_silent, "and it lives, as its echo of tick {n} shows");
    }
    bed.hypervisor.set_service(ServiceState::Answering);
    manager.report_that(|r| !r.hypervisor_silent).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_echoes_the_last_tick_that_came_before_the_read() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    assert_eq!(manager.report().await.tick, TickSequence::new(0), "no tick had come");
    manager.tick(7).await;
    let fresh = manager.report_that(|r| r.tick == TickSequence::new(7)).await;
    assert!(fresh.full, "what was told without an echo is told again");
    tokio::time::advance(Duration::from_millis(1)).await;
    manager.tick(8).await;
    // No read has begun since: a change elsewhere must not make this VM's state look fresher than it is.
    tokio::time::advance(Duration::from_millis(1)).await;
    bed.hypervisor.set_watcher_state(WatcherId::new(1), HypervisorState::Running);
    let told = manager.report().await;
    assert_eq!(told.tick, TickSequence::new(7));
    assert!(told.age >= Duration::from_millis(2));
    manager.report_that(|r| r.tick == TickSequence::new(8)).await;
}

#[tokio::test(start_paused = true)]
async fn a_resync_is_answered_by_a_full_report() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    manager.tick(1).await;
    manager.report_that(|r| r.tick == TickSequence::new(1)).await;
    manager.report_that(|r| !r.full).await;
    manager.send(to_node::Message::Resync(proto::Resync {})).await;
    assert!(manager.report_that(|r| r.full).await.vms.len() == 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_is_dialled_anew_and_a_heal_is_told_within_a_second() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    manager.report().await;
    *bed.link.refuse.lock().unwrap() = true;
    let cut = Instant::now();
    while manager.next().await.is_some() {}
    assert!(cut.elapsed() <= Duration::from_millis(1500), "{:?}", cut.elapsed());
    tokio::time::sleep(Duration::from_secs(30)).await;
    *bed.link.refuse.lock().unwrap() = false;
    let healed = Instant::now();
    let mut manager = bed.greeted().await;
    manager.tick(1).await;
    manager.report_that(|r| r.full && r.tick == TickSequence::new(1)).await;
    assert!(healed.elapsed() <= Duration::from_secs(1), "{:?}", healed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_reset_stream_is_dialled_anew_at_once() {
    let mut bed = bed().await;
    let manager = bed.greeted().await;
    manager.to.send(Err(LinkError::Reset("gone".into()))).await.unwrap();
    let reset = Instant::now();
    bed.greeted().await.report().await;
    assert!(reset.elapsed() <= Duration::from_millis(20), "{:?}", reset.elapsed());
}

#[tokio::test]
async fn orders_are_obeyed_once_and_older_ones_refused() {
    use proto::order_result::Result as Outcome;
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    manager.send(create(10)).await;
    assert_eq!(manager.result().await, Outcome::Created(true));
    manager.send(create(10)).await;
    assert_eq!(manager.result().await, Outcome::Created(true), "sent again is no error");
    assert_eq!(bed.hypervisor.orders().len(), 1, "and creates nothing twice");
    let report = manager.report().await;
    let watcher = WatcherId::new(3);
    assert!(report.watchers.contains(&(watcher, HypervisorState::Running)), "{report:?}");
    assert!(report.legs.contains_key(&watcher), "and where its peers reach it");
    let destroy = proto::DestroyWatcher { fence: Some(fence(1, 12).into()), watcher: 3 };
    manager.send(to_node::Message::DestroyWatcher(destroy)).await;
    assert_eq!(manager.result().await, Outcome::Destroyed(true));
    manager.send(create(10)).await;
    let Outcome::Failed(why) = manager.result().await else { panic!("a late order brings nothing back") };
    assert!(why.contains("(1, 10)") && why.contains("(1, 12)"), "{why}");
    assert_eq!(bed.hypervisor.orders().len(), 1);
}

#[tokio::test]
async fn ownership_gives_reports_their_generation_and_the_grant_key_is_remembered() {
    let mut bed = bed().await;
    let mut manager = bed.greeted().await;
    assert_eq!(manager.report().await.vms[0].generation, Generation::new(0), "never told");
    let vms = BTreeMap::from([(bed.vm, 4)]);
    let owned = |index: u64, generation: u64| proto::Ownership {
        fence: Some(fence(1, index).into()),
        vms: vms.keys().map(|vm| proto::OwnedVm { vm: convert::vm_bytes(*vm), generation }).collect(),
    };
    manager.send(to_node::Message::Ownership(owned(20, 4))).await;
    manager.report_that(|r| r.vms.iter().any(|v| v.generation == Generation::new(4))).await;
    manager.send(to_node::Message::Ownership(owned(19, 3))).await;
    manager.send(to_node::Message::Resync(proto::Resync {})).await;
    let after = manager.report_that(|r| r.full).await;
    assert_eq!(after.vms[0].generation, Generation::new(4), "an older ownership is refused");
    assert_eq!(bed.store.with(|m| m.cluster.clone()).unwrap().grant_public_key, vec![1; 32]);
}
