//! What a node says of itself and its VMs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use vouch_types::{
    BootId, Generation, HypervisorState, Incarnation, Network, Operation, Progress, Sequence, StartId, TickSequence,
    VmId, VmSpec, WatcherId, WatcherLegs,
};

use super::vm::{from_legs, to_legs};
use super::{
    ConvertError, age, at_most, boot_bytes, boot_id, distinct, hypervisor_state, limits, network, operation, progress,
    socket_address, text, vm_bytes, vm_description, vm_id, vm_spec, watcher_id,
};
use crate::proto;
use crate::sign::PUBLIC_KEY_LEN;

/// The first word of a node on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHello {
    /// The boot of the node.
    pub boot: BootId,
    /// The life of its agent.
    pub incarnation: Incarnation,
    /// Ed25519 public key of its statements.
    pub statement_key: [u8; PUBLIC_KEY_LEN],
    /// Where its relay listens, as watchers are told.
    pub relay: SocketAddr,
    /// Its rack, if its configuration names one.
    pub rack: Option<String>,
    /// `qemu` or `local`.
    pub driver: String,
    /// Whether watchers may be created on it.
    pub hosts_watchers: bool,
    /// The network that the stream runs over.
    pub network: Network,
}

impl From<&NodeHello> for proto::NodeHello {
    fn from(h: &NodeHello) -> Self {
        Self {
            boot: boot_bytes(h.boot),
            incarnation: h.incarnation.get(),
            statement_key: h.statement_key.to_vec(),
            relay: h.relay.to_string(),
            rack: h.rack.clone().unwrap_or_default(),
            driver: h.driver.clone(),
            hosts_watchers: h.hosts_watchers,
            network: proto::Network::from(h.network).into(),
        }
    }
}

impl TryFrom<proto::NodeHello> for NodeHello {
    type Error = ConvertError;
    fn try_from(m: proto::NodeHello) -> Result<Self, ConvertError> {
        let rack = text("hello.rack", m.rack, limits::NAME_TEXT_MAX)?;
        if !matches!(m.driver.as_str(), "qemu" | "local") {
            return Err(ConvertError::new("hello.driver", m.driver, "must be qemu or local"));
        }
        Ok(Self {
            boot: boot_id("hello.boot", &m.boot)?,
            incarnation: Incarnation::new(m.incarnation),
            statement_key: m.statement_key.as_slice().try_into().map_err(|_| {
                ConvertError::new("hello.statement_key", hex::encode(&m.statement_key), "must be 32 bytes")
            })?,
            relay: socket_address("hello.relay", &m.relay)?,
            rack: Some(rack).filter(|r| !r.is_empty()),
            driver: m.driver,
            hosts_watchers: m.hosts_watchers,
            network: network("hello.network", m.network)?,
        })
    }
}

/// A node's report on its VMs.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// Position among the agent's reports.
    pub sequence: Sequence,
    /// The last tick of the receiving manager that the node had when it began to read the hypervisor; 0 for none.
    pub tick: TickSequence,
    /// Age of that read when the report was sent.
    pub age: Duration,
    /// Whether the hypervisor service answers the agent.
    pub hypervisor_silent: bool,
    /// All VMs are in `vms`; else only changed ones.
    pub full: bool,
    /// The node's word on its VMs.
    pub vms: Vec<VmReport>,
    /// Hypervisor states of the watcher VMs on the node, all of them.
    pub watchers: Vec<(WatcherId, HypervisorState)>,
    /// Where those are reached that have legs of their own.
    pub legs: BTreeMap<WatcherId, WatcherLegs>,
}

/// A node's word on one VM.
#[derive(Debug, Clone, PartialEq)]
pub struct VmReport {
    /// The VM.
    pub vm: VmId,
    /// Placement generation as last told; 0 when never told.
    pub generation: Generation,
    /// The start that it speaks of.
    pub start: StartId,
    /// The hypervisor's word.
    pub state: HypervisorState,
    /// Its description; present in full reports.
    pub spec: Option<VmSpec>,
    /// Its progress, as far as the hypervisor tells.
    pub counters: Option<proto::VmCounters>,
    /// Whether the port on each network has link and carrier.
    pub links: BTreeMap<Network, bool>,
    /// Whether it gets on, as its counters say.
    pub progress: Progress,
    /// An operation on it that is under way.
    pub operation: Option<Operation>,
}

