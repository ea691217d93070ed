//! A whole node over real TLS on loopback, with the driver `local`.

use std::path::Path;

use async_trait::async_trait;
use futures::stream::BoxStream;
use ring::rand::SystemRandom;
use tokio::sync::mpsc;
use tokio::time::timeout;
use vouch_types::{
    AssignmentGeneration, ClusterId, Grant, HypervisorState, ManagerId, NodeId, Timing, VmId, WallTime, WatcherId,
};
use vouch_wire::convert;
use vouch_wire::grpc::{GrpcRelayLink, serve_manager};
use vouch_wire::links::{Caller, LinkError, LogNames, ManagerService, RaftCall, RaftService, RelayLink, Session};
use vouch_wire::pki::{CertificateAuthority, ShownCertificate, VALIDITY_MIN, client_config, server_config};
use vouch_wire::proto::{self, from_node, to_node};
use vouch_wire::sign::{GrantSigner, verify_statement};

use super::*;

const VM: &str = "6f1c2a9e-0000-4000-8000-000000000001";
const LONG: Duration = Duration::from_secs(30);

type NodeSession = Session<proto::FromNode, proto::ToNode>;

/// A manager that hands the node's session to the test and does nothing else.
struct SimManager {
    sessions: mpsc::UnboundedSender<(NodeId, NodeSession)>,
    /// Signs certificates anew; none does not.
    ca: Option<CertificateAuthority>,
    /// What it says of a node that was removed; none lets it in.
    removed: Option<String>,
}

#[async_trait]
impl ManagerService for SimManager {
    async fn node_session(&self, node: Caller<NodeId>, session: NodeSession) -> Result<(), LinkError> {
        if let Some(why) = &self.removed {
            return Err(LinkError::Removed(why.clone()));
        }
        let _ = self.sessions.send((node.id, session));
        Ok(())
    }
    async fn watcher_session(&self, _: Caller<WatcherId>, _: Session<proto::FromWatcher, proto::ToWatcher>) {}
    async fn evidence_session(&self, _: Caller<ManagerId>, _: Session<proto::EvidenceFrame, proto::EvidenceFrame>) {}
    async fn forward(&self, _: ManagerId, _: proto::ForwardRequest) -> proto::ForwardResponse {
        proto::ForwardResponse::default()
    }
    async fn enroll(&self, _: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError> {
        Err(LinkError::Refused("not here".into()))
    }
    async fn join(&self, _: proto::JoinRequest, _: Option<SocketAddr>) -> Result<proto::JoinResponse, LinkError> {
        Err(LinkError::Refused("not here".into()))
    }
    async fn check_certificate(
        &self,
        shown: ShownCertificate,
        check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError> {
        if let Some(why) = &self.removed {
            return Err(LinkError::Removed(why.clone()));
        }
        let refused = || LinkError::Refused("not here".into());
        let ca = self.ca.as_ref().ok_or_else(refused)?;
        let certificate = ca.sign_request(&check.csr, &shown.owner, wall_now(), VALIDITY_MIN).map_err(|_| refused())?;
        let ca_certificates = ca.certificate_pem().to_owned();
        Ok(proto::CertificateAnswer { certificate, ca_certificates, renew_now: false, next_check_secs: 600 })
    }

    async fn probe_bytes(&self, _: [u8; 32]) -> Option<bytes::Bytes> {
        None
    }
}

/// Consensus is no part of this.
struct NoRaft;

#[async_trait]
impl RaftService for NoRaft {
    async fn call(&self, _: ManagerId, _: RaftCall) -> Result<Vec<u8>, LinkError> {
        Err(LinkError::Refused("not here".into()))
    }
    async fn append_stream(
        &self,
        _: ManagerId,
        _: LogNames,
        _: BoxStream<'static, Result<Vec<u8>, LinkError>>,
    ) -> BoxStream<'static, Result<Vec<u8>, LinkError>> {
        Box::pin(futures::stream::empty())
    }
}

struct Bed {
    dir: tempfile::TempDir,
    ca: CertificateAuthority,
    now: WallTime,
}

fn bed() -> Bed {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let now = WallTime::from_unix_millis(u64::try_from(now.as_millis()).unwrap());
    let dir = tempfile::Builder::new().prefix("vn").tempdir().unwrap();
    std::fs::create_dir(dir.path().join("vms")).unwrap();
    Bed { dir, ca: CertificateAuthority::generate("test", now).unwrap(), now }
}

impl Bed {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn identity(&self, owner: &PeerIdentity) -> Identity {
        self.ca.issue(owner, self.now, VALIDITY_MIN).unwrap().identity().unwrap()
    }

