//! [`ProbeRunner`] over the probe host: shipped probes from native code of the image, custom ones compiled here.
//!
//! What a probe needs is compared with what the operator grants it before each run, by what was compiled and not by what
//! a manager says of it: a run that needs more is `unknown` ([`NOT_GRANTED`]), and none of its code begins.
//!
//! Native code is never taken from a manager: what comes over the wire is a component, checked against the digest of the
//! assignment before the compiler sees it. What was compiled is kept in a folder of this node's watchers ([`Compiled`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use tracing::{debug, info, warn};
use vouch_probe_host::{
    Capabilities, HostLimits, Icmp, PortGrant, Probe, ProbeHost, RunFault, Target, compilations, digest_of,
    granted_ports,
};
use vouch_types::{Digest, Findings, Identity, Outcome, ProbeInterface, ProbeName};
use vouch_wire::links::{ManagerEndpoint, RelayLink, WatcherLink};

use super::guest_agent::RelayedGuestAgent;
use super::runner::ProbeRunner;
use crate::compiled::Compiled;
#[cfg(test)]
use crate::compiled::CompiledFolder;
use crate::logic::{Conduct, Ended, Origin, ProbeSpec, RunLimit};
use crate::memory;
use crate::shipped::Shipped;

/// The most memory of one run, in bytes; native code is made for it.
const RUN_MEMORY: usize = 16 * 1024 * 1024;

/// What compiling a component takes at its peak, in bytes: measured with components of 180 KB to 1.1 MB.
const fn compiling(component: usize) -> u64 {
    (24 << 20) + 60 * component as u64
}

/// What is left alone when a component is compiled.
const KEPT_BACK: u64 = 8 << 20;

/// Returns the limits of the probe host of a watcher with so many runs in flight. What is compiled under one of them runs
/// under each.
pub fn host_limits(runs: RunLimit) -> HostLimits {
    HostLimits {
        concurrency: u32::try_from(runs.all()).unwrap_or(u32::MAX),
        memory: RUN_MEMORY,
        memory_of_all: runs.memory(),
        sockets_of_all: runs.all(),
    }
}

/// Name of the fact by which a probe says who answered: the digest of a certificate, say. Another one on the same
/// address is another machine.
pub const IDENTITY_FACT: &str = "identity";

/// The reason of a run that needs what the operator does not grant.
pub const NOT_GRANTED: &str = "not_granted";

/// A probe that can run.
#[derive(Clone)]
struct ReadyProbe {
    probe: Probe,
    /// What has to be granted, by what it imports.
    needs: Arc<BTreeSet<ProbeInterface>>,
}

impl From<Probe> for ReadyProbe {
    fn from(probe: Probe) -> Self {
        Self { needs: Arc::new(probe.imports().needs()), probe }
    }
}

/// Runs probes in this process.
pub struct HostRunner {
    host: ProbeHost,
    shipped: Arc<Shipped>,
    /// What was compiled before; none where there is no folder for it.
    compiled: Option<Arc<Compiled>>,
    ready: RwLock<HashMap<Digest, ReadyProbe>>,
    /// Held while a component is fetched and compiled, one at a time. The sizes of those that there was no memory for.
    compiler: tokio::sync::Mutex<HashMap<Digest, usize>>,
    /// Returns how many bytes this machine has left, where that is known.
    available: fn() -> Option<u64>,
    icmp: Arc<dyn Icmp>,
    link: Arc<dyn WatcherLink>,
    relays: Arc<dyn RelayLink>,
    managers: Vec<ManagerEndpoint>,
}

impl HostRunner {
    /// Returns a runner that takes shipped probes from their files, those that were compiled before from their folder, and
    /// fetches others from the managers.
    pub fn new(
        host: ProbeHost,
        shipped: Shipped,
        compiled: Option<Compiled>,
        icmp: Arc<dyn Icmp>,
        link: Arc<dyn WatcherLink>,
        relays: Arc<dyn RelayLink>,
        managers: Vec<ManagerEndpoint>,
    ) -> Self {
        let (shipped, compiled) = (Arc::new(shipped), compiled.map(Arc::new));
        let (ready, compiler) = (RwLock::default(), tokio::sync::Mutex::default());
        Self { host, shipped, compiled, ready, compiler, available: memory::available, icmp, link, relays, managers }
    }

