//! Starts a watcher once its machine stands: shipped probes, identity, links, and then it watches.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::{info, warn};
use vouch_probe_host::{EngineError, Icmp, IcmpSockets, ProbeHost, compilations};
use vouch_types::{Incarnation, Timing, WatcherBoot};
use vouch_wire::grpc::{DialOptions, Dialler, GrpcCertificateLink, GrpcRelayLink, GrpcWatcherLink};
use vouch_wire::links::{ManagerEndpoint, RelayLink, WatcherLink};
use vouch_wire::pki::{AdjustableTime, LiveIdentity, PkiError};
use vouch_wire::renewal::{Kept, RenewalTask};

use super::identity::{EnrolError, redeem};
use crate::compiled::{Compiled, CompiledFolder};
use crate::driver::{HostRunner, WatcherConfig, WatcherParts, host_limits, run};
use crate::logic::RunLimit;
use crate::shipped::{Shipped, ShippedError};

/// How long one question to a relay may take in all: a relay that took the connection and says nothing this long is
/// stalled.
const RELAY_TIMEOUT: Duration = Duration::from_millis(1500);

/// Where a watcher has its probes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folders<'a> {
    /// Those that came with it, as `precompile` wrote them.
    pub shipped: &'a Path,
    /// Those that it compiles itself; none where they are not kept.
    pub compiled: Option<CompiledFolder<'a>>,
}

/// Why a watcher does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// This machine cannot run probes.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The shipped probes cannot be used.
    #[error(transparent)]
    Shipped(#[from] ShippedError),
    /// There is no identity.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The identity cannot be used.
    #[error("TLS of the watcher")]
    Tls(#[from] PkiError),
}

/// Watches for as long as the process lives, with as many runs in flight as its memory holds.
///
/// The incarnation is the watcher's time at its start in milliseconds, which is never before its node's stamp: a later
/// life has a greater one.
///
/// # Errors
/// [`StartError`] when it cannot begin; once it watches it never returns.
pub async fn start(boot: WatcherBoot, folders: Folders<'_>, runs: RunLimit) -> Result<Infallible, StartError> {
    let clock = Arc::new(AdjustableTime::at_least(boot.stamp));
    let incarnation = Incarnation::new(clock.now().as_unix_millis());
    let managers = endpoints(&boot);
    let options = DialOptions {
        local: boot.legs.iter().map(|leg| (leg.network, leg.address)).collect(),
        ..DialOptions::default()
    };
    let host = ProbeHost::new(host_limits(runs))?;
    let shipped = Shipped::open(&host, folders.shipped).await?;
    info!(watcher_id = %boot.watcher, probes = shipped.count(), runs = runs.all(), compilations = compilations(), "probes loaded");

    let compiled = folders.compiled.and_then(|folder| {
        // Without it the watcher compiles what it needs, each time.
        Compiled::open(folder, &host).inspect_err(|error| warn!(%error, "what is compiled is not kept")).ok()
    });
    let identity = redeem(&boot, incarnation, &managers, options.clone(), Arc::clone(&clock)).await?;
    let live = LiveIdentity::new(identity, clock)?;
    let dialler = Dialler::new(live.client(), options);
    let certificates = Arc::new(GrpcCertificateLink::new(dialler.clone(), managers.clone()));
    // Ends with the process, as the watcher does.
    tokio::spawn(RenewalTask::new(live, certificates, Kept::Memory).run());
    let link: Arc<dyn WatcherLink> = Arc::new(GrpcWatcherLink::new(dialler.clone()));
    let relays: Arc<dyn RelayLink> = Arc::new(GrpcRelayLink::new(dialler, RELAY_TIMEOUT));
    let icmp: Arc<dyn Icmp> = Arc::new(IcmpSockets::open());
    let probe_icmp = Arc::clone(&icmp);
    let runner =
        HostRunner::new(host, shipped, compiled, probe_icmp, Arc::clone(&link), Arc::clone(&relays), managers.clone());
    let config = WatcherConfig { watcher: boot.watcher, incarnation, managers, timing: Timing::default(), runs };
    Ok(run(config, WatcherParts { link, relays, probes: Arc::new(runner), icmp }).await)
}

/// Returns every manager over every network that this watcher has a leg on.
fn endpoints(boot: &WatcherBoot) -> Vec<ManagerEndpoint> {
    let has_leg = |network| boot.legs.iter().any(|leg| leg.network == network);
    boot.managers
        .iter()
        .filter(|(_, network, _)| has_leg(*network))
        .map(|&(manager, network, address)| ManagerEndpoint { manager, network, address })
        .collect()
}

#[cfg(test)]
mod tests {
    use vouch_types::{ManagerId, Network, NodeId, WallTime, WatcherId, WatcherLeg};

    use super::*;

    #[test]
    fn a_manager_is_dialled_only_over_networks_that_the_watcher_has_a_leg_on() {
        let address = "127.0.0.1:7001".parse().unwrap();
        let boot = WatcherBoot {
            watcher: WatcherId::new(1),
            node: NodeId::new("n1").unwrap(),
            secret: String::new(),
            ca_certificate: String::new(),
            managers: Network::ALL.map(|network| (ManagerId::new(1), network, address)).to_vec(),
            legs: vec![WatcherLeg {
                network: Network::Service,
                mac: String::new(),
                address: address.ip(),
                prefix_len: 8,
            }],
            stamp: WallTime::default(),
        };
        assert_eq!(endpoints(&boot).iter().map(|e| e.network).collect::<Vec<_>>(), [Network::Service]);
    }
}
