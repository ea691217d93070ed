//! A manager for the API's tests: a state in memory that commands are really applied to, and a made-up process.

mod live;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::request::Builder;
use axum::http::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tower::ServiceExt;
use vouch_types::command::{ClusterSecrets, PathChange};
use vouch_types::{
    Applied, BootId, Cause, ClusterId, Command, Fault, Incarnation, IncidentChange, IncidentScope, IncidentWord,
    LogIndex, ManagerId, ManagerNode, Network, NextCa, NodeId, NodePath, NodeRecord, RankedCause, SortedMap, Source,
    Term, Timing, Verdict, VerdictChange, VerdictVersion, VmId, VmSpec, VmState, WallTime,
};
use vouch_wire::links::{LinkError, PeerLink, Session};
use vouch_wire::proto;

use self::live::{Heard, SimLive};
use crate::api::view::HeardView;
use crate::api::{Api, ApiParts, ApiToken, MembersApi, OwnHosts, Published};
use crate::raft::{ConsensusStatus, Consistency, ProposeError, ReadError, Role};
use crate::seams::{MemoryBlobs, SeededRng, WallClock};
use crate::store::State;

/// The token of every manager here.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How a manager stands in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It leads, with a quorum.
    Leads,
    /// It leads, as it believes, and hears nobody.
    LeadsAlone,
    /// It follows m1.
    Follows,
}

/// State and standing of one manager.
pub struct SimPublished {
    manager: ManagerId,
    state: Mutex<State>,
    standing: Mutex<Standing>,
    applied: watch::Sender<LogIndex>,
    rounds: AtomicUsize,
    round_takes: Mutex<Duration>,
    write_takes: Mutex<Duration>,
}

impl SimPublished {
    /// Applies a command as the next of the log.
    pub fn apply(&self, command: Command) -> Applied {
        let index = self.applied.borrow().next();
        let (applied, _) = self.state.lock().unwrap().apply(index, command);
        self.applied.send_replace(index);
        applied
    }

    /// Returns how often somebody asked whether the state is current.
    pub fn rounds(&self) -> usize {
        self.rounds.load(Ordering::SeqCst)
    }

    /// Changes how long such a question takes.
    pub fn slow_rounds(&self, takes: Duration) {
        *self.round_takes.lock().unwrap() = takes;
    }

    /// Changes how long it takes until a command is applied.
    pub fn slow_writes(&self, takes: Duration) {
        *self.write_takes.lock().unwrap() = takes;
    }

    /// Changes how it stands in the cluster.
    pub fn stand(&self, standing: Standing) {
        *self.standing.lock().unwrap() = standing;
    }
}

#[async_trait]
impl Published for SimPublished {
    fn look(&self, look: &mut dyn FnMut(&State)) {
        look(&self.state.lock().unwrap());
    }

    fn status(&self) -> ConsensusStatus {
        let standing = *self.standing.lock().unwrap();
        let applied = *self.applied.borrow();
        let node = |port: u16| ManagerNode {
            addresses: vec![(Network::Management, ([127, 0, 0, 1], port).into())],
            api: format!("http://127.0.0.1:{}", port + 1000),
        };
        ConsensusStatus {
            manager: self.manager,
            role: if standing == Standing::Follows { Role::Follower } else { Role::Leader },
            term: Term::new(3),
            leader: Some(if standing == Standing::Follows { ManagerId::new(1) } else { self.manager }),
            quorum_acked: standing == Standing::Leads,
            last_log: applied,
            committed: applied,
            applied,
            snapshot: LogIndex::new(0),
            learners: BTreeMap::new(),
            voters: (1..=3).map(|i| (ManagerId::new(i), node(6000 + u16::try_from(i).unwrap()))).collect(),
            replicated: BTreeMap::new(),
        }
    }

    fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    async fn ensure_current(&self, _: Consistency) -> Result<(), ReadError> {
        self.rounds.fetch_add(1, Ordering::SeqCst);
        let takes = *self.round_takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        match *self.standing.lock().unwrap() {
            Standing::Leads => Ok(()),
            Standing::LeadsAlone => Err(ReadError::NoQuorum),
            Standing::Follows => Err(ReadError::NotLeader { leader: Some(ManagerId::new(1)) }),
        }
    }

    async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        match *self.standing.lock().unwrap() {
            Standing::Leads => {}
            Standing::LeadsAlone => return Err(ProposeError::Unknown { leader: None }),
            Standing::Follows => return Err(ProposeError::NotLeader { leader: Some(ManagerId::new(1)) }),
        }
        let takes = *self.write_takes.lock().unwrap();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        Ok(self.apply(command))
    }
}