    /// Writes certificate files for `owner` and returns the configuration of node n1 that uses them.
    fn config(&self, owner: &PeerIdentity, manager: SocketAddr) -> Config {
        use std::os::unix::fs::PermissionsExt;
        let issued = self.ca.issue(owner, self.now, VALIDITY_MIN).unwrap();
        let file = |name: &str, text: &str| {
            let path = self.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let ca = file("ca.pem", &issued.ca_certificate_pem);
        let certificate = file("n1.pem", &issued.certificate_pem);
        let key = file("n1.key", &issued.key_pem);
        let relay = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let vm = self.path().join("vm");
        std::fs::write(&vm, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&vm, std::fs::Permissions::from_mode(0o700)).unwrap();
        let text = format!(
            "id = \"n1\"\ndata_dir = {:?}\nrelay = \"{relay}\"\n[tls]\nca_certificate = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n[[manager]]\nid = \"m1\"\nmanagement = \"{manager}\"\n[hypervisor]\ndriver = \"local\"\nvm_dir = {:?}\n[hypervisor.local]\nbinary = {vm:?}\n",
            self.path().join("d"),
            self.path().join("vms"),
        );
        Config::parse(&text).unwrap()
    }

    fn vm_file(&self, name: &str, text: &str) {
        std::fs::write(self.path().join("vms").join(name), text).unwrap();
    }
}

fn good_vm() -> String {
    format!("id = \"{VM}\"\nname = \"a\"\n[local]\naddress = \"127.0.10.1\"\nrdp_port = 5\n")
}

fn n1() -> PeerIdentity {
    PeerIdentity::Node(NodeId::new("n1").unwrap())
}

fn nowhere() -> SocketAddr {
    "127.0.0.1:9".parse().unwrap()
}

#[tokio::test]
async fn a_bad_vm_file_refuses_the_start_with_its_path_and_nothing_is_made() {
    let bed = bed();
    bed.vm_file("a.toml", &good_vm());
    bed.vm_file("b.toml", "id = \"no-uuid\"\nname = \"b\"\n");
    let error = run_until(bed.config(&n1(), nowhere()), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("b.toml") && error.to_string().contains("UUID"), "{error}");
    assert!(!bed.path().join("d").exists());
}

#[tokio::test]
async fn a_certificate_of_another_node_refuses_the_start() {
    let bed = bed();
    let other = PeerIdentity::Node(NodeId::new("n2").unwrap());
    let error = run_until(bed.config(&other, nowhere()), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("n1.pem") && error.to_string().contains("n2"), "{error}");
}

#[tokio::test]
async fn a_relay_port_in_use_refuses_the_start_with_the_address() {
    let bed = bed();
    let mut config = bed.config(&n1(), nowhere());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    config.relay = taken.local_addr().unwrap();
    let error = run_until(config.clone(), CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains(&config.relay.to_string()), "{error}");
}

#[tokio::test]
async fn a_node_reports_its_vm_and_its_relay_serves_a_watcher_with_a_grant_after_the_manager_is_gone() {
    let bed = bed();
    bed.vm_file("a.toml", &good_vm());
    let manager = PeerIdentity::Manager(ManagerId::new(1));
    let clock = || Arc::new(DefaultTimeProvider);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = bed.config(&n1(), listener.local_addr().unwrap());
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let tls = server_config(&bed.identity(&manager), clock()).unwrap();
    let stop_manager = CancellationToken::new();
    let listeners = vec![(Network::Management, listener)];
    tokio::spawn(serve_manager(
        listeners,
        tls,
        Arc::new(SimManager { sessions: sender, ca: None, removed: None }),
        Arc::new(NoRaft),
        stop_manager.clone(),
    ));
    let stop = CancellationToken::new();
    let node = tokio::spawn(run_until(config.clone(), stop.clone()));

    let (who, mut session) = timeout(LONG, sessions.recv()).await.unwrap().unwrap();
    assert_eq!(who.as_str(), "n1");
    let grants = GrantSigner::generate(&SystemRandom::new()).unwrap();
    let cluster = ClusterId::new(uuid::Uuid::from_u128(7));
    let vm: VmId = VM.parse().unwrap();
    let welcome = proto::ManagerWelcome {
        manager: 1,
        incarnation: 1,
        cluster: convert::cluster_bytes(cluster),
        grant_public_key: grants.public_key().to_vec(),
        timing: serde_json::to_string(&Timing::default()).unwrap(),
        ..Default::default()
    };
    let ownership = proto::Ownership {
        fence: Some(proto::Fence { term: 1, log_index: 5 }),
        vms: vec![proto::OwnedVm { vm: convert::vm_bytes(vm), generation: 2 }],
    };
    for message in [to_node::Message::Welcome(welcome), to_node::Message::Ownership(ownership)] {
        session.outbound.send(proto::ToNode { message: Some(message) }).await.unwrap();
    }
    let mut key = Vec::new();
    loop {
        let message = timeout(LONG, session.inbound.recv()).await.unwrap().unwrap().unwrap().message.unwrap();
        match message {
            from_node::Message::Hello(hello) => key = hello.statement_key,
            from_node::Message::Report(report) => {
                let report = convert::NodeReport::try_from(report).unwrap();
                if report.vms.iter().any(|v| v.generation.get() == 2 && v.state == HypervisorState::Running) {
                    break;
                }
            }
            from_node::Message::OrderResult(_) => {}
        }
    }
    // The path to the managers is gone: now the watcher's way counts.
    drop(session);
    stop_manager.cancel();

    let watcher = WatcherId::new(3);
    let tls = client_config(&bed.identity(&PeerIdentity::Watcher(watcher)), clock()).unwrap();
    let relay = GrpcRelayLink::new(Dialler::new(tls, DialOptions::default()), LONG);
    let node_id = NodeId::new("n1").unwrap();
    let grant =
        Grant { cluster, watcher, node: node_id.clone(), vms: vec![vm], generation: AssignmentGeneration::new(1) };
    let request = proto::StateRequest { grant: Some(grants.sign(&grant)), nonce: 11 };
    let answer = relay.state(&node_id, config.relay, request.clone()).await.unwrap();
    let statement = verify_statement(&answer.statements[0], &key).unwrap();
    assert_eq!((statement.nonce.get(), statement.state), (11, HypervisorState::Running));
    let forged = proto::StateRequest {
        grant: Some(grants.sign(&Grant { vms: vec![], watcher: WatcherId::new(4), ..grant })),
        ..request
    };
    assert!(matches!(relay.state(&node_id, config.relay, forged).await, Err(LinkError::Refused(_))));

    stop.cancel();
    timeout(LONG, node).await.unwrap().unwrap().unwrap();
    let machines = crate::running_machines(&config.run_dir()).unwrap();
    assert_eq!(machines[0].0, format!("vm {VM}"), "the VM runs on when its agent ends");
    machines[0].1.kill().unwrap();
}

#[tokio::test]
async fn a_certificate_in_its_second_half_is_renewed_while_the_node_runs() {
    let mut bed = bed();
    let now = bed.now;
    // Made five days ago, for a week.
    bed.now = WallTime::from_unix_millis(now.as_unix_millis() - 5 * 24 * 3600 * 1000);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = bed.config(&n1(), listener.local_addr().unwrap());
    let (sender, mut sessions) = mpsc::unbounded_channel();
    let clock = Arc::new(DefaultTimeProvider);
    let tls = server_config(&bed.identity(&PeerIdentity::Manager(ManagerId::new(1))), clock).unwrap();
    let ca = CertificateAuthority::from_pem(bed.ca.certificate_pem(), &bed.ca.key_pem()).unwrap();
    let service = Arc::new(SimManager { sessions: sender, ca: Some(ca), removed: None });
    let (stop, stop_manager) = (CancellationToken::new(), CancellationToken::new());
    let listeners = vec![(Network::Management, listener)];
    tokio::spawn(serve_manager(listeners, tls, service, Arc::new(NoRaft), stop_manager.clone()));
    let load = || Identity::load(&config.tls.certificate, &config.tls.key, &config.tls.ca_certificate).unwrap();
    let before = load();
    let node = tokio::spawn(run_until(config.clone(), stop.clone()));
    let (_, mut session) = timeout(LONG, sessions.recv()).await.unwrap().unwrap();
    let renewed = async {
        while load().chain() == before.chain() {
            // The node's own messages keep this going; it dials anew when it hears nothing for long.
            if !matches!(session.inbound.recv().await, Some(Ok(_))) {
                session = sessions.recv().await.unwrap().1;
            }
        }
    };
    timeout(LONG, renewed).await.expect("renewed in time");
    assert!(load().validity().unwrap().until > now);
    assert!(LiveIdentity::new(load(), Arc::new(DefaultTimeProvider)).is_ok(), "key and certificate fit together");
    stop.cancel();
    timeout(LONG, node).await.unwrap().unwrap().unwrap();
    stop_manager.cancel();
}

/// A manager that has removed every node; returns its address and what stops it.
async fn manager_that_has_removed(bed: &Bed, why: &str) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sessions, _) = mpsc::unbounded_channel();
    let tls = server_config(&bed.identity(&PeerIdentity::Manager(ManagerId::new(1))), Arc::new(DefaultTimeProvider));
    let service = Arc::new(SimManager { sessions, ca: None, removed: Some(why.to_owned()) });
    let stop = CancellationToken::new();
    let listeners = vec![(Network::Management, listener)];
    tokio::spawn(serve_manager(listeners, tls.unwrap(), service, Arc::new(NoRaft), stop.clone()));
    (address, stop)
}

