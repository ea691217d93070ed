//! Where in the log each kind of thing last changed: what blocking reads wait for, and what ETags name.
//!
//! A mark is the index of a command, so it is the same on every manager that has applied it.

use serde::{Deserialize, Serialize};
use vouch_types::{Command, LogIndex, MaintenanceId, NodeId, PolicyScope, VmId};

use super::{EVENTS_MAX, State};
use crate::store::Changes;
use crate::store::changes::EventPosition;

/// Where in the log each kind of thing last changed; 0 where it never did.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// Any command that changed something.
    pub latest: LogIndex,
    /// Nodes, their paths and proofs.
    pub nodes: LogIndex,
    /// VMs and their verdicts.
    pub vms: LogIndex,
    /// Watchers and what they watch.
    pub watchers: LogIndex,
    /// Probes.
    pub probes: LogIndex,
    /// Incidents.
    pub incidents: LogIndex,
    /// Policies.
    pub policies: LogIndex,
    /// Maintenance windows that began or ended.
    pub maintenances: LogIndex,
    /// Join tokens.
    pub join_tokens: LogIndex,
    /// Keys that are trusted for probes, and whether a signature is wanted. Left out while nothing is set, so that an
    /// earlier version makes the same hash.
    #[serde(skip_serializing_if = "is_unset")]
    pub probe_keys: LogIndex,
    /// Probes that operators assign by scope. Left out while there are none, as above.
    #[serde(skip_serializing_if = "is_unset")]
    pub scoped_probes: LogIndex,
    /// What managers cannot hear.
    pub manager_notes: LogIndex,
    /// The last event that left to make room.
    pub trimmed: Option<EventPosition>,
}

fn is_unset(mark: &LogIndex) -> bool {
    *mark == LogIndex::default()
}

/// What a reader waits for a change of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// The list of VMs.
    Vms,
    /// One VM: itself, its node, watchers, incidents.
    Vm(VmId),
    /// Nodes.
    Nodes,
    /// Watchers.
    Watchers,
    /// Probes.
    Probes,
    /// Assignments of probes by scope, with the VMs that they cover.
    ScopedProbes,
    /// Incidents, with the VMs that they touch.
    Incidents,
    /// Policies.
    Policies,
    /// One policy.
    Policy(PolicyScope),
    /// The settings of one VM.
    VmPolicy(VmId),
    /// Maintenance windows.
    Maintenances,
    /// Join tokens.
    JoinTokens,
    /// Keys that are trusted for probes, the probes that they signed, and whether a signature is wanted.
    ProbeKeys,
}

impl State {
    /// Returns where each kind of thing last changed.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Returns the last event that is kept no longer: what came before it may be missing as well.
    pub fn trimmed(&self) -> Option<EventPosition> {
        // A state of a version that kept no such mark: its ring is full, or nothing ever left it.
        let full = || self.events.front().filter(|_| self.events.len() >= EVENTS_MAX);
        self.marks
            .trimmed
            .or_else(|| full().map(|oldest| (LogIndex::new(oldest.index.get().saturating_sub(1)), u32::MAX)))
    }

    /// Returns where what a reader sees of this last changed, at the latest.
    pub fn changed_at(&self, subject: &Subject) -> LogIndex {
        let marks = &self.marks;
        let vm_itself = |id: &VmId| self.vms.get(id).map_or(marks.vms, |vm| vm.modified);
        match subject {
            Subject::Vms => {
                marks.vms.max(marks.nodes).max(marks.watchers).max(marks.incidents).max(marks.scoped_probes)
            }
            Subject::Vm(id) => {
                let node = self.vms.get(id).and_then(|vm| self.nodes.get(&vm.node));
                let node = node.map_or(marks.nodes, |node| node.modified);
                vm_itself(id).max(node).max(marks.watchers).max(marks.incidents).max(marks.scoped_probes)
            }
            Subject::Nodes => marks.nodes.max(marks.vms).max(marks.watchers).max(marks.manager_notes),
            Subject::Watchers => marks.watchers,
            Subject::Probes => marks.probes,
            Subject::ScopedProbes => marks.scoped_probes.max(marks.vms),
            Subject::Incidents => marks.incidents.max(marks.vms),
            Subject::Policies => marks.policies,
            Subject::Policy(scope) => self.policy_version(scope).unwrap_or(marks.policies),
            Subject::VmPolicy(id) => vm_itself(id).max(marks.policies),
            Subject::Maintenances => marks.maintenances,
            Subject::JoinTokens => marks.join_tokens,
            Subject::ProbeKeys => marks.probe_keys.max(marks.probes),
        }
    }