/// Hands what is forwarded to the other managers' API, as the mutually authenticated port would.
#[derive(Default)]
pub struct SimPeers(OnceLock<BTreeMap<ManagerId, Api>>);

#[async_trait]
impl PeerLink for SimPeers {
    async fn evidence(&self, _: ManagerId) -> Result<Session<proto::EvidenceFrame, proto::EvidenceFrame>, LinkError> {
        Err(LinkError::Refused("not in this test".to_owned()))
    }

    async fn forward(
        &self,
        to: ManagerId,
        request: proto::ForwardRequest,
    ) -> Result<proto::ForwardResponse, LinkError> {
        let api = self.0.get().and_then(|peers| peers.get(&to)).ok_or_else(|| LinkError::Unreachable {
            to: to.to_string(),
            address: "nowhere".to_owned(),
            why: "it is not there".to_owned(),
        })?;
        match request.request {
            Some(proto::forward_request::Request::Api(request)) => {
                let answer = MembersApi::from(api.clone()).forwarded(request).await;
                Ok(proto::ForwardResponse { response: Some(proto::forward_response::Response::Api(answer)) })
            }
            other => panic!("the api forwards nothing but api requests: {other:?}"),
        }
    }
}

struct StoppedClock;

impl WallClock for StoppedClock {
    fn now(&self) -> WallTime {
        WallTime::from_unix_millis(1_795_383_407_042)
    }
}

/// One manager with its API.
pub struct SimManager {
    /// Its state and standing.
    pub published: Arc<SimPublished>,
    /// Its blobs.
    pub blobs: Arc<MemoryBlobs>,
    /// Its API.
    pub api: Api,
    peers: Arc<SimPeers>,
    heard: Heard,
}

impl SimManager {
    /// Has it hear a node whose last word is so old, and nobody else.
    pub fn hear(&self, node: &str, age_ms: Option<u64>) {
        let (manager, peer, stream) = (self.api.manager().to_string(), node.to_owned(), "open".to_owned());
        *self.heard.lock().unwrap() = vec![HeardView { manager, peer, stream, networks: Vec::new(), age_ms }];
    }
}

fn manager(id: u64, standing: Standing) -> SimManager {
    let id = ManagerId::new(id);
    let published = Arc::new(SimPublished {
        manager: id,
        state: Mutex::default(),
        standing: Mutex::new(standing),
        applied: watch::Sender::new(LogIndex::new(0)),
        rounds: AtomicUsize::new(0),
        round_takes: Mutex::default(),
        write_takes: Mutex::default(),
    });
    let blobs = Arc::new(MemoryBlobs::default());
    let peers = Arc::new(SimPeers::default());
    let heard = Heard::default();
    let api = api_that_hears(id, published.clone(), blobs.clone(), peers.clone(), heard.clone());
    SimManager { published, blobs, api, peers, heard }
}

/// Returns the API of a manager whose state is elsewhere.
pub fn api_of(id: ManagerId, published: Arc<dyn Published>, blobs: Arc<MemoryBlobs>, peers: Arc<SimPeers>) -> Api {
    api_that_hears(id, published, blobs, peers, Heard::default())
}

fn api_that_hears(
    id: ManagerId,
    published: Arc<dyn Published>,
    blobs: Arc<MemoryBlobs>,
    peers: Arc<SimPeers>,
    heard: Heard,
) -> Api {
    Api::new(ApiParts {
        manager: id,
        published,
        live: Arc::new(SimLive { own: id, heard }),
        peers,
        blobs,
        wall: Arc::new(StoppedClock),
        rng: Arc::new(SeededRng::new(id.get())),
        timing: Timing::default(),
        token: ApiToken::new(TOKEN),
        hosts: OwnHosts::new(["m1.manager.vouch".to_owned()]),
    })
}

/// Lets APIs that share these peers reach one another.
pub fn connect(peers: &SimPeers, apis: BTreeMap<ManagerId, Api>) {
    assert!(peers.0.set(apis).is_ok());
}

/// Returns a leader that knows nobody else.
pub fn lone() -> SimManager {
    manager(1, Standing::Leads)
}

/// Returns three managers that reach one another; the first leads.
pub fn three() -> [SimManager; 3] {
    let all = [manager(1, Standing::Leads), manager(2, Standing::Follows), manager(3, Standing::Follows)];
    let apis: BTreeMap<ManagerId, Api> = (1..).map(ManagerId::new).zip(all.iter().map(|m| m.api.clone())).collect();
    for manager in &all {
        connect(&manager.peers, apis.clone());
    }
    all
}

/// Returns the time of the tests, `ms` later.
pub fn at(ms: u64) -> WallTime {
    WallTime::from_unix_millis(1_795_383_407_042 + ms)
}

