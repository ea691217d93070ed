//! `vouch node`: everything of a compute node wired together, from its configuration to its end.
//!
//! On SIGTERM or SIGINT, and when the cluster has removed the node, the agent and the relay end; guests and watchers
//! run on, and the next start adopts them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::time_provider::DefaultTimeProvider;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vouch_types::{ManagerId, Network};
use vouch_wire::grpc::{DialOptions, Dialler, GrpcCertificateLink, GrpcNodeLink, ServeError, serve_relay};
use vouch_wire::links::{DatagramLink, ManagerEndpoint};
use vouch_wire::pki::{Identity, LiveIdentity, PeerIdentity, PkiError};
use vouch_wire::renewal::{Kept, RenewalTask};
use vouch_wire::sign::{SignError, StatementSigner};
use vouch_wire::udp::UdpLink;

use crate::agent::{AgentConfig, AgentTask, Removed, SequenceCounter};
use crate::config::{Config, DriverKind};
use crate::hypervisor::process_hypervisor::ProcessHypervisor;
use crate::hypervisor::{Hypervisor, HypervisorError};
use crate::membership;
use crate::process::boot_id;
use crate::relay::Relay;
use crate::store::{NodeStore, StoreError, statement_key};
use crate::vm_file::{VmFileError, VmFolder};
use crate::wall_clock::{wall_now, watch_wall_clock};

/// How often the folder of VM files is read.
pub const VM_FOLDER_INTERVAL: Duration = Duration::from_secs(2);