    /// Returns the index at which a policy was set.
    pub fn policy_version(&self, scope: &PolicyScope) -> Option<LogIndex> {
        let set = self.head.policies.iter().any(|(known, _)| known == scope);
        // One that an earlier version set has no index: it is as old as the log.
        let index = self.head.policies_set.iter().find(|(known, _)| known == scope).map(|(_, index)| *index);
        set.then(|| index.unwrap_or_default())
    }

    /// Returns the index at which a maintenance window was begun.
    pub fn maintenance_version(&self, id: MaintenanceId) -> Option<LogIndex> {
        self.head.maintenances.iter().find(|window| window.id == id).map(|window| window.index)
    }

    /// Returns the index at which a VM's record last changed.
    pub fn vm_version(&self, id: VmId) -> Option<LogIndex> {
        self.vms.get(&id).map(|vm| vm.modified)
    }

    /// Returns the index at which a node's record last changed.
    pub fn node_version(&self, id: &NodeId) -> Option<LogIndex> {
        self.nodes.get(id).map(|node| node.modified)
    }

    /// Returns the version of what a command writes; `None` when that is not there, or has no versions.
    pub(super) fn version_of(&self, command: &Command) -> Option<LogIndex> {
        match command {
            Command::SetPolicy { scope, .. } => self.policy_version(scope),
            Command::EndMaintenance { maintenance, .. } => self.maintenance_version(*maintenance),
            Command::RecordFenceProof { node, .. }
            | Command::WithdrawFenceProof { node, .. }
            | Command::RemoveNode { node, .. } => self.node_version(node),
            Command::RevokeJoinToken { token, .. } => self.join_token(*token).map(|token| token.modified),
            Command::ForgetPins { vm, .. } => self.vm_version(*vm),
            Command::AssignProbe { assigned, .. } => self.scoped_probe_version(&assigned.key()),
            Command::UnassignProbe { key, .. } => self.scoped_probe_version(key),
            Command::Guarded { command, .. } => self.version_of(command),
            Command::InitCluster { .. }
            | Command::RecordNode { .. }
            | Command::RecordVms { .. }
            | Command::RecordProven { .. }
            | Command::RecordVerdicts { .. }
            | Command::PlaceWatcher { .. }
            | Command::RedeemSecret { .. }
            | Command::AssignWatchers { .. }
            | Command::LoseWatcher { .. }
            | Command::RetireWatcher { .. }
            | Command::ForgetWatcher { .. }
            | Command::RecordProbe { .. }
            | Command::GrantProbe { .. }
            | Command::BeginRollout { .. }
            | Command::StepRollout { .. }
            | Command::AddProbeKey { .. }
            | Command::RemoveProbeKey { .. }
            | Command::SetSignatureRule { .. }
            | Command::RefuseProbe { .. }
            | Command::BeginMaintenance { .. }
            | Command::RecordMaintenance { .. }
            | Command::CreateJoinToken { .. }
            | Command::RedeemJoinToken { .. }
            | Command::AddCa { .. }
            | Command::SwitchCa { .. }
            | Command::RetireCa { .. }
            | Command::RecordManagerLog { .. }
            | Command::BeginManagerReturn { .. }
            | Command::EndManagerReturn { .. }
            | Command::RecordLeader { .. } => None,
        }
    }

    /// Marks what a command touched. Policies, windows, join tokens and notes, which share one record, mark themselves.
    pub(super) fn mark(&mut self, index: LogIndex, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        let marks = &mut self.marks;
        marks.latest = index;
        for (touched, mark) in [
            (!changes.nodes.is_empty(), &mut marks.nodes),
            (!changes.vms.is_empty(), &mut marks.vms),
            (!changes.watchers.is_empty(), &mut marks.watchers),
            (!changes.probes.is_empty(), &mut marks.probes),
            (!changes.incidents.is_empty(), &mut marks.incidents),
        ] {
            if touched {
                *mark = index;
            }
        }
        for id in &changes.nodes {
            if let Some(node) = self.nodes.get_mut(id) {
                std::sync::Arc::make_mut(node).modified = index;
            }
        }
        for id in &changes.vms {
            if let Some(vm) = self.vms.get_mut(id) {
                std::sync::Arc::make_mut(vm).modified = index;
            }
        }
    }
}