    /// Returns it with a folder for what it compiles.
    #[cfg(test)]
    pub(super) fn with_compiled(self, folder: &std::path::Path) -> Self {
        let folder = CompiledFolder { path: folder, most_bytes: 64 << 20 };
        let compiled = Compiled::open(folder, &self.host).expect("a folder of the test");
        Self { compiled: Some(Arc::new(compiled)), ..self }
    }

    /// Returns it with another word on how many bytes are left for compiling.
    #[cfg(test)]
    pub(super) fn with_available(self, available: fn() -> Option<u64>) -> Self {
        Self { available, ..self }
    }

    fn get(&self, digest: &Digest) -> Option<ReadyProbe> {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    /// Returns where a probe that is ready came from, and what is known of its runs by now.
    fn origin(&self, digest: &Digest) -> Option<Origin> {
        let ready = self.get(digest)?;
        Some(if self.shipped.contains(digest) {
            Origin::Shipped
        } else {
            Origin::Compiled { runs: ready.probe.runs_in_memory() }
        })
    }

    fn add(&self, digest: &Digest, probe: Probe) {
        self.ready.write().unwrap_or_else(PoisonError::into_inner).insert(*digest, probe.into());
    }

    /// Returns what a run is lent, or how it ends when it needs more than is granted.
    async fn lent(&self, ready: &ReadyProbe, spec: &ProbeSpec) -> Result<Capabilities, Ended> {
        let (ports, interfaces) = match &spec.grant {
            // Recorded before there were grants: as then.
            None => (PortGrant::Settings, None),
            Some(grant) => {
                let described = ready.probe.describe().await.map_err(|fault| could_not(&fault))?;
                let judged = granted_ports(grant, &ready.needs, described, spec.network, &spec.settings);
                let ports = judged.map_err(|not| Ended::probe(Outcome::Unknown, NOT_GRANTED, &not.to_string()))?;
                (ports, Some(&grant.interfaces))
            }
        };
        let may = |interface| interfaces.is_none_or(|granted| granted.contains(&interface));
        Ok(Capabilities {
            icmp: may(ProbeInterface::Icmp).then(|| Arc::clone(&self.icmp)),
            guest_agent: spec.relay.as_ref().filter(|_| may(ProbeInterface::GuestAgent)).map(|relay| {
                let link = Arc::clone(&self.relays);
                Arc::new(RelayedGuestAgent { link, relay: Arc::clone(relay) }) as Arc<_>
            }),
            ports,
        })
    }

    /// Returns the probe that this watcher, or one before it, compiled from this component.
    async fn compiled_before(&self, name: &ProbeName, digest: &Digest) -> Option<Probe> {
        let (host, compiled, wanted) = (self.host.clone(), Arc::clone(self.compiled.as_ref()?), *digest);
        let loaded = tokio::task::spawn_blocking(move || compiled.load(&host, &wanted)).await;
        let probe = loaded.inspect_err(|error| warn!(%error, "loading what was compiled before failed")).ok()??;
        info!(probe = %name, digest = %digest.short(), compilations = compilations(), "probe was compiled before");
        Some(probe)
    }

    /// Fetches a component and compiles it, where there is memory for that. Returns its native code too, if it is kept.
    async fn compile(
        &self,
        name: &ProbeName,
        digest: &Digest,
        too_large: &mut HashMap<Digest, usize>,
    ) -> Result<(Probe, Option<Vec<u8>>), String> {
        // One that found no memory is not fetched again before there is some.
        if let Some(&size) = too_large.get(digest) {
            may_compile(size, (self.available)())?;
        }
        let component = self.fetch(digest).await?;
        if let Err(why) = may_compile(component.len(), (self.available)()) {
            too_large.insert(*digest, component.len());
            return Err(why);
        }
        let (host, is_kept) = (self.host.clone(), self.compiled.is_some());
        let compile = move || {
            if is_kept { host.compile_to_keep(&component) } else { host.compile(&component).map(|probe| (probe, None)) }
        };
        let compiled = tokio::task::spawn_blocking(compile).await.map_err(|e| format!("compiler: {e}"))?;
        let compiled = compiled.map_err(|e| e.to_string())?;
        info!(probe = %name, digest = %digest.short(), compilations = compilations(), "probe compiled");
        Ok(compiled)
    }

    /// Keeps native code for the next time.
    async fn keep(&self, digest: &Digest, native: Vec<u8>) {
        let (Some(compiled), from) = (self.compiled.clone(), *digest) else { return };
        let kept =
            tokio::task::spawn_blocking(move || compiled.keep(&from, &native).map_err(anyhow::Error::from)).await;
        if let Err(error) = kept.map_err(anyhow::Error::from).flatten() {
            warn!(digest = %digest.short(), error = format!("{error:#}"), "what was compiled is not kept");
        }
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

/// Refuses to compile what would take the memory that the watcher runs on: its machine would end with all its looks.
fn may_compile(component: usize, available: Option<u64>) -> Result<(), String> {
    let needed = compiling(component);
    match available {
        Some(available) if available < needed + KEPT_BACK => Err(format!(
            "to compile a component of {component} bytes takes some {} MiB of memory, and this watcher has {} MiB left: \
             give the watchers of this node more (watchers.memory_mib)",
            needed.div_ceil(1 << 20),
            available.saturating_sub(KEPT_BACK) >> 20
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a component that says that it is another probe, or cannot say what it is.
async fn describes_itself_as(probe: &Probe, name: &ProbeName, digest: &Digest) -> Result<(), String> {
    let described = &probe.describe().await.map_err(|fault| fault.to_string())?.name;
    if described == name.as_str() {
        Ok(())
    } else {
        Err(format!("component {} says that it is probe {described:?}", digest.short()))
    }
}

fn could_not(fault: &RunFault) -> Ended {
    let conduct = match fault {
        RunFault::Deadline { .. }
        | RunFault::Memory { .. }
        | RunFault::MemoryOfProbe { .. }
        | RunFault::MemoryOfHost { .. }
        | RunFault::Crashed(_) => Conduct::Badly,
        RunFault::BadSettings(_)
        | RunFault::NotApplicable(_)
        | RunFault::Probe(_)
        | RunFault::BadAnswer(_)
        | RunFault::Busy { .. } => Conduct::Untold,
    };
    Ended::probe(Outcome::Unknown, fault.as_str(), &fault.to_string()).conducted(conduct)
}

#[async_trait]
impl ProbeRunner for HostRunner {
    async fn prepare(&self, name: &ProbeName, digest: &Digest) -> Result<Origin, String> {
        if let Some(origin) = self.origin(digest) {
            return Ok(origin);
        }
        let (host, shipped, wanted) = (self.host.clone(), Arc::clone(&self.shipped), *digest);
        let loaded = tokio::task::spawn_blocking(move || shipped.load(&host, &wanted)).await;
        if let Some(loaded) = loaded.map_err(|e| format!("shipped probe {name}: {e}"))? {
            let probe = loaded.map_err(|e| format!("{:#}", anyhow::Error::from(e)))?;
            debug!(probe = %name, digest = %digest.short(), "shipped probe loaded");
            self.add(digest, probe);
            return Ok(Origin::Shipped);
        }
        let mut too_large = self.compiler.lock().await;
        // Another order to prepare it may have come before and be done by now.
        if let Some(origin) = self.origin(digest) {
            return Ok(origin);
        }
        let (probe, native) = match self.compiled_before(name, digest).await {
            Some(probe) => (probe, None),
            None => self.compile(name, digest, &mut too_large).await?,
        };
        describes_itself_as(&probe, name, digest).await?;
        too_large.remove(digest);
        if let Some(native) = native {
            self.keep(digest, native).await;
        }
        // It has described itself by now: what that took, every run takes at least.
        let runs = probe.runs_in_memory();
        self.add(digest, probe);
        Ok(Origin::Compiled { runs })
    }

    fn forget(&self, digest: &Digest) {
        self.ready.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    async fn run(&self, spec: &ProbeSpec, timeout: Duration) -> Ended {
        let Some(ready) = spec.digest.as_ref().and_then(|digest| self.get(digest)) else {
            return Ended::probe(Outcome::Unknown, "probe_unavailable", "the probe is not ready");
        };
        let lent = match self.lent(&ready, spec).await {
            Ok(lent) => lent,
            Err(ended) => return ended,
        };
        let target = Target {
            vm: spec.vm,
            addresses: spec.addresses.clone(),
            network: spec.network,
            labels: spec.labels.clone(),
        };
        match ready.probe.run(&target, &spec.settings, timeout, &lent).await {
            Ok(found) => {
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
                Ended::probe(found.outcome, &found.reason, &found.message)
                    .identified(identity)
                    .finding(Findings { phases: found.phases, samples: found.samples, facts: found.facts })
                    .conducted(Conduct::Well { computed: found.computed })
            }
            Err(fault) => could_not(&fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use vouch_probe_host::limits;
    use vouch_types::probe_descriptor as described;
    use vouch_types::probe_rollout::FAULT_REASONS;

    use super::*;

    #[test]
    fn what_counts_against_a_new_version_is_what_runs_end_with_that_say_nothing_because_of_the_probe() {
        let (text, after, limit) = (String::new, Duration::ZERO, 0);
        let faults = [
            RunFault::BadSettings(text()),
            RunFault::NotApplicable(text()),
            RunFault::Probe(text()),
            RunFault::Deadline { after },
            RunFault::Memory { limit },
            RunFault::Crashed(text()),
            RunFault::BadAnswer(text()),
        ];
        let words: Vec<&str> = faults.iter().map(RunFault::as_str).chain([NOT_GRANTED]).collect();
        assert_eq!(words, FAULT_REASONS);
        assert!(FAULT_REASONS.contains(&RunFault::MemoryOfProbe { limit }.as_str()));
        // That all slots stay busy, and that other probes took the memory, is the watcher's matter.
        for others in [RunFault::Busy { deadline: after }, RunFault::MemoryOfHost { limit }] {
            assert!(!FAULT_REASONS.contains(&others.as_str()));
        }
    }

    #[test]
    fn nothing_is_compiled_that_would_take_the_memory_of_the_watcher() {
        let mib = |mib: u64| Some(mib << 20);
        assert_eq!(may_compile(200_000, mib(44)), Ok(()));
        assert_eq!(may_compile(3 << 20, None), Ok(()), "where nothing is known, as before");
        let refused = may_compile(1_124_659, mib(60)).unwrap_err();
        assert!(refused.contains("takes some 89 MiB") && refused.contains("has 52 MiB left"), "{refused}");
        assert!(may_compile(200_000, mib(0)).unwrap_err().contains("has 0 MiB left"));
    }

    #[test]
    fn what_a_component_may_say_of_itself_can_be_recorded() {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap();
        assert_eq!(limits::SCHEMA_MAX, described::SCHEMA_MAX);
        assert_eq!(limits::DESCRIBED_PORTS_MAX, described::DESCRIBED_PORTS_MAX);
        assert_eq!(millis(limits::INTERVAL_MIN), described::INTERVAL_MS_MIN);
        assert_eq!(millis(limits::INTERVAL_MAX), described::INTERVAL_MS_MAX);
        assert_eq!(millis(limits::TIMEOUT_MIN), described::TIMEOUT_MS_MIN);
        assert_eq!(millis(limits::DEADLINE_MAX), described::TIMEOUT_MS_MAX);
    }
}
