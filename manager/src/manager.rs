//! The manager as a whole: its parts, how they start, and the handle that everything outside works with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vouch_types::command::ClusterSecrets;
use vouch_types::{
    Applied, ClusterId, Command, Incarnation, ManagerId, ManagerNode, Network, NextCa, ProbeRecord, Term, Timing,
};
use vouch_wire::links::{DatagramLink, LinkError, ManagerService, PeerLink, RaftLink, RaftService};
use vouch_wire::proto;

use crate::api::{Api, InitError, LiveView, MembersApi};
use crate::background::{Background, BackgroundParts, Disk, DiskReport, ReconcilerReport};
use crate::certificates::Certificates;
use crate::counters::Counters;
use crate::detect::{DETECTOR_QUEUE, DetectorInput, DetectorTask};
use crate::enroll::ENROLMENTS_MAX;
use crate::fleet::{FORWARD_WITHIN, Fleet, FleetParts};
use crate::join_limit::RefusedSources;
use crate::live_view::Live;
use crate::members::Members;
use crate::raft::{Consensus, ConsensusConfig, InitializeError, ProposeError, StartError};
use crate::seams::{BlobError, BlobStore, Clock, Follower, Rng, WallClock};
use crate::secrets::new_grant_key;
use crate::service::{MembersRaft, Service};
use crate::store::codec::decode;
use crate::store::{LogStore, Logged, Stores};

/// How long making a cluster may take, in greatest election timeouts.
const INIT_ELECTIONS: u32 = 40;
/// How long a command may take that a caller waits for, in greatest election timeouts.
const SUBMIT_ELECTIONS: u32 = 20;

/// How long a stop waits for another manager to take the leadership, in greatest election timeouts.
const STEP_DOWN_ELECTIONS: u32 = 6;

/// A probe that comes with vouch.
#[derive(Clone, Debug)]
pub struct ShippedProbe {
    /// As the cluster records it.
    pub record: ProbeRecord,
    /// The component.
    pub bytes: Bytes,
}

/// The CA of the cluster, PEM.
#[derive(Clone)]
pub struct CaKeys {
    /// Its certificate.
    pub certificate: String,
    /// Its key, on the manager that makes the cluster.
    pub key: Option<String>,
}

impl std::fmt::Debug for CaKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaKeys").field("has_key", &self.key.is_some()).finish_non_exhaustive()
    }
}

/// What a manager is made of: real parts, or those of a simulator.
pub struct Parts<L> {
    /// Its id.
    pub manager: ManagerId,
    /// Number of its life: higher than that of every earlier one.
    pub incarnation: Incarnation,
    /// Timing of the cluster.
    pub timing: Timing,
    /// All initial members, itself included.
    pub members: BTreeMap<ManagerId, ManagerNode>,
    /// Log, projection and snapshots.
    pub stores: Stores<L>,
    /// The way to the other managers' Raft.
    pub raft_link: Arc<dyn RaftLink>,
    /// The way to the other managers beside Raft.
    pub peer_link: Arc<dyn PeerLink>,
    /// Ways for heartbeats with nodes, per network; none where there are to be none.
    pub datagrams: BTreeMap<Network, Arc<dyn DatagramLink>>,
    /// The time of day.
    pub wall_clock: Arc<dyn WallClock>,
    /// Random numbers.
    pub rng: Arc<dyn Rng>,
    /// Probe components.
    pub blobs: Arc<dyn BlobStore>,
    /// Probes that come with vouch.
    pub shipped: Vec<ShippedProbe>,
    /// The CA of the cluster.
    pub ca: CaKeys,
    /// How often everybody is to ask about certificates.
    pub certificate_check: Duration,
    /// The disk that the stores are on.
    pub disk: Disk,
}

