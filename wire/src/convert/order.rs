//! Orders of managers: ownership, watchers to create, assignments; each with its fence.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use vouch_types::{
    AssignmentGeneration, Digest, Generation, LogIndex, Network, NodeId, ProbeAssignment, ProbeGrant, ProbeName,
    SortedMap, Term, VmId, WatcherId, WatcherLegs,
};

use super::report::micros;
use super::vm::{from_addresses, from_labels, from_legs, to_addresses, to_labels, to_legs};
use super::{
    ConvertError, at_most, digest, distinct, limits, manager_id, network, node_id, present, probe_name, socket_address,
    text, vm_bytes, vm_id, watcher_id,
};
use crate::links::ManagerEndpoint;
use crate::proto;

/// What an order is fenced with: receivers keep the highest and refuse lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fence {
    /// Term of the leader that gave it.
    pub term: Term,
    /// Log index that it rests on.
    pub log_index: LogIndex,
}

impl From<Fence> for proto::Fence {
    fn from(f: Fence) -> Self {
        Self { term: f.term.get(), log_index: f.log_index.get() }
    }
}

impl From<proto::Fence> for Fence {
    fn from(m: proto::Fence) -> Self {
        Self { term: Term::new(m.term), log_index: LogIndex::new(m.log_index) }
    }
}

/// Returns the message that tells a watcher where the managers are.
pub fn manager_addresses(endpoints: &[ManagerEndpoint]) -> Vec<proto::ManagerAddresses> {
    let mut by_manager: BTreeMap<_, Vec<proto::Endpoint>> = BTreeMap::new();
    for e in endpoints {
        by_manager
            .entry(e.manager)
            .or_default()
            .push(proto::Endpoint { network: proto::Network::from(e.network).into(), address: e.address.to_string() });
    }
    by_manager
        .into_iter()
        .map(|(manager, endpoints)| proto::ManagerAddresses { manager: manager.get(), endpoints })
        .collect()
}

/// Returns where the managers are.
///
/// # Errors
/// [`ConvertError`] names the field that breaks a rule or limit.
pub fn manager_endpoints(list: Vec<proto::ManagerAddresses>) -> Result<Vec<ManagerEndpoint>, ConvertError> {
    at_most("managers", list.len(), limits::MANAGERS_MAX, "managers")?;
    let mut out = Vec::new();
    for m in list {
        let manager = manager_id("managers.manager", m.manager)?;
        at_most("managers.endpoints", m.endpoints.len(), Network::ALL.len(), "endpoints")?;
        for e in m.endpoints {
            out.push(ManagerEndpoint {
                manager,
                network: network("managers.endpoints.network", e.network)?,
                address: socket_address("managers.endpoints.address", &e.address)?,
            });
        }
    }
    Ok(out)
}

/// Returns the fence of an ownership, and the VMs that the node owns with their generations.
///
/// # Errors
/// [`ConvertError`] names the field that breaks a rule or limit.
pub fn ownership(m: proto::Ownership) -> Result<(Fence, BTreeMap<VmId, Generation>), ConvertError> {
    at_most("ownership.vms", m.vms.len(), limits::VMS_PER_REPORT_MAX, "VMs")?;
    let fence = present("ownership.fence", m.fence)?.into();
    let vms = m
        .vms
        .iter()
        .map(|o| Ok((vm_id("ownership.vms.vm", &o.vm)?, Generation::new(o.generation))))
        .collect::<Result<_, ConvertError>>()?;
    Ok((fence, vms))
}

/// The order to create a watcher.
#[derive(Clone, PartialEq, Eq)]
pub struct CreateWatcher {
    /// Its fence.
    pub fence: Fence,
    /// The watcher.
    pub watcher: WatcherId,
    /// Log index of its placement.
    pub placed: LogIndex,
    /// One-time secret.
    pub secret: [u8; limits::SECRET_LEN],
    /// PEM of the CA that the watcher is to trust.
    pub ca_certificate: String,
    /// Where the managers are.
    pub managers: Vec<ManagerEndpoint>,
}

impl std::fmt::Debug for CreateWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateWatcher")
            .field("fence", &self.fence)
            .field("watcher", &self.watcher)
            .field("placed", &self.placed)
            .finish_non_exhaustive()
    }
}

impl From<&CreateWatcher> for proto::CreateWatcher {
    fn from(c: &CreateWatcher) -> Self {
        Self {
            fence: Some(c.fence.into()),
            watcher: c.watcher.get(),
            placed: c.placed.get(),
            secret: c.secret.to_vec(),
            ca_certificate: c.ca_certificate.clone(),
            managers: manager_addresses(&c.managers),
        }
    }
}