/// Why a node did not start, or ended.
#[derive(Debug, Error)]
pub enum NodeError {
    /// A VM file is wrong. While the node runs such a file is logged and left aside; at the start it is refused.
    #[error("VM file {0}")]
    VmFile(VmFileError),
    /// The node's memory cannot be used.
    #[error("node store")]
    Store(#[source] StoreError),
    /// The node's certificate cannot be used.
    #[error("tls")]
    Tls(#[source] PkiError),
    /// Key and certificate are of two pairs.
    #[error("tls.key = {}: must be the key of tls.certificate = {}", key.display(), certificate.display())]
    Mismatch {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
        /// What the TLS library said.
        #[source]
        source: PkiError,
    },
    /// The certificate names somebody else.
    #[error("tls.certificate = {}: names {found}, and this is node {id}", path.display())]
    OtherIdentity {
        /// The certificate.
        path: PathBuf,
        /// Whom it names.
        found: String,
        /// This node.
        id: String,
    },
    /// The statement key cannot be used.
    #[error("statement key")]
    StatementKey(#[source] SignError),
    /// The id of this boot cannot be read.
    #[error("/proc/sys/kernel/random/boot_id")]
    BootId(#[source] std::io::Error),
    /// The hypervisor cannot be used.
    #[error("hypervisor")]
    Hypervisor(#[source] HypervisorError),
    /// The relay's port cannot be bound.
    #[error("relay = {address}: cannot be bound")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The socket of heartbeats to a manager cannot be bound.
    #[error("heartbeats: no UDP socket for manager {manager} at {address} (heartbeats = false does without)")]
    Heartbeats {
        /// The manager.
        manager: ManagerId,
        /// Where it is dialled.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The relay ended by itself.
    #[error("relay")]
    Relay(#[source] ServeError),
    /// The relay's task broke.
    #[error("relay task")]
    RelayTask(#[source] tokio::task::JoinError),
    /// The cluster has removed this node.
    #[error(transparent)]
    Removed(Removed),
    /// Signals cannot be awaited.
    #[error("signals")]
    Signals(#[source] std::io::Error),
}

impl NodeError {
    /// Returns whether the cluster has removed the node.
    pub const fn is_removed(&self) -> bool {
        matches!(self, Self::Removed(_))
    }

    /// Returns whether files that the user wrote are the reason.
    pub fn is_config(&self) -> bool {
        matches!(self, Self::VmFile(_) | Self::Tls(_) | Self::Mismatch { .. } | Self::OtherIdentity { .. })
    }
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// [`NodeError`] when it cannot start, its relay ends, or the cluster has removed it.
pub async fn run(config: Config) -> Result<(), NodeError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::Signals)?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.cancel();
    });
    run_until(config, stop).await
}

/// Runs a node until `stop`.
///
/// # Errors
/// As for [`run`].
pub async fn run_until(config: Config, stop: CancellationToken) -> Result<(), NodeError> {
    let tls = &config.tls;
    let identity = Identity::load(&tls.certificate, &tls.key, &tls.ca_certificate).map_err(NodeError::Tls)?;
    if *identity.owner() != PeerIdentity::Node(config.id.clone()) {
        let found = identity.owner().to_string();
        return Err(NodeError::OtherIdentity { path: tls.certificate.clone(), found, id: config.id.to_string() });
    }
    identity.valid_at(wall_now()).map_err(NodeError::Tls)?;
    let clock = Arc::new(DefaultTimeProvider);
    let mismatch = |source| NodeError::Mismatch { key: tls.key.clone(), certificate: tls.certificate.clone(), source };
    let live = LiveIdentity::new(identity, clock).map_err(mismatch)?;
    let mut files = read_folder(&config, &BTreeSet::new()).map_err(NodeError::VmFile)?;
    if !files.errors.is_empty() {
        return Err(NodeError::VmFile(files.errors.remove(0)));
    }
    // Before anything is made: a port that is taken leaves no trace.
    let listener =
        TcpListener::bind(config.relay).await.map_err(|source| NodeError::Bind { address: config.relay, source })?;
    let bound = listener.local_addr().map_err(|source| NodeError::Bind { address: config.relay, source })?;
    let (dial, endpoints) = (DialOptions::default(), endpoints(&config));
    let datagrams = datagrams(&config, &endpoints, &dial).await?;
    let store = NodeStore::open(&config.data_dir).map_err(NodeError::Store)?;
    let key = statement_key(&config.data_dir).map_err(NodeError::Store)?;
    let signer = StatementSigner::from_pkcs8(&key).map_err(NodeError::StatementKey)?;
    let boot = boot_id().map_err(NodeError::BootId)?;

    let processes =
        Arc::new(ProcessHypervisor::open(&config, boot, store.clone()).await.map_err(NodeError::Hypervisor)?);
    let dialler = Dialler::new(live.client(), dial);
    let certificates = Arc::new(GrpcCertificateLink::new(dialler.clone(), endpoints.clone()));
    let running = processes.known_vms();
    if files.files.keys().any(|vm| !running.contains(vm)) {
        let asked = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            asked = membership::ask(&*certificates, &live, &config.id) => asked,
        };
        if let Err(removed) = asked {
            processes.let_go().await;
            return Err(NodeError::Removed(removed));
        }
    }
    let hypervisor: Arc<dyn Hypervisor> = processes.clone();
    if !stop.is_cancelled() {
        hypervisor.set_vms(files.files.into_values().collect()).await;
    }
    let scan = tokio::spawn(scan_folder(config.clone(), Arc::clone(&processes), stop.clone()));
    let wall_clock = tokio::spawn(watch_wall_clock(config.id.clone()));

    let sequence = SequenceCounter::default();
    let agent_config = AgentConfig {
        node: config.id.clone(),
        rack: config.rack.clone(),
        boot,
        relay: config.relay_advertise.unwrap_or(bound),
        statement_key: signer.public_key(),
        hosts_watchers: config.watchers.enabled,
        endpoints: endpoints.clone(),
    };
    let kept = Kept::Files { certificate: tls.certificate.clone(), ca_certificate: tls.ca_certificate.clone() };
    let renewing = tokio::spawn(RenewalTask::new(live.clone(), certificates, kept).run());
    let link = Arc::new(GrpcNodeLink::new(dialler));
    let driver = hypervisor.driver();
    let agent = AgentTask::new(agent_config, Arc::clone(&hypervisor), link, store.clone(), sequence.clone());
    let agent = agent.with_heartbeats(datagrams);
    let relay = Relay::new(config.id.clone(), boot, store.clone(), hypervisor, signer, sequence);
    let relay = relay.with_hearing(agent.hearing());
    let mut relay = tokio::spawn(serve_relay(listener, live.server(), Arc::new(relay), stop.clone()));
    info!(node_id = %config.id, driver, relay = %bound, incarnation = store.incarnation().get(), "node started");
    let result = tokio::select! {
        biased;
        ended = &mut relay => match ended {
            Ok(result) => result.map_err(NodeError::Relay),
            Err(e) => Err(NodeError::RelayTask(e)),
        },
        ended = agent.run(stop.clone()) => ended.map_err(NodeError::Removed),
    };
    stop.cancel();
    scan.abort();
    renewing.abort();
    wall_clock.abort();
    processes.let_go().await;
    info!(node_id = %config.id, "node stopped; guests and watchers run on");
    result
}

fn endpoints(config: &Config) -> Vec<ManagerEndpoint> {
    let of = |network: Network| {
        config
            .managers
            .iter()
            .filter_map(move |m| m.on(network).map(|address| ManagerEndpoint { manager: m.id, network, address }))
    };
    Network::ALL.into_iter().flat_map(of).collect()
}

/// Returns a socket for heartbeats per manager and network, bound as the streams there are; none when they are off.
async fn datagrams(
    config: &Config,
    endpoints: &[ManagerEndpoint],
    dial: &DialOptions,
) -> Result<BTreeMap<(ManagerId, Network), Arc<dyn DatagramLink>>, NodeError> {
    let mut links: BTreeMap<_, Arc<dyn DatagramLink>> = BTreeMap::new();
    for ManagerEndpoint { manager, network, address } in endpoints.iter().filter(|_| config.heartbeats).cloned() {
        let bound = UdpLink::towards(address, dial.local.get(&network).copied()).await;
        let link = bound.map_err(|source| NodeError::Heartbeats { manager, address, source })?;
        links.insert((manager, network), Arc::new(link));
    }
    Ok(links)
}

fn read_folder(config: &Config, known: &BTreeSet<vouch_types::VmId>) -> Result<VmFolder, VmFileError> {
    let driver: DriverKind = config.hypervisor.driver;
    VmFolder::read(&config.hypervisor.vm_dir, driver, known)
}

/// Reads the folder again and again. What is wrong in it is told once, and everything else goes on.
async fn scan_folder(config: Config, hypervisor: Arc<ProcessHypervisor>, stop: CancellationToken) {
    let mut told = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(VM_FOLDER_INTERVAL) => {}
        }
        let (config, known) = (config.clone(), hypervisor.known_vms());
        let read = tokio::task::spawn_blocking(move || read_folder(&config, &known));
        // A folder that cannot be read says nothing of its VMs.
        let folder = match read.await {
            Ok(Ok(folder)) => folder,
            Ok(Err(e)) => {
                if told.insert(e.to_string()) {
                    warn!(error = %e, "VM folder not read");
                }
                continue;
            }
            Err(_) => continue,
        };
        let errors: BTreeSet<String> = folder.errors.iter().map(ToString::to_string).collect();
        for error in errors.difference(&told) {
            warn!(error, "VM file left aside");
        }
        told = errors;
        let mut files = folder.files;
        if !told.is_empty() {
            // A file that was good before may be among the bad ones: nothing is taken for removed until all are good.
            for file in hypervisor.known_files() {
                files.entry(file.id).or_insert(file);
            }
        }
        hypervisor.set_vms(files.into_values().collect()).await;
    }
}

#[cfg(test)]
mod tests;