impl From<&VmReport> for proto::VmReport {
    fn from(r: &VmReport) -> Self {
        Self {
            vm: vm_bytes(r.vm),
            generation: r.generation.get(),
            start: r.start.get(),
            state: proto::HypervisorState::from(r.state).into(),
            description: r.spec.as_ref().map(vm_description),
            counters: r.counters,
            links: r
                .links
                .iter()
                .map(|(n, up)| proto::LinkReport { network: proto::Network::from(*n).into(), up: *up })
                .collect(),
            progress: proto::Progress::from(r.progress).into(),
            operation: proto::Operation::from(r.operation).into(),
        }
    }
}

impl TryFrom<proto::VmReport> for VmReport {
    type Error = ConvertError;
    fn try_from(m: proto::VmReport) -> Result<Self, ConvertError> {
        let vm = vm_id("vm_report.vm", &m.vm)?;
        at_most("vm_report.links", m.links.len(), Network::ALL.len(), "links")?;
        distinct("vm_report.links", m.links.iter().map(|l| l.network))?;
        Ok(Self {
            vm,
            generation: Generation::new(m.generation),
            start: StartId::new(m.start),
            state: hypervisor_state("vm_report.state", m.state)?,
            spec: m.description.map(|d| vm_spec(vm, d)).transpose()?,
            counters: m.counters,
            links: m
                .links
                .iter()
                .map(|l| Ok((network("vm_report.links", l.network)?, l.up)))
                .collect::<Result<_, _>>()?,
            progress: progress("vm_report.progress", m.progress)?,
            operation: operation("vm_report.operation", m.operation)?,
        })
    }
}

impl From<&NodeReport> for proto::NodeReport {
    fn from(r: &NodeReport) -> Self {
        Self {
            sequence: r.sequence.get(),
            tick: Some(proto::Tick { sequence: r.tick.get() }),
            age_micros: micros(r.age),
            hypervisor_silent: r.hypervisor_silent,
            full: r.full,
            vms: r.vms.iter().map(Into::into).collect(),
            watchers: r
                .watchers
                .iter()
                .map(|(w, s)| proto::WatcherVmReport {
                    watcher: w.get(),
                    state: proto::HypervisorState::from(*s).into(),
                    legs: r.legs.get(w).map(to_legs).unwrap_or_default(),
                })
                .collect(),
        }
    }
}

impl TryFrom<proto::NodeReport> for NodeReport {
    type Error = ConvertError;
    fn try_from(m: proto::NodeReport) -> Result<Self, ConvertError> {
        at_most("report.vms", m.vms.len(), limits::VMS_PER_REPORT_MAX, "VMs")?;
        at_most("report.watchers", m.watchers.len(), limits::WATCHERS_PER_REPORT_MAX, "watchers")?;
        // Of two words on one VM the later would rule, and nobody would know that there was another.
        distinct("report.vms", m.vms.iter().map(|vm| hex::encode(&vm.vm)))?;
        distinct("report.watchers", m.watchers.iter().map(|w| w.watcher))?;
        let mut legs = BTreeMap::new();
        for w in m.watchers.iter().filter(|w| !w.legs.is_empty()) {
            legs.insert(watcher_id("report.watchers.watcher", w.watcher)?, from_legs(&w.legs)?);
        }
        Ok(Self {
            sequence: Sequence::new(m.sequence),
            tick: tick(m.tick),
            age: age("report.age_micros", m.age_micros)?,
            hypervisor_silent: m.hypervisor_silent,
            full: m.full,
            vms: m.vms.into_iter().map(VmReport::try_from).collect::<Result<_, _>>()?,
            watchers: m
                .watchers
                .iter()
                .map(|w| {
                    Ok((
                        watcher_id("report.watchers.watcher", w.watcher)?,
                        hypervisor_state("report.watchers.state", w.state)?,
                    ))
                })
                .collect::<Result<_, _>>()?,
            legs,
        })
    }
}

/// An absent tick is the one before the first: the sender had none.
pub(super) fn tick(tick: Option<proto::Tick>) -> TickSequence {
    TickSequence::new(tick.map_or(0, |t| t.sequence))
}

pub(super) fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
