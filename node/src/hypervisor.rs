//! The seam between the agent and whatever runs the VMs: drivers `qemu` and `local` now, libvirt later.
//!
//! A [`Hypervisor`] tells the state of each VM, tells when one changes, carries questions to guest agents, and makes
//! and destroys watcher VMs. It knows nothing of managers, grants or generations, and one VM whose monitor does not
//! answer must never hold up the others.

pub mod agent_stream;
pub mod guest_agent;
pub(crate) mod interfaces;
pub(crate) mod launcher;
pub mod local;
pub(crate) mod machine;
pub(crate) mod packet_filter;
pub mod process_hypervisor;
pub mod qemu;
pub(crate) mod qmp;
pub(crate) mod run_dir;
pub(crate) mod run_state;
pub mod sim;
pub(crate) mod watcher_plan;

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use vouch_types::{
    AgentQuestion, HypervisorState, LogIndex, ManagerId, Network, Operation, Progress, StartId, VmId, VmSpec,
    WatcherId, WatcherLegs,
};

use crate::vm_file::VmFile;

/// How long a monitor may take to answer before its VM's state is unknown.
pub const MONITOR_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the hypervisor did not do what it was told.
#[derive(Debug, Error)]
pub enum HypervisorError {
    /// Nothing by that id is here.
    #[error("{0} is not on this node")]
    Unknown(String),
    /// A watcher by that number lives here from another placement.
    #[error("watcher {watcher} is here from placement {here}, and the order is for {ordered}")]
    OtherPlacement {
        /// Which.
        watcher: WatcherId,
        /// Placement of the one that is here.
        here: LogIndex,
        /// Placement that was ordered.
        ordered: LogIndex,
    },
    /// This node's configuration does not allow it.
    #[error("refused: {0}")]
    Refused(String),
    /// All addresses of the pool are taken.
    #[error("watchers.{network}.addresses: all {count} are taken")]
    NoAddress {
        /// On which network.
        network: Network,
        /// How many there are.
        count: usize,
    },
    /// A step failed.
    #[error("{step}")]
    Io {
        /// Which, with its path or program.
        step: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl HypervisorError {
    pub(crate) fn io(step: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let step = step.into();
        move |source| Self::Io { step, source }
    }
}

/// Counters of a VM as its hypervisor reads them; `None` is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Time that its vCPUs have run.
    pub vcpu: Option<Duration>,
    /// Block operations done.
    pub block_operations: Option<u64>,
    /// Packets that the guest received.
    pub net_rx_packets: Option<u64>,
    /// Packets that the guest sent.
    pub net_tx_packets: Option<u64>,
    /// Per mille of the time between the last two reads that its vCPUs waited for a CPU.
    pub steal_per_mille: Option<u32>,
    /// Round trip of the last monitor command.
    pub monitor: Option<Duration>,
}

/// One VM as the hypervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmView {
    /// As the user described it.
    pub spec: VmSpec,
    /// Which start of it this is.
    pub start: StartId,
    /// What it does.
    pub state: HypervisorState,
    /// Whether it gets on; not known unless it runs.
    pub progress: Progress,
    /// An operation on it that is under way.
    pub operation: Option<Operation>,
    /// When the read that this rests on began.
    pub read_begun: Instant,
    /// Whether a read has been waiting for longer than reads take, the first one included; the state is then the last
    /// one known.
    pub overdue: bool,
    /// Its counters.
    pub counters: Counters,
    /// Whether the port of its card on each network has link and carrier.
    pub links: Vec<(Network, LinkState)>,
}

/// Whether a port carries frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Link and carrier are there.
    Up,
    /// One of them is not.
    Down,
}

/// Whether the service through which VMs are reached answers: libvirtd, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceState {
    /// It answers, or there is none: vouch speaks to each VM's process itself.
    #[default]
    Answering,
    /// It does not answer: every VM is told as it was last known, and as overdue.
    Silent,
}

/// One watcher VM as the hypervisor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatcherView {
    /// Which.
    pub watcher: WatcherId,
    /// What its process does.
    pub state: HypervisorState,
    /// The legs that are its own: none of one that is a process on the host and answers by the host's addresses.
    pub legs: WatcherLegs,
}

/// Everything that the hypervisor sees, at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// All VMs that are here, in the order of their ids. One that was not read yet is in an unknown state, and never
    /// left out: managers forget a VM that a full report does not name.
    pub vms: Vec<VmView>,
    /// Watcher VMs, in the order of their numbers.
    pub watchers: Vec<WatcherView>,
}

/// What came of asking a guest agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentReply {
    /// Its well-formed answer, JSON; an error of its own counts: it proves life.
    Reply(String),
    /// It answers, with more than is taken ([`agent_stream::REPLY_MAX`]).
    TooLong,
    /// No well-formed answer in time.
    Silent,
    /// There is no way to the agent, and why.
    Unavailable(String),
    /// The question was not put, and why: it says nothing of the agent, nor of the way there.
    NotPut(String),
}

/// What a new watcher is.
#[derive(Clone, PartialEq, Eq)]
pub struct WatcherOrder {
    /// Its number.
    pub watcher: WatcherId,
    /// Log index of its placement: with the number it names this life of it.
    pub placed: LogIndex,
    /// One-time secret.
    pub secret: Vec<u8>,
    /// PEM of the CA that it is to trust.
    pub ca_certificate: String,
    /// Where it is to reach the managers.
    pub managers: Vec<(ManagerId, Network, SocketAddr)>,
}

impl std::fmt::Debug for WatcherOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatcherOrder")
            .field("watcher", &self.watcher)
            .field("placed", &self.placed)
            .finish_non_exhaustive()
    }
}

/// Whatever runs the VMs of a node.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Returns the driver's name.
    fn driver(&self) -> &'static str;

    /// Returns a counter that moves with every change of any VM's or watcher's state, operation, link, start or
    /// description, and of the service.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Returns whether the hypervisor's own service answers. It must not ask it: as for [`Hypervisor::view`], what is
    /// known counts, and [`Hypervisor::changes`] moves with it.
    fn service(&self) -> ServiceState;

    /// Returns what is known now, without asking anybody.
    fn view(&self) -> View;

    /// Has every VM read anew and returns once all were, or `budget` is over.
    async fn refresh(&self, budget: Duration);

    /// Returns a VM as a read sees it that began no longer ago than `max_age`; `None` when it is not here, or no such
    /// read was complete within `budget`. A VM whose monitor is known not to answer is here, in an unknown state.
    async fn read_vm(&self, vm: VmId, max_age: Duration, budget: Duration) -> Option<VmView>;

    /// Makes these the VMs of the node: new ones are started, descriptions of others are taken over. One that is
    /// named no longer is forgotten once it has ended; a running one is left alone.
    async fn set_vms(&self, files: Vec<VmFile>);

    /// Asks a VM's guest agent.
    async fn guest_agent(&self, vm: VmId, question: AgentQuestion, timeout: Duration) -> AgentReply;

    /// Creates a watcher VM; one that exists from the same placement is no error.
    ///
    /// # Errors
    /// [`HypervisorError`] when it could not; nothing of it is then left.
    async fn create_watcher(&self, order: WatcherOrder) -> Result<(), HypervisorError>;

    /// Destroys a watcher VM and gives its addresses back; one that does not exist is no error.
    ///
    /// # Errors
    /// [`HypervisorError`] when it still runs.
    async fn destroy_watcher(&self, watcher: WatcherId) -> Result<(), HypervisorError>;
}
