//! The real process: files, sockets, TLS and the operating system's clock around a [`Manager`](crate::Manager).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use vouch_types::{ManagerId, Network, ProbeGrant, ProbeName, ProbeRecord, WallTime};
use vouch_wire::grpc::{DialOptions, Dialler, GrpcPeerLinks, ServeError, serve_manager};
use vouch_wire::links::DatagramLink;
use vouch_wire::pki::{AdjustableTime, Identity, LiveIdentity, PeerIdentity, PkiError};
use vouch_wire::renewal::{Kept, RenewalTask};
use vouch_wire::udp::UdpLink;

use crate::api::component::read_component;
use crate::api::{Api, ApiParts, ApiToken, ListenError, Listener, OwnHosts, TokenError};
use crate::background::Disk;
use crate::config::Config;
use crate::data_folder::{self, DataFolderError};
use crate::data_format::{FormatError, OwnFolder};
use crate::manager::{CaKeys, Manager, ManagerError, ManagerHandle, Parts, ShippedProbe};
use crate::raft::Consensus;
use crate::seams::{BlobError, FileBlobs, FolderSpace, SystemRng, SystemWallClock, WallClock};
use crate::store::{OpenError, Stores};

/// How long a manager may take to apply again what it had acknowledged before it was started again.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

const MIB: u64 = 1024 * 1024;

/// How often it is looked whether other CAs are trusted, or another one signs.
const CA_LOOK: Duration = Duration::from_secs(1);