impl TryFrom<proto::CreateWatcher> for CreateWatcher {
    type Error = ConvertError;
    fn try_from(m: proto::CreateWatcher) -> Result<Self, ConvertError> {
        Ok(Self {
            fence: present("create_watcher.fence", m.fence)?.into(),
            watcher: watcher_id("create_watcher.watcher", m.watcher)?,
            placed: LogIndex::new(m.placed),
            // The wrong secret is not repeated: it may be most of a right one.
            secret: m.secret.as_slice().try_into().map_err(|_| {
                ConvertError::new("create_watcher.secret", format!("{} bytes", m.secret.len()), "must be 32 bytes")
            })?,
            ca_certificate: text("create_watcher.ca_certificate", m.ca_certificate, limits::CERTIFICATE_MAX)?,
            managers: manager_endpoints(m.managers)?,
        })
    }
}

/// How much an ask wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskDepth {
    /// All probes.
    Full,
    /// Ping, connect and relay only, for asks that follow each other fast.
    Light,
    /// All probes, and what their outcomes rest on, for whoever has a VM looked at.
    Findings,
}

impl AskDepth {
    /// Returns the depth as `Ask.light` and `Ask.findings` tell it.
    pub const fn of(light: bool, findings: bool) -> Self {
        match (light, findings) {
            (true, _) => Self::Light,
            (false, true) => Self::Findings,
            (false, false) => Self::Full,
        }
    }

    /// Returns what `Ask.light` is for it.
    pub const fn is_light(self) -> bool {
        match self {
            Self::Full | Self::Findings => false,
            Self::Light => true,
        }
    }

    /// Returns what `Ask.findings` is for it.
    pub const fn wants_findings(self) -> bool {
        match self {
            Self::Full | Self::Light => false,
            Self::Findings => true,
        }
    }
}

/// A probe that a watcher runs against one VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedProbe {
    /// Which, over which network, with which settings.
    pub assignment: ProbeAssignment,
    /// How often it runs; `None` is as the target says.
    pub interval: Option<Duration>,
    /// How long one run may take; `None` is as the target says.
    pub timeout: Option<Duration>,
}

impl From<ProbeAssignment> for TimedProbe {
    fn from(assignment: ProbeAssignment) -> Self {
        Self { assignment, interval: None, timeout: None }
    }
}

impl From<&TimedProbe> for proto::ProbeAssignment {
    fn from(p: &TimedProbe) -> Self {
        Self {
            interval_micros: p.interval.map(micros).unwrap_or_default(),
            timeout_micros: p.timeout.map(micros).unwrap_or_default(),
            ..(&p.assignment).into()
        }
    }
}

impl TryFrom<proto::ProbeAssignment> for TimedProbe {
    type Error = ConvertError;
    fn try_from(m: proto::ProbeAssignment) -> Result<Self, ConvertError> {
        let (interval, timeout) = (named(m.interval_micros), named(m.timeout_micros));
        Ok(Self { assignment: m.try_into()?, interval, timeout })
    }
}

/// One VM that a watcher watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The VM.
    pub vm: VmId,
    /// The node that owns it.
    pub node: NodeId,
    /// Its addresses per network.
    pub addresses: SortedMap<Network, Vec<IpAddr>>,
    /// The probes to run.
    pub probes: Vec<TimedProbe>,
    /// Its labels.
    pub labels: SortedMap<String, String>,
    /// How often each of its probes runs; `None` is as the timing of the cluster says.
    pub probe_interval: Option<Duration>,
    /// How long one run may take; `None` is as the timing of the cluster says.
    pub probe_timeout: Option<Duration>,
}