#[tokio::test]
async fn a_node_that_was_removed_starts_no_guest_and_ends_with_what_to_do() {
    let bed = bed();
    bed.vm_file("a.toml", &good_vm());
    let why = "node n1 was removed from the cluster: join again";
    let (address, stop_manager) = manager_that_has_removed(&bed, why).await;
    let config = bed.config(&n1(), address);
    let ended = timeout(LONG, run_until(config.clone(), CancellationToken::new())).await.unwrap();
    let error = ended.unwrap_err();
    assert!(error.is_removed() && !error.is_config(), "{error}");
    assert_eq!(error.to_string(), why);
    assert!(crate::running_machines(&config.run_dir()).unwrap().is_empty(), "it may run elsewhere by now");
    stop_manager.cancel();
}

#[tokio::test]
async fn a_node_that_was_removed_leaves_the_guests_that_run_as_they_are() {
    let bed = bed();
    bed.vm_file("a.toml", &good_vm());
    let config = bed.config(&n1(), nowhere());
    let stop = CancellationToken::new();
    let node = tokio::spawn(run_until(config.clone(), stop.clone()));
    let run_dir = config.run_dir();
    let running = async {
        while !crate::running_machines(&run_dir).is_ok_and(|machines| machines.len() == 1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, running).await.expect("without a word of the managers its guest is started");
    stop.cancel();
    timeout(LONG, node).await.unwrap().unwrap().unwrap();
    let before = crate::running_machines(&run_dir).unwrap();
    let (address, stop_manager) = manager_that_has_removed(&bed, "removed").await;
    let ended = timeout(LONG, run_until(bed.config(&n1(), address), CancellationToken::new())).await.unwrap();
    assert!(ended.unwrap_err().is_removed());
    assert_eq!(crate::running_machines(&run_dir).unwrap(), before, "the same processes");
    before[0].1.kill().unwrap();
    stop_manager.cancel();
}