/// Why a manager does not start.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// Consensus does not start.
    #[error(transparent)]
    Consensus(#[from] StartError),
    /// A shipped probe cannot be kept.
    #[error("a shipped probe cannot be kept")]
    Blob(#[from] BlobError),
}

/// Why a command was not applied.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// Consensus here refused or lost it.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The leader was not reached.
    #[error("the leader was not reached")]
    Link(#[from] LinkError),
    /// Nobody leads.
    #[error("no leader within {0:?}")]
    NoLeader(Duration),
    /// The leader's answer makes no sense.
    #[error("the leader's answer cannot be read: {0}")]
    Answer(String),
}

pub(crate) struct Inner {
    pub(crate) manager: ManagerId,
    pub(crate) timing: Timing,
    pub(crate) configured: BTreeMap<ManagerId, ManagerNode>,
    pub(crate) members: Members,
    pub(crate) clock: Clock,
    pub(crate) started: vouch_types::Moment,
    pub(crate) consensus: Consensus,
    pub(crate) fleet: Fleet,
    pub(crate) detector: mpsc::Sender<DetectorInput>,
    pub(crate) leading: Follower<Option<Term>>,
    pub(crate) counters: Counters,
    pub(crate) reports: watch::Receiver<BTreeMap<&'static str, ReconcilerReport>>,
    pub(crate) disk: watch::Receiver<DiskReport>,
    pub(crate) peer_link: Arc<dyn PeerLink>,
    pub(crate) wall_clock: Arc<dyn WallClock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) ca: CaKeys,
    pub(crate) certificates: Certificates,
    pub(crate) enrolling: Semaphore,
    pub(crate) refused_joins: Mutex<RefusedSources>,
    pub(crate) api: OnceLock<MembersApi>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// The handle on a running manager. Cheap to clone.
#[derive(Clone)]
pub struct ManagerHandle(pub(crate) Arc<Inner>);

impl std::fmt::Debug for ManagerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ManagerHandle").field(&self.0.manager).finish()
    }
}

/// The manager as a whole.
#[derive(Debug)]
pub struct Manager;

