//! Statements and grants: what travels signed. See [`crate::sign`].

use vouch_types::{AssignmentGeneration, Generation, Grant, Incarnation, Nonce, Sequence, StartId, Statement};

use super::{
    ConvertError, at_most, boot_bytes, boot_id, cluster_bytes, cluster_id, hypervisor_state, limits, node_id, progress,
    vm_bytes, vm_id, watcher_id,
};
use crate::proto;

impl From<&Statement> for proto::Statement {
    fn from(s: &Statement) -> Self {
        Self {
            node: s.node.as_str().to_owned(),
            boot: boot_bytes(s.boot),
            incarnation: s.incarnation.get(),
            vm: vm_bytes(s.vm),
            generation: s.generation.get(),
            start: s.start.get(),
            sequence: s.sequence.get(),
            nonce: s.nonce.get(),
            state: proto::HypervisorState::from(s.state).into(),
            progress: proto::Progress::from(s.progress).into(),
        }
    }
}

impl TryFrom<proto::Statement> for Statement {
    type Error = ConvertError;
    fn try_from(m: proto::Statement) -> Result<Self, ConvertError> {
        Ok(Self {
            node: node_id("statement.node", &m.node)?,
            boot: boot_id("statement.boot", &m.boot)?,
            incarnation: Incarnation::new(m.incarnation),
            vm: vm_id("statement.vm", &m.vm)?,
            generation: Generation::new(m.generation),
            start: StartId::new(m.start),
            sequence: Sequence::new(m.sequence),
            nonce: Nonce::new(m.nonce),
            state: hypervisor_state("statement.state", m.state)?,
            progress: progress("statement.progress", m.progress)?,
        })
    }
}

impl From<&Grant> for proto::Grant {
    fn from(g: &Grant) -> Self {
        Self {
            cluster: cluster_bytes(g.cluster),
            watcher: g.watcher.get(),
            node: g.node.as_str().to_owned(),
            vms: g.vms.iter().copied().map(vm_bytes).collect(),
            generation: g.generation.get(),
        }
    }
}

impl TryFrom<proto::Grant> for Grant {
    type Error = ConvertError;
    fn try_from(m: proto::Grant) -> Result<Self, ConvertError> {
        at_most("grant.vms", m.vms.len(), limits::GRANT_VMS_MAX, "VMs")?;
        Ok(Self {
            cluster: cluster_id("grant.cluster", &m.cluster)?,
            watcher: watcher_id("grant.watcher", m.watcher)?,
            node: node_id("grant.node", &m.node)?,
            vms: m.vms.iter().map(|vm| vm_id("grant.vms", vm)).collect::<Result<_, _>>()?,
            generation: AssignmentGeneration::new(m.generation),
        })
    }
}
