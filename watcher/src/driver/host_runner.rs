//! [`ProbeRunner`] over the probe host: shipped probes from native code of the image, custom ones compiled here.
//!
//! Native code is never taken from a manager: what comes over the wire is a component, checked against the digest of the
//! assignment before the compiler sees it. What was compiled stays in memory and is never written down.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tracing::{debug, info};
use vouch_probe_host::{Capabilities, HostLimits, Icmp, PortGrant, Probe, ProbeHost, Target, compilations, digest_of};
use vouch_types::{Digest, Identity, Outcome, ProbeName};
use vouch_wire::links::{ManagerEndpoint, RelayLink, WatcherLink};

use super::guest_agent::RelayedGuestAgent;
use super::runner::ProbeRunner;
use crate::logic::{Ended, ProbeSpec, RUNS_MAX};
use crate::shipped::Shipped;

/// Limits of the probe host, the same in `precompile` and in a watcher.
pub const HOST_LIMITS: HostLimits = HostLimits { concurrency: RUNS_MAX as u32, memory: 16 * 1024 * 1024 };

/// Name of the fact by which a probe says who answered: the digest of a certificate, say. Another one on the same
/// address is another machine.
pub const IDENTITY_FACT: &str = "identity";

/// Runs probes in this process.
pub struct HostRunner {
    host: ProbeHost,
    shipped: Arc<Shipped>,
    ready: RwLock<HashMap<Digest, Probe>>,
    icmp: Arc<dyn Icmp>,
    link: Arc<dyn WatcherLink>,
    relays: Arc<dyn RelayLink>,
    managers: Vec<ManagerEndpoint>,
}

impl HostRunner {
    /// Returns a runner that takes shipped probes from their files and fetches others from the managers.
    pub fn new(
        host: ProbeHost,
        shipped: Shipped,
        icmp: Arc<dyn Icmp>,
        link: Arc<dyn WatcherLink>,
        relays: Arc<dyn RelayLink>,
        managers: Vec<ManagerEndpoint>,
    ) -> Self {
        Self { host, shipped: Arc::new(shipped), ready: RwLock::default(), icmp, link, relays, managers }
    }

    fn get(&self, digest: &Digest) -> Option<Probe> {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Returns the component with this digest, checked, from whichever manager has it.
    async fn fetch(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let mut failures = Vec::new();
        for manager in &self.managers {
            match self.link.fetch_probe(manager, digest.as_bytes()).await {
                Ok(component) if digest_of(&component) == *digest => return Ok(component),
                Ok(component) => {
                    failures.push(format!("{} sent other bytes, {}", manager.manager, digest_of(&component).short()));
                }
                Err(error) => failures.push(format!("{}: {error}", manager.manager)),
            }
        }
        Err(format!("component {} not fetched: {}", digest.short(), failures.join("; ")))
    }
}

#[async_trait]
impl ProbeRunner for HostRunner {
    async fn prepare(&self, name: &ProbeName, digest: &Digest) -> Result<(), String> {
        if self.get(digest).is_some() {
            return Ok(());
        }
        let (host, shipped, wanted) = (self.host.clone(), Arc::clone(&self.shipped), *digest);
        let loaded = tokio::task::spawn_blocking(move || shipped.load(&host, &wanted)).await;
        if let Some(loaded) = loaded.map_err(|e| format!("shipped probe {name}: {e}"))? {
            let probe = loaded.map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
            debug!(probe = %name, digest = %digest.short(), "shipped probe loaded");
            self.ready.write().unwrap_or_else(PoisonError::into_inner).insert(*digest, probe);
            return Ok(());
        }
        let component = self.fetch(digest).await?;
        let host = self.host.clone();
        let compiled = tokio::task::spawn_blocking(move || host.compile(&component)).await;
        let probe = compiled.map_err(|e| format!("compiler: {e}"))?.map_err(|e| e.to_string())?;
        let described = probe.describe().await.map_err(|fault| fault.to_string())?.name.clone();
        if described != name.as_str() {
            return Err(format!("component {} says that it is probe {described:?}", digest.short()));
        }
        info!(probe = %name, digest = %digest.short(), compilations = compilations(), "probe compiled");
        self.ready.write().unwrap_or_else(PoisonError::into_inner).insert(*digest, probe);
        Ok(())
    }

    async fn run(&self, spec: &ProbeSpec, timeout: Duration) -> Ended {
        let Some(probe) = spec.digest.as_ref().and_then(|digest| self.get(digest)) else {
            return Ended::probe(Outcome::Unknown, "probe_unavailable", "the probe is not ready");
        };
        let target = Target {
            vm: spec.vm,
            addresses: spec.addresses.clone(),
            network: spec.network,
            labels: spec.labels.clone(),
        };
        let capabilities = Capabilities {
            icmp: Some(Arc::clone(&self.icmp)),
            guest_agent: spec.relay.as_ref().map(|relay| {
                let link = Arc::clone(&self.relays);
                Arc::new(RelayedGuestAgent { link, relay: Arc::clone(relay) }) as Arc<_>
            }),
            ports: PortGrant::Settings,
        };
        match probe.run(&target, &spec.settings, timeout, &capabilities).await {
            Ok(found) => {
                // Managers are told what it came to; all else that it found is for who reads the log here.
                debug!(
                    probe = %spec.probe, vm_id = %spec.vm, network = %spec.network, outcome = ?found.outcome,
                    reason = found.reason, phases = ?found.phases, samples = ?found.samples, facts = ?found.facts,
                    left_out = found.left_out, "probe found"
                );
                let identity = found.facts.iter().find(|(name, _)| name == IDENTITY_FACT).map(|(_, who)| {
                    let hash: [u8; 32] = Sha256::digest(who.as_bytes()).into();
                    let (first, _) = hash.split_at(8);
                    Identity::new(first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
                });
                Ended::probe(found.outcome, &found.reason, &found.message).identified(identity)
            }
            Err(fault) => Ended::probe(Outcome::Unknown, fault.as_str(), &fault.to_string()),
        }
    }
}
