//! The watcher as a process: precompiled probes, a secret redeemed over TLS, a session, and no compiler.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vouch_probe_bundle::BundledProbe;
use vouch_types::{ManagerId, Network, NodeId, Timing, WallTime, WatcherBoot, WatcherId, WatcherLeg};
use vouch_wire::grpc::serve_manager;
use vouch_wire::links::{Caller, LinkError, LogNames, ManagerService, RaftCall, RaftService, Session};
use vouch_wire::pki::{
    AdjustableTime, CertificateAuthority, PeerIdentity, ShownCertificate, VALIDITY_MIN, server_config,
};
use vouch_wire::proto;
use vouch_wire::proto::from_watcher::Message as Said;
use vouch_wire::proto::to_watcher::Message as Heard;

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: [u8; 32] = [9; 32];
const WATCHER: WatcherId = WatcherId::new(4);

type WatcherSession = Session<proto::FromWatcher, proto::ToWatcher>;

/// A manager that signs for whoever has the secret, hands sessions to the test, and a custom probe to who asks first.
struct TestManager {
    authority: CertificateAuthority,
    component: Mutex<Option<bytes::Bytes>>,
    sessions: mpsc::UnboundedSender<(WatcherId, WatcherSession)>,
}

#[async_trait]
impl ManagerService for TestManager {
    async fn node_session(
        &self,
        _: Caller<NodeId>,
        _: Session<proto::FromNode, proto::ToNode>,
    ) -> Result<(), LinkError> {
        Ok(())
    }

    async fn watcher_session(&self, watcher: Caller<WatcherId>, session: WatcherSession) {
        let _ = self.sessions.send((watcher.id, session));
    }

    async fn evidence_session(&self, _: Caller<ManagerId>, _: Session<proto::EvidenceFrame, proto::EvidenceFrame>) {}

    async fn forward(&self, _: ManagerId, _: proto::ForwardRequest) -> proto::ForwardResponse {
        proto::ForwardResponse::default()
    }

    async fn enroll(&self, request: proto::EnrollRequest) -> Result<proto::EnrollResponse, LinkError> {
        if request.secret != SECRET {
            return Err(LinkError::Refused("wrong secret".to_owned()));
        }
        let owner = PeerIdentity::Watcher(WatcherId::new(request.watcher));
        let certificate = self.authority.sign_request(&request.csr, &owner, wall(), VALIDITY_MIN);
        Ok(proto::EnrollResponse { certificate: certificate.map_err(|e| LinkError::Refused(e.to_string()))? })
    }

    async fn join(
        &self,
        _: proto::JoinRequest,
        _: Option<std::net::SocketAddr>,
    ) -> Result<proto::JoinResponse, LinkError> {
        Err(LinkError::Refused("not here".to_owned()))
    }

    async fn check_certificate(
        &self,
        _shown: ShownCertificate,
        _check: proto::CertificateCheck,
    ) -> Result<proto::CertificateAnswer, LinkError> {
        Err(LinkError::Refused("this manager signs nothing".to_owned()))
    }

    async fn probe_bytes(&self, _: [u8; 32]) -> Option<bytes::Bytes> {
        self.component.lock().unwrap().take()
    }
}

struct NoRaft;

#[async_trait]
impl RaftService for NoRaft {
    async fn call(&self, _: ManagerId, _: RaftCall) -> Result<Vec<u8>, LinkError> {
        Err(LinkError::Refused("no Raft here".to_owned()))
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

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    WallTime::from_unix_millis(u64::try_from(since.as_millis()).unwrap())
}

/// Serves a manager on a port of its own, and returns the boot configuration of a watcher that is to find it.
async fn manager() -> (WatcherBoot, mpsc::UnboundedReceiver<(WatcherId, WatcherSession)>) {
    let authority = CertificateAuthority::generate("test", wall()).unwrap();
    let ca_certificate = authority.certificate_pem().to_owned();
    let number = ManagerId::new(1);
    let identity = authority.issue(&PeerIdentity::Manager(number), wall(), VALIDITY_MIN).unwrap().identity().unwrap();
    let tls = server_config(&identity, Arc::new(AdjustableTime::at_least(WallTime::default()))).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, sessions) = mpsc::unbounded_channel();
    let service = Arc::new(TestManager {
        authority,
        component: Mutex::new(Some(bytes::Bytes::from_static(vouch_probe_bundle::hostile().bytes))),
        sessions: sender,
    });
    let listeners = vec![(Network::Management, listener)];
    tokio::spawn(serve_manager(listeners, tls, service, Arc::new(NoRaft), CancellationToken::new()));
    let leg = WatcherLeg {
        network: Network::Management,
        mac: String::new(),
        address: "127.0.0.2".parse().unwrap(),
        prefix_len: 8,
    };
    let boot = WatcherBoot {
        watcher: WATCHER,
        node: NodeId::new("n1").unwrap(),
        secret: "09".repeat(32),
        ca_certificate,
        managers: vec![(number, Network::Management, address)],
        legs: vec![leg],
        stamp: wall(),
    };
    (boot, sessions)
}

fn precompile(folder: &Path) {
    let binary = Command::new(env!("CARGO_BIN_EXE_vouch-watcher"))
        .args(["precompile", "--out"])
        .arg(folder)
        .stderr(Stdio::null())
        .status();
    assert!(binary.unwrap().success());
}