/// How long requests that are under way may take once a manager is to stop.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Why a manager does not run, or stopped.
#[derive(Debug, Error)]
pub enum RunError {
    /// Certificate, key or CA.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The certificate is not this manager's.
    #[error("tls.certificate: it is of {found}, must be of {wanted}")]
    WrongIdentity {
        /// Whose it is.
        found: PeerIdentity,
        /// Whose it must be.
        wanted: PeerIdentity,
    },
    /// Key and certificate are of two pairs.
    #[error("tls.key = {key:?}: must be the key of tls.certificate = {certificate:?}")]
    Mismatch {
        /// The key.
        key: std::path::PathBuf,
        /// The certificate.
        certificate: std::path::PathBuf,
        /// What the TLS library said.
        #[source]
        source: PkiError,
    },
    /// A file cannot be read.
    #[error("{path:?} cannot be read")]
    Read {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A port is taken, or its address is not of this machine.
    #[error("{key}: {address} cannot be bound")]
    Bind {
        /// Which key of the configuration.
        key: &'static str,
        /// Its value.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The UDP port of heartbeats, which has the number of the mutually authenticated port.
    #[error("{key}: UDP {address}, for heartbeats, cannot be bound (heartbeats = false does without)")]
    BindHeartbeats {
        /// Which key of the configuration.
        key: &'static str,
        /// Address and port.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The API's port.
    #[error(transparent)]
    Api(#[from] ListenError),
    /// The API's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The API stopped.
    #[error("the API stopped")]
    ApiStopped(#[source] std::io::Error),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The data folder is another's, or of another format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// What is stored cannot be opened.
    #[error(transparent)]
    Stores(#[from] OpenError),
    /// The blobs cannot be opened.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// A shipped probe breaks its own rules.
    #[error("shipped probe {0} cannot be used: {1}")]
    Shipped(&'static str, String),
    /// It does not start.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// The mutually authenticated port stopped.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// Storage failed while it ran: nothing in memory can be trusted.
    #[error("storage failed: {0}; put the disk right, and start the manager again")]
    Fatal(String),
}

impl RunError {
    /// Returns whether files that the user wrote are the reason.
    pub fn is_config(&self) -> bool {
        matches!(
            self,
            Self::Identity(_)
                | Self::WrongIdentity { .. }
                | Self::Mismatch { .. }
                | Self::Read { .. }
                | Self::Token(TokenError::Mode { .. } | TokenError::Short { .. } | TokenError::Read { .. })
        )
    }

    /// Returns whether storage is the reason.
    pub fn is_storage(&self) -> bool {
        matches!(
            self,
            Self::DataFolder(_)
                | Self::Format(_)
                | Self::Stores(_)
                | Self::Blobs(_)
                | Self::Manager(_)
                | Self::Fatal(_)
        )
    }
}

fn shipped() -> Result<Vec<ShippedProbe>, RunError> {
    let probe = |bundled: &vouch_probe_bundle::BundledProbe| {
        let refuse = |e: &dyn std::fmt::Display| RunError::Shipped(bundled.name, e.to_string());
        let imports = read_component(bundled.bytes).map_err(|e| refuse(&e))?;
        Ok(ShippedProbe {
            record: ProbeRecord {
                name: ProbeName::new(bundled.name).map_err(|e| refuse(&e))?,
                version: bundled.version.to_owned(),
                digest: bundled.digest(),
                size: bundled.bytes.len() as u64,
                grant: Some(ProbeGrant::of_all(&imports)),
                imports,
                shipped: true,
                signer: None,
                descriptor: None,
                rollout: None,
            },
            bytes: Bytes::from_static(bundled.bytes),
        })
    };
    vouch_probe_bundle::all().iter().map(probe).collect()
}

fn read(path: &std::path::Path) -> Result<String, RunError> {
    std::fs::read_to_string(path).map_err(|source| RunError::Read { path: path.to_owned(), source })
}

async fn bind(key: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Bind { key, address, source })
}

/// Binds the sockets of heartbeats beside the listeners: the same addresses and port numbers, over UDP.
async fn bind_heartbeats(
    listeners: &[(Network, TcpListener)],
) -> Result<BTreeMap<Network, Arc<dyn DatagramLink>>, RunError> {
    let mut links: BTreeMap<Network, Arc<dyn DatagramLink>> = BTreeMap::new();
    for (network, listener) in listeners {
        let key = match network {
            Network::Management => "listen.management",
            Network::Service => "listen.service",
        };
        let refuse = |address| move |source| RunError::BindHeartbeats { key, address, source };
        let unknown = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let address = listener.local_addr().map_err(refuse(unknown))?;
        let link = UdpLink::bind(address).await.map_err(refuse(address))?;
        links.insert(*network, Arc::new(link));
    }
    Ok(links)
}

/// Runs a manager until `stop`, or until its storage fails.
///
/// # Errors
/// [`RunError`] names what is wrong; nothing was bound when configuration or keys are.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let identity = Identity::load(&config.tls.certificate, &config.tls.key, &config.tls.ca_certificate)?;
    let wanted = PeerIdentity::Manager(config.id);
    if *identity.owner() != wanted {
        return Err(RunError::WrongIdentity { found: identity.owner().clone(), wanted });
    }
    identity.valid_at(SystemWallClock.now())?;
    let ca = CaKeys {
        certificate: read(&config.tls.ca_certificate)?,
        key: config.tls.ca_key.as_deref().map(read).transpose()?,
    };
    let clock = Arc::new(AdjustableTime::at_least(WallTime::default()));
    let mismatch = |source| RunError::Mismatch {
        key: config.tls.key.clone(),
        certificate: config.tls.certificate.clone(),
        source,
    };
    let live = LiveIdentity::new(identity, clock).map_err(mismatch)?;
    let links = GrpcPeerLinks::new(Dialler::new(live.client(), DialOptions::default()));
    let mut dialled = config.dial_addresses();
    for (manager, addresses) in &dialled {
        links.set_addresses(*manager, addresses.clone());
    }
    let api_tls = if config.api.listen.ip().is_loopback() { None } else { Some(live.api()) };

    // A token that is there is checked before anything is bound or made; a missing one is made after that.
    let token = ApiToken::load(&config.token_file())?;
    let mut listeners = vec![(Network::Management, bind("listen.management", config.listen.management).await?)];
    if let Some(address) = config.listen.service {
        listeners.push((Network::Service, bind("listen.service", address).await?));
    }
    let datagrams = if config.heartbeats { bind_heartbeats(&listeners).await? } else { BTreeMap::new() };
    let api_listener = Listener::bind(config.api.listen, api_tls).await?;
    data_folder::prepare(&config.data_dir)?;
    let own_folder = OwnFolder::claim(&config.data_dir, config.id, &ca.certificate, &SystemRng)?;
    let incarnation = data_folder::next_life(&config.data_dir, SystemWallClock.now())?;
    let token = match token {
        Some(token) => token,
        None => ApiToken::load_or_make(&config.token_file())?,
    };
    let blobs = Arc::new(FileBlobs::open(&config.data_dir.join("blobs"))?);

    let manager = Manager::start(Parts {
        manager: config.id,
        incarnation,
        timing: config.timing.clone(),
        members: config.members(),
        stores: Stores::open(&config.data_dir, &SystemRng)?,
        raft_link: Arc::new(links.clone()),
        peer_link: Arc::new(links.clone()),
        datagrams,
        wall_clock: Arc::new(SystemWallClock),
        rng: Arc::new(SystemRng),
        blobs,
        shipped: shipped()?,
        ca,
        certificate_check: Duration::from_secs(config.certificates.check_secs),
        disk: Disk {
            space: Arc::new(FolderSpace(config.data_dir.clone())),
            least_free: config.storage.free_min_mib * MIB,
        },
    })
    .await?;
    let fatal = manager.fatal();
    let kept =
        Kept::Files { certificate: config.tls.certificate.clone(), ca_certificate: config.tls.ca_certificate.clone() };
    let renewal = RenewalTask::new(live.clone(), manager.own_certificate_link(live.clone()), kept);
    manager.set_certificate(renewal.report());
    let cas_changed = renewal.nudge();
    let renewing = tokio::spawn(renewal.run());
    let closing = tokio::spawn(manager.clone().close_untrusted(live.clone()));
    // What the configuration says of where to dial a manager stands; the log says the rest.
    dialled.retain(|id, _| config.dial.contains_key(id));
    tokio::spawn(dial_members(config.id, manager.clone(), links, dialled));
    if manager.consensus().is_initialized().await {
        tokio::spawn(tell_recovery(config.id, manager.consensus().clone()));
    }
    let api = Api::new(ApiParts {
        manager: config.id,
        published: Arc::new(manager.consensus().clone()),
        live: manager.live_view(),
        peers: manager.peer_link(),
        blobs: manager.blobs(),
        wall: manager.wall_clock(),
        rng: Arc::new(SystemRng),
        timing: config.timing.clone(),
        token,
        hosts: OwnHosts::new(own_hosts(&config)),
    });
    manager.set_api(api.clone());

    let (serving, api_stop) = (CancellationToken::new(), CancellationToken::new());
    let outcome = tokio::select! {
        biased;
        () = stop_in_order(&stop, &manager, &api_stop) => Ok(()),
        reason = fatal => Err(RunError::Fatal(reason)),
        error = label(own_folder, manager.consensus().clone(), &cas_changed) => Err(error.into()),
        served = serve_manager(listeners, live.server(), manager.service(), manager.raft_service(), serving.clone()) => {
            served.map_err(RunError::from)
        }
        served = api_listener.serve(api, api_stop.clone()) => served.map_err(RunError::ApiStopped),
    };
    serving.cancel();
    renewing.abort();
    closing.abort();
    manager.shutdown().await;
    outcome
}

/// Keeps the addresses at which other managers are dialled as the membership says, but for those that are `fixed`.
async fn dial_members(
    own: ManagerId,
    manager: ManagerHandle,
    links: GrpcPeerLinks,
    fixed: BTreeMap<ManagerId, Vec<(Network, std::net::SocketAddr)>>,
) {
    let mut known = BTreeSet::new();
    manager
        .follow_members(|members| {
            for gone in known.iter().filter(|id| !members.contains_key(id)) {
                links.set_addresses(*gone, Vec::new());
            }
            known = members.keys().copied().filter(|id| *id != own).collect();
            for (id, node) in members.into_iter().filter(|(id, _)| *id != own) {
                // Said each time: one that was removed and is added again was forgotten in between.
                links.set_addresses(id, fixed.get(&id).cloned().unwrap_or(node.addresses));
            }
        })
        .await;
}

/// Waits until this manager is to stop, and hands the leadership over first: the others need not miss it. Then the API
/// takes no more requests, and those that are under way end while everything behind them still works.
async fn stop_in_order(stop: &CancellationToken, manager: &ManagerHandle, api: &CancellationToken) {
    stop.cancelled().await;
    manager.step_down().await;
    api.cancel();
    // The API's own end, when nothing is left, comes before this. A stream of events never ends by itself.
    tokio::time::sleep(DRAIN_MAX).await;
}

/// Labels the data folder with the cluster once there is one, and from then on with the CAs that are trusted, and says
/// when those, or the one that signs, have changed: the label is to know them before the file of the CAs does. Returns
/// only if the folder may not be of that cluster, or cannot be labelled.
async fn label(mut folder: OwnFolder, consensus: Consensus, cas_changed: &Notify) -> FormatError {
    let mut applied = consensus.applied_index();
    loop {
        applied.borrow_and_update();
        if let Some(cluster) = consensus.read_state(|state| state.cluster().map(|cluster| cluster.id)) {
            match folder.belongs_to(cluster) {
                Ok(()) => break,
                Err(error) => return error,
            }
        }
        if applied.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    let mut look = tokio::time::interval(CA_LOOK);
    let mut known = None;
    loop {
        look.tick().await;
        let cas = consensus.read_state(|state| {
            state.cluster().map(|c| (c.secrets.trusted_cas(), c.secrets.signing_ca().0.to_owned()))
        });
        if cas == known {
            continue;
        }
        if let Some((trusted, _)) = &cas
            && let Err(error) = folder.is_also_of(trusted)
        {
            return error;
        }
        known = cas;
        cas_changed.notify_one();
    }
}

/// Tells whether what was acknowledged before the start is applied again. It serves meanwhile: the others need its vote
/// for that, `default` and `consistent` reads confirm the lease, and `stale` ones say how old they are.
async fn tell_recovery(manager_id: ManagerId, consensus: Consensus) {
    match consensus.wait_for_recovery(RECOVERY_MAX).await {
        Ok(()) => tracing::info!(%manager_id, "recovered: what was acknowledged before is applied"),
        Err(error) => {
            tracing::warn!(%manager_id, %error, "what was acknowledged before has not been applied again yet")
        }
    }
}

/// Returns the names and addresses that the API answers to: those that the configuration gives it.
fn own_hosts(config: &Config) -> Vec<String> {
    let url = config.managers.iter().find(|m| m.id == config.id).and_then(|m| m.api.clone());
    let host = url.and_then(|url| {
        let rest = url.split_once("://")?.1.to_owned();
        Some(rest.split(['/', ':']).next().unwrap_or_default().to_owned())
    });
    let address = config.api.listen.ip().to_string();
    let name = PeerIdentity::Manager(config.id).server_name();
    host.into_iter().chain([address, name]).filter(|h| !h.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_port_of_heartbeats_has_the_number_of_the_tcp_port_and_one_that_is_taken_is_named() {
        let listener = bind("listen.management", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listeners = [(Network::Management, listener)];
        let bound = bind_heartbeats(&listeners).await.unwrap();
        assert_eq!(bound.keys().collect::<Vec<_>>(), [&Network::Management]);
        let Err(refused) = bind_heartbeats(&listeners).await else { panic!("the port is taken") };
        let refused = refused.to_string();
        assert!(refused.contains("listen.management") && refused.contains(&address.to_string()), "{refused}");
        assert!(refused.contains("heartbeats = false"), "{refused}");
    }
}