impl From<&Target> for proto::Target {
    fn from(t: &Target) -> Self {
        Self {
            vm: vm_bytes(t.vm),
            node: t.node.as_str().to_owned(),
            addresses: to_addresses(&t.addresses),
            probes: t.probes.iter().map(Into::into).collect(),
            labels: to_labels(&t.labels),
            probe_interval_micros: t.probe_interval.map(micros).unwrap_or_default(),
            probe_timeout_micros: t.probe_timeout.map(micros).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::Target> for Target {
    type Error = ConvertError;
    fn try_from(m: proto::Target) -> Result<Self, ConvertError> {
        at_most("probes", m.probes.len(), limits::PROBES_PER_VM_MAX, "per VM")?;
        Ok(Self {
            vm: vm_id("target.vm", &m.vm)?,
            node: node_id("target.node", &m.node)?,
            addresses: from_addresses(m.addresses)?,
            probes: m.probes.into_iter().map(TimedProbe::try_from).collect::<Result<_, _>>()?,
            labels: from_labels(m.labels)?,
            probe_interval: named(m.probe_interval_micros),
            probe_timeout: named(m.probe_timeout_micros),
        })
    }
}

/// Returns the duration that is named; 0 names none.
fn named(micros: u64) -> Option<Duration> {
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// A node's relay that a watcher may ask.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayTarget {
    /// The node.
    pub node: NodeId,
    /// Where its relay listens.
    pub address: SocketAddr,
    /// The signed grant, for the node to check.
    pub grant: proto::Signed,
}

/// A watcher on another node: a reference target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub watcher: WatcherId,
    /// Where it is reached.
    pub legs: WatcherLegs,
}

/// A probe component that a watcher is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedProbe {
    /// SHA-256 of the component.
    pub digest: Digest,
    /// What the operator grants it; `None` for one that was recorded before there were grants.
    pub grant: Option<ProbeGrant>,
}

/// The whole of what a watcher watches.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Its fence.
    pub fence: Fence,
    /// Its generation.
    pub generation: AssignmentGeneration,
    /// The VMs.
    pub targets: Vec<Target>,
    /// The relays.
    pub relays: Vec<RelayTarget>,
    /// Components by name.
    pub probes: BTreeMap<ProbeName, AssignedProbe>,
    /// Its peers.
    pub peers: Vec<Peer>,
}

impl From<&Assignment> for proto::Assignment {
    fn from(a: &Assignment) -> Self {
        Self {
            fence: Some(a.fence.into()),
            generation: a.generation.get(),
            targets: a.targets.iter().map(Into::into).collect(),
            relays: a
                .relays
                .iter()
                .map(|r| proto::RelayTarget {
                    node: r.node.as_str().to_owned(),
                    address: r.address.to_string(),
                    grant: Some(r.grant.clone()),
                })
                .collect(),
            probes: a
                .probes
                .iter()
                .map(|(name, probe)| proto::ProbeComponent {
                    name: name.as_str().to_owned(),
                    digest: probe.digest.as_bytes().to_vec(),
                    grant: probe.grant.as_ref().map(Into::into),
                })
                .collect(),
            peers: a.peers.iter().map(|p| proto::Peer { watcher: p.watcher.get(), legs: to_legs(&p.legs) }).collect(),
        }
    }
}

impl TryFrom<proto::Assignment> for Assignment {
    type Error = ConvertError;
    fn try_from(m: proto::Assignment) -> Result<Self, ConvertError> {
        at_most("assignment.targets", m.targets.len(), limits::TARGETS_PER_ASSIGNMENT_MAX, "targets")?;
        at_most("assignment.relays", m.relays.len(), limits::RELAYS_PER_ASSIGNMENT_MAX, "relays")?;
        at_most("assignment.probes", m.probes.len(), limits::PROBES_PER_ASSIGNMENT_MAX, "probes")?;
        at_most("assignment.peers", m.peers.len(), limits::PEERS_PER_ASSIGNMENT_MAX, "peers")?;
        distinct("assignment.peers", m.peers.iter().map(|p| p.watcher))?;
        Ok(Self {
            fence: present("assignment.fence", m.fence)?.into(),
            generation: AssignmentGeneration::new(m.generation),
            targets: m.targets.into_iter().map(Target::try_from).collect::<Result<_, _>>()?,
            relays: m
                .relays
                .into_iter()
                .map(|r| {
                    Ok(RelayTarget {
                        node: node_id("assignment.relays.node", &r.node)?,
                        address: socket_address("assignment.relays.address", &r.address)?,
                        grant: present("assignment.relays.grant", r.grant)?,
                    })
                })
                .collect::<Result<_, ConvertError>>()?,
            probes: m
                .probes
                .into_iter()
                .map(|p| {
                    let digest = digest("assignment.probes.digest", &p.digest)?;
                    let grant = p.grant.map(ProbeGrant::try_from).transpose()?;
                    Ok((probe_name("assignment.probes.name", &p.name)?, AssignedProbe { digest, grant }))
                })
                .collect::<Result<_, ConvertError>>()?,
            peers: m
                .peers
                .iter()
                .map(|p| {
                    Ok(Peer { watcher: watcher_id("assignment.peers.watcher", p.watcher)?, legs: from_legs(&p.legs)? })
                })
                .collect::<Result<_, ConvertError>>()?,
        })
    }
}