/// Returns a node's name.
pub fn node_id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Returns a VM's id.
pub fn vm_id(number: u128) -> VmId {
    VmId::new(uuid::Uuid::from_u128(0x6f1c_2a9e_0000_4000_8000_0000_0000_0000 + number))
}

/// Makes a cluster with a node of this name that has these VMs.
pub fn populate(published: &SimPublished, node: &str, vms: &[(u128, &str)]) {
    if published.state.lock().unwrap().cluster().is_none() {
        let secrets = ClusterSecrets {
            ca_certificate: "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned(),
            ca_key: String::new(),
            grant_key: Vec::new(),
            grant_public_key: Vec::new(),
            next_ca: NextCa::None,
        };
        let cluster = ClusterId::new(uuid::Uuid::from_u128(7));
        published.apply(Command::InitCluster { cluster, secrets, at: at(0) });
    }
    let record = NodeRecord {
        fence: None,
        modified: LogIndex::default(),
        id: node_id(node),
        rack: None,
        relay: "127.0.0.1:7002".parse().unwrap(),
        statement_key: vec![0; 32],
        boot: BootId::new(uuid::Uuid::from_u128(9)),
        incarnation: Incarnation::new(1),
        driver: "local".to_owned(),
        hosts_watchers: true,
        path: NodePath::direct(at(1)),
    };
    published.apply(Command::RecordNode { node: record, at: at(1) });
    let spec = |(number, name): &(u128, &str)| VmSpec {
        id: vm_id(*number),
        name: (*name).to_owned(),
        addresses: SortedMap::from([(Network::Service, vec!["127.0.11.1".parse().unwrap()])]),
        probes: Vec::new(),
        labels: SortedMap::new(),
        datastore: None,
    };
    let vms = vms.iter().map(spec).collect();
    published.apply(Command::RecordVms { node: node_id(node), vms, at: at(2) });
}

/// Records a state of a VM.
pub fn judge(published: &SimPublished, vm: VmId, state: VmState, reason: &str, ms: u64) {
    let (generation, replaces) = {
        let state = published.state.lock().unwrap();
        let record = &state.vms()[&vm];
        (record.generation, record.verdict.version)
    };
    let verdict = Verdict { state, reason: reason.to_owned(), ..Verdict::unjudged(at(ms)) };
    let change = VerdictChange { shared: None, vm, generation, replaces, verdict };
    published.apply(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts: vec![change],
        paths: Vec::new(),
        manager_notes: None,
        at: at(ms),
    });
}

/// Records that a node's path is cut.
pub fn cut(published: &SimPublished, node: &str, ms: u64) {
    let path = PathChange {
        node: node_id(node),
        replaces: VerdictVersion::default(),
        source: Source::Watcher,
        faults: vec![Fault::sure(Cause::ManagerNodePath)],
        reason: "no manager hears the node".to_owned(),
        hand_backs: Vec::new(),
    };
    published.apply(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: Vec::new(),
        placements: Vec::new(),
        verdicts: Vec::new(),
        paths: vec![path],
        manager_notes: None,
        at: at(ms),
    });
}

/// Returns a request as a client with the token sends it.
pub fn request(method: &str, path: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:7080")
        .header("authorization", format!("Bearer {TOKEN}"))
}

/// Sends a request through the whole router, guard included.
pub async fn send(manager: &SimManager, request: Request<Body>) -> Response<Body> {
    manager.api.router().oneshot(request).await.unwrap()
}

/// Gets a document.
pub async fn get(manager: &SimManager, path: &str) -> (StatusCode, Value) {
    body(send(manager, request("GET", path).body(Body::empty()).unwrap()).await).await
}

/// Returns status and document of a response.
pub async fn body(response: Response<Body>) -> (StatusCode, Value) {
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into()))
}

/// Opens an incident, changes what it says, or closes it with `None`.
pub fn incident(published: &SimPublished, scope: &IncidentScope, nodes: Option<&[&str]>, ms: u64) {
    let word = nodes.map(|nodes| IncidentWord {
        fault: Fault::ranked(vec![
            RankedCause { cause: Cause::Node, score: 60 },
            RankedCause { cause: Cause::NodeIsolated, score: 40 },
        ]),
        vms_touched: 3,
        nodes_touched: nodes.len() as u64,
        nodes: nodes.iter().map(|name| node_id(name)).collect(),
        reason: "silent on every path".to_owned(),
    });
    published.apply(Command::RecordVerdicts {
        boots: Vec::new(),
        claims: Vec::new(),
        incidents: vec![IncidentChange { scope: scope.clone(), word }],
        placements: Vec::new(),
        verdicts: Vec::new(),
        paths: Vec::new(),
        manager_notes: None,
        at: at(ms),
    });
}