impl Manager {
    /// Starts a manager from its parts.
    ///
    /// # Errors
    /// [`ManagerError`] when consensus cannot start from what is stored, or a shipped probe cannot be kept.
    pub async fn start<L: LogStore>(parts: Parts<L>) -> Result<ManagerHandle, ManagerError> {
        for probe in &parts.shipped {
            parts.blobs.put(probe.record.digest, &probe.bytes)?;
        }
        let clock = Clock::start();
        let (tasks, stop, counters) = (TaskTracker::new(), CancellationToken::new(), Counters::default());
        let consensus =
            Consensus::start(parts.manager, &ConsensusConfig::from(&parts.timing), parts.stores, parts.raft_link)
                .await?;
        let members = Members::new(consensus.clone(), parts.members.clone());
        let (detector, inputs) = mpsc::channel(DETECTOR_QUEUE);
        let fleet = Fleet::new(FleetParts {
            own: parts.manager,
            incarnation: parts.incarnation,
            timing: parts.timing.clone(),
            members: members.clone(),
            clock,
            rng: Arc::clone(&parts.rng),
            consensus: consensus.clone(),
            peer_link: Arc::clone(&parts.peer_link),
            datagrams: parts.datagrams,
            detector: detector.clone(),
            counters: counters.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let background = Background::new(BackgroundParts {
            own: parts.manager,
            timing: parts.timing.clone(),
            clock,
            wall_clock: Arc::clone(&parts.wall_clock),
            consensus: consensus.clone(),
            fleet: fleet.clone(),
            counters: counters.clone(),
            shipped: parts.shipped.iter().map(|p| p.record.clone()).collect(),
            disk: parts.disk,
        });
        let detecting = DetectorTask {
            own: parts.manager,
            timing: parts.timing.clone(),
            clock,
            wall_clock: Arc::clone(&parts.wall_clock),
            consensus: consensus.clone(),
            fleet: fleet.clone(),
            counters: counters.clone(),
            leading: background.leading(),
            inputs,
        };
        let (leading, reports, disk) = (background.leading(), background.reports(), background.disk());
        let cancel = stop.clone();
        tasks.spawn(async move { cancel.run_until_cancelled_owned(detecting.run()).await });
        fleet.start();
        background.start(&tasks, &stop);
        Ok(ManagerHandle(Arc::new(Inner {
            manager: parts.manager,
            timing: parts.timing,
            configured: parts.members,
            members,
            started: clock.now(),
            clock,
            consensus,
            fleet,
            detector,
            leading,
            counters,
            reports,
            disk,
            peer_link: parts.peer_link,
            wall_clock: parts.wall_clock,
            rng: parts.rng,
            blobs: parts.blobs,
            ca: parts.ca,
            certificates: Certificates::new(parts.certificate_check),
            enrolling: Semaphore::new(ENROLMENTS_MAX),
            refused_joins: Mutex::default(),
            api: OnceLock::new(),
            tasks,
            stop,
        })))
    }
}

impl ManagerHandle {
    /// Returns its id.
    pub fn id(&self) -> ManagerId {
        self.0.manager
    }

    /// Returns consensus: the replicated state, and who leads.
    pub fn consensus(&self) -> &Consensus {
        &self.0.consensus
    }

    /// Returns what other managers' Raft calls.
    pub fn raft_service(&self) -> Arc<dyn RaftService> {
        Arc::new(MembersRaft { members: self.0.members.clone(), raft: self.0.consensus.service() })
    }

    /// Returns what nodes, watchers and other managers call.
    pub fn service(&self) -> Arc<dyn ManagerService> {
        Arc::new(Service(self.clone()))
    }

    /// Returns what the API asks the running manager for.
    pub fn live_view(&self) -> Arc<dyn LiveView> {
        Arc::new(Live(self.clone()))
    }

    /// Calls `each` with all managers now, and whenever they change, until consensus is gone.
    pub async fn follow_members(&self, each: impl FnMut(BTreeMap<ManagerId, ManagerNode>)) {
        self.0.members.follow(each).await;
    }

    /// Hands the leadership over, if this manager has it, and waits a little for another one to take it.
    pub async fn step_down(&self) {
        let within = self.0.timing.raft_election_max * STEP_DOWN_ELECTIONS;
        let roomy = self.0.fleet.managers_with_room();
        if !self.0.consensus.step_down(|id| roomy.contains(&id), within).await {
            tracing::warn!(manager_id = %self.0.manager, "leadership not handed over: nobody took it in time");
        }
    }

    /// Returns the way to the other managers.
    pub fn peer_link(&self) -> Arc<dyn PeerLink> {
        Arc::clone(&self.0.peer_link)
    }

    /// Returns where probe components are kept.
    pub fn blobs(&self) -> Arc<dyn BlobStore> {
        Arc::clone(&self.0.blobs)
    }

    /// Returns the time of day as this manager tells it.
    pub fn wall_clock(&self) -> Arc<dyn WallClock> {
        Arc::clone(&self.0.wall_clock)
    }

    /// Returns the counters of this process.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Returns the term that this manager leads in with a quorum behind it.
    pub fn leads(&self) -> Option<Term> {
        self.0.leading.get()
    }

    /// Lets other managers hand requests to this API. Done once.
    pub fn set_api(&self, api: Api) {
        if self.0.api.set(api.into()).is_err() {
            tracing::warn!("the API was set before");
        }
    }

    /// Has a command agreed on, by way of the leader if that is another manager.
    ///
    /// # Errors
    /// [`SubmitError`]; after a lost answer the command may still be applied.
    pub async fn submit(&self, command: Command) -> Result<Applied, SubmitError> {
        let within = self.0.timing.raft_election_max * SUBMIT_ELECTIONS;
        tokio::time::timeout(within, self.submit_until_done(command))
            .await
            .map_err(|_| SubmitError::NoLeader(within))?
    }

    async fn submit_until_done(&self, command: Command) -> Result<Applied, SubmitError> {
        let command = Logged::from(command);
        loop {
            let leader = match self.0.consensus.propose_logged(command.clone()).await {
                Ok(applied) => return Ok(applied),
                Err(ProposeError::NotLeader { leader }) => leader.filter(|l| *l != self.0.manager),
                Err(error) => return Err(error.into()),
            };
            if let Some(leader) = leader
                && let Some(applied) = self.forward_command(leader, &command).await?
            {
                return Ok(applied);
            }
            tokio::time::sleep(self.0.timing.raft_heartbeat).await;
        }
    }

    /// Hands a command to the leader; `None` when that one does not lead either.
    async fn forward_command(&self, leader: ManagerId, command: &Logged) -> Result<Option<Applied>, SubmitError> {
        let bytes = command.text().into();
        let request = proto::ForwardRequest { request: Some(proto::forward_request::Request::Command(bytes)) };
        let link = Arc::clone(&self.0.peer_link);
        let answer = tokio::time::timeout(FORWARD_WITHIN, link.forward(leader, request))
            .await
            .map_err(|_| LinkError::Timeout(FORWARD_WITHIN))??;
        match answer.response {
            Some(proto::forward_response::Response::Applied(bytes)) => {
                decode("applied command", &bytes).map(Some).map_err(|e| SubmitError::Answer(e.to_string()))
            }
            Some(proto::forward_response::Response::NotLeader(_)) => Ok(None),
            other => Err(SubmitError::Answer(format!("{other:?}"))),
        }
    }

    /// Makes the cluster out of the configured members, and its keys out of this manager's CA key.
    ///
    /// # Errors
    /// [`InitError`] when there is a cluster, there is no CA key here, or no quorum answers in time.
    pub async fn init_cluster(&self) -> Result<ClusterId, InitError> {
        let ca_key = self.0.ca.key.clone().ok_or(InitError::NoCaKey)?;
        // One that lost its log has a cluster, and only does not remember it.
        if self.0.consensus.lost_log().is_some() || self.0.consensus.read_state(|state| state.cluster().is_some()) {
            return Err(InitError::AlreadyInitialised);
        }
        let grants = new_grant_key(&*self.0.rng).map_err(|e| InitError::Keys(e.to_string()))?;
        let secrets = ClusterSecrets {
            ca_certificate: self.0.ca.certificate.clone(),
            ca_key,
            grant_key: grants.pkcs8().to_vec(),
            grant_public_key: grants.public_key().to_vec(),
            next_ca: NextCa::None,
        };
        match self.0.consensus.initialize(self.0.configured.clone()).await {
            // An earlier attempt may have come this far.
            Ok(()) | Err(InitializeError::AlreadyInitialised(_)) => {}
            Err(error) => return Err(InitError::Keys(error.to_string())),
        }
        let mut id = [0; 16];
        self.0.rng.fill(&mut id);
        let cluster = ClusterId::new(uuid::Builder::from_random_bytes(id).into_uuid());
        let command = Command::InitCluster { cluster, secrets, at: self.0.wall_clock.now() };
        let within = self.0.timing.raft_election_max * INIT_ELECTIONS;
        match tokio::time::timeout(within, self.submit_until_done(command)).await {
            Ok(Ok(Applied::Denied(_))) => Err(InitError::AlreadyInitialised),
            Ok(Ok(_)) => Ok(cluster),
            Ok(Err(error)) => Err(InitError::NoQuorum(error.to_string())),
            Err(_) => Err(InitError::NoQuorum(format!("no answer within {within:?}"))),
        }
    }

    /// Waits until consensus stops by itself, and returns why: the process has to end then.
    pub fn fatal(&self) -> impl Future<Output = String> + Send + 'static {
        self.0.consensus.fatal()
    }

    /// Stops everything and leaves what is on disk in good order.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.consensus.shutdown().await;
    }
}