/// Starts a watcher on what lies in this folder: `boot.json`, `probes`, `compiled`.
fn watcher(folder: &Path, log: &Path) -> tokio::process::Child {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_vouch-watcher"));
    command.arg("run");
    for (flag, name) in [("--boot", "boot.json"), ("--probes-dir", "probes"), ("--compiled-dir", "compiled")] {
        command.arg(flag).arg(folder.join(name));
    }
    command.stderr(std::fs::File::create(log).unwrap()).kill_on_drop(true).spawn().unwrap()
}

/// A folder with the shipped probes in it, and what a node hands to its watcher.
async fn folder() -> (TempDir, mpsc::UnboundedReceiver<(WatcherId, WatcherSession)>) {
    let folder = tempfile::tempdir().unwrap();
    precompile(&folder.path().join("probes"));
    let (boot, sessions) = manager().await;
    let path = folder.path().join("boot.json");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(&serde_json::to_vec(&boot).unwrap()).unwrap();
    (folder, sessions)
}

fn assignment(probe: &BundledProbe, settings: String) -> proto::Assignment {
    proto::Assignment {
        fence: Some(proto::Fence { term: 1, log_index: 1 }),
        generation: 1,
        targets: vec![proto::Target {
            vm: vec![5; 16],
            node: "n1".to_owned(),
            addresses: vec![proto::Address {
                network: proto::Network::Service.into(),
                address: "127.0.0.1".to_owned(),
            }],
            probes: vec![proto::ProbeAssignment {
                probe: probe.name.to_owned(),
                network: proto::Network::Service.into(),
                settings,
                ..Default::default()
            }],
            ..Default::default()
        }],
        relays: Vec::new(),
        probes: vec![proto::ProbeComponent {
            name: probe.name.to_owned(),
            digest: probe.digest().as_bytes().to_vec(),
            grant: None,
        }],
        peers: Vec::new(),
    }
}

/// Gives the next watcher that dials this order, and returns the first observation of it that says anything.
async fn observed(
    sessions: &mut mpsc::UnboundedReceiver<(WatcherId, WatcherSession)>,
    assignment: proto::Assignment,
) -> proto::Observation {
    let (who, mut session) = timeout(PATIENCE, sessions.recv()).await.expect("the watcher dials").unwrap();
    assert_eq!(who, WATCHER, "by its certificate");
    let timing = Timing { probe_timeout: Duration::from_secs(5), ..Timing::default() };
    let welcome = proto::ManagerWelcome { timing: serde_json::to_string(&timing).unwrap(), ..Default::default() };
    for message in [Heard::Welcome(welcome), Heard::Assignment(assignment)] {
        session.outbound.send(proto::ToWatcher { message: Some(message) }).await.unwrap();
    }
    let ticks = session.outbound.clone();
    tokio::spawn(async move {
        for sequence in 1.. {
            let message = Some(Heard::Tick(proto::Tick { sequence }));
            if ticks.send(proto::ToWatcher { message }).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let unknown = i32::from(proto::Outcome::Unknown);
    let told = async {
        loop {
            if let Some(Said::Report(report)) = session.inbound.recv().await.unwrap().unwrap().message
                && let Some(observation) = report.observations.into_iter().find(|o| o.outcome != unknown)
            {
                return observation;
            }
        }
    };
    timeout(PATIENCE, told).await.expect("an observation")
}

#[tokio::test]
async fn a_process_redeems_its_secret_and_watches_with_shipped_probes_and_without_a_compiler() {
    let (folder, mut sessions) = folder().await;
    let log = folder.path().join("log");
    let _watcher = watcher(folder.path(), &log);

    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = format!(r#"{{"port": {}}}"#, target.local_addr().unwrap().port());
    let tcp = vouch_probe_bundle::by_name("tcp").unwrap();
    let observation = observed(&mut sessions, assignment(tcp, settings)).await;
    assert_eq!(observation.outcome, i32::from(proto::Outcome::Up), "{observation:?}");
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("probes loaded") && log.contains("compilations=0"), "{log}");
}

#[tokio::test]
async fn what_one_process_compiled_the_next_one_runs_without_a_compiler() {
    let (folder, mut sessions) = folder().await;
    let hostile = vouch_probe_bundle::hostile();
    for (life, said) in [("first", "probe compiled"), ("second", "probe was compiled before")] {
        let log = folder.path().join(life);
        let mut process = watcher(folder.path(), &log);
        let order = r#"{"order": "environment"}"#.to_owned();
        let observation = observed(&mut sessions, assignment(&hostile, order)).await;
        assert_eq!(observation.reason, "counted", "{observation:?}");
        process.kill().await.unwrap();
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains(said) && log.contains("compilations=0"), "{life}: {log}");
        assert_eq!(log.contains("compilations=1"), life == "first", "{log}");
        // The manager has handed it out once, and a stream of the first life may wait to be taken.
        while sessions.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn native_code_that_is_not_in_the_manifest_is_not_loaded() {
    let (folder, _sessions) = folder().await;
    let probe = |name: &str| folder.path().join("probes").join(name);
    let mut code = std::fs::read(probe("tcp.cwasm")).unwrap();
    *code.last_mut().unwrap() ^= 1;
    std::fs::write(probe("ping.cwasm"), code).unwrap();
    let log = folder.path().join("log");
    let status = timeout(PATIENCE, watcher(folder.path(), &log).wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(1));
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("shipped probe ping") && log.contains("not in the manifest"), "{log}");
}
