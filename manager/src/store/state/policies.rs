//! Policies and maintenance windows.

use std::collections::BTreeMap;
use std::time::Duration;

use vouch_types::policy::{MAINTENANCE_LONGEST, MAINTENANCE_REASON_MAX, MAINTENANCES_MAX, POLICIES_MAX};
use vouch_types::{
    Applied, DenyReason, EventKind, MaintenanceId, MaintenanceRecord, Policy, PolicyScope, VmRecord, WallTime,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;

impl State {
    /// Returns all policies, the widest scope first.
    pub fn policies(&self) -> BTreeMap<PolicyScope, Policy> {
        self.head.policies.iter().cloned().collect()
    }

    /// Returns the maintenance windows that hold now.
    pub fn maintenances(&self) -> &[MaintenanceRecord] {
        &self.head.maintenances
    }

    /// Returns what all policies together say of a VM.
    pub fn policy_of(&self, vm: &VmRecord) -> Policy {
        let mut resolved = Policy::default();
        // They are kept in the order of their closeness.
        for (_, policy) in self.head.policies.iter().filter(|(scope, _)| scope.covers(&vm.spec, &vm.node)) {
            resolved.overlay(policy);
        }
        resolved
    }

    /// Returns why maintenance holds for a VM: the reason of the oldest window that covers it; empty when none does.
    pub fn maintenance_of(&self, vm: &VmRecord) -> String {
        let window = self.head.maintenances.iter().find(|window| window.scope.covers(&vm.spec, &vm.node));
        window.map(|window| format!("maintenance {}: {}", window.id, window.reason)).unwrap_or_default()
    }

    pub(super) fn set_policy(&mut self, step: &mut Step, scope: PolicyScope, new: Policy, at: WallTime) -> Outcome {
        // The cluster's timing is not part of the state: what depends on it was checked before the proposal.
        new.validate(&vouch_types::Timing::default()).map_err(DenyReason::BadPolicy)?;
        self.known_scope(&scope)?;
        let known = self.head.policies.iter().position(|(s, _)| *s == scope);
        match (known, new == Policy::default()) {
            (None, true) => return step.done(),
            (Some(_), true) => {
                self.forget_policy(step, &scope);
                step.event(at, EventKind::PolicyChanged { scope, policy: new });
                return step.done();
            }
            (Some(position), false) if self.head.policies[position].1 == new => return step.done(),
            (Some(position), false) => self.head.policies[position].1 = new.clone(),
            (None, false) => {
                limit("policies", self.head.policies.len() + 1, POLICIES_MAX)?;
                self.head.policies.push((scope.clone(), new.clone()));
                self.head.policies.sort_by(|a, b| a.0.cmp(&b.0));
            }
        }
        self.head.policies_set.retain(|(known, _)| *known != scope);
        self.head.policies_set.push((scope.clone(), step.index));
        self.marks.policies = step.index;
        step.changes.head = true;
        step.event(at, EventKind::PolicyChanged { scope, policy: new });
        step.done()
    }

    /// Forgets the policy of a scope; returns whether there was one.
    pub(super) fn forget_policy(&mut self, step: &mut Step, scope: &PolicyScope) -> bool {
        let Some(position) = self.head.policies.iter().position(|(known, _)| known == scope) else { return false };
        self.head.policies.remove(position);
        self.head.policies_set.retain(|(known, _)| known != scope);
        self.marks.policies = step.index;
        step.changes.head = true;
        true
    }

    pub(super) fn known_scope(&self, scope: &PolicyScope) -> Result<(), DenyReason> {
        match scope {
            PolicyScope::Node(node) if !self.nodes.contains_key(node) => Err(DenyReason::UnknownNode(node.clone())),
            PolicyScope::Vm(vm) if self.vms.get(vm).is_none() => Err(DenyReason::UnknownVm(*vm)),
            PolicyScope::Cluster | PolicyScope::Node(_) | PolicyScope::Tag { .. } | PolicyScope::Vm(_) => Ok(()),
        }
    }

    pub(super) fn begin_maintenance(
        &mut self,
        step: &mut Step,
        scope: PolicyScope,
        reason: String,
        lasts: Duration,
        at: WallTime,
    ) -> Outcome {
        let bad = |field: &str, value: String, rule: String| {
            Err(DenyReason::BadValue { field: field.to_owned(), value, rule })
        };
        if reason.trim().is_empty() || reason.len() > MAINTENANCE_REASON_MAX {
            let rule = format!("1 to {MAINTENANCE_REASON_MAX} bytes");
            return bad("maintenance.reason", format!("{} bytes", reason.len()), rule);
        }
        if lasts < Duration::from_secs(1) || lasts > MAINTENANCE_LONGEST {
            let rule = format!("from 1s to {MAINTENANCE_LONGEST:?}");
            return bad("maintenance.lasts", format!("{lasts:?}"), rule);
        }
        self.known_scope(&scope)?;
        limit("maintenance windows", self.head.maintenances.len() + 1, MAINTENANCES_MAX)?;
        self.head.maintenances_begun += 1;
        self.marks.maintenances = step.index;
        step.changes.head = true;
        let id = MaintenanceId::new(self.head.maintenances_begun);
        step.event(at, EventKind::MaintenanceBegun { maintenance: id, scope: scope.clone(), reason: reason.clone() });
        self.head.maintenances.push(MaintenanceRecord {
            id,
            scope,
            reason,
            remaining: lasts,
            begun: at,
            index: step.index,
        });
        Ok(Applied::MaintenanceBegun { index: step.index, maintenance: id })
    }

    /// Takes what is left of windows; one that has ended meanwhile is nothing to refuse the others for.
    pub(super) fn record_maintenance(&mut self, step: &mut Step, remaining: Vec<(MaintenanceId, u64)>) -> Outcome {
        limit("maintenance windows", remaining.len(), MAINTENANCES_MAX)?;
        for (id, millis) in remaining {
            if let Some(window) = self.head.maintenances.iter_mut().find(|window| window.id == id) {
                window.remaining = window.remaining.min(Duration::from_millis(millis));
                step.changes.head = true;
            }
        }
        step.done()
    }

    pub(super) fn end_maintenance(&mut self, step: &mut Step, id: MaintenanceId, at: WallTime) -> Outcome {
        if !self.close_maintenance(step, id, at) {
            return Err(DenyReason::UnknownMaintenance(id));
        }
        step.done()
    }

    /// Ends a window; returns whether there was one.
    pub(super) fn close_maintenance(&mut self, step: &mut Step, id: MaintenanceId, at: WallTime) -> bool {
        let windows = &mut self.head.maintenances;
        let Some(position) = windows.iter().position(|window| window.id == id) else { return false };
        let scope = windows.remove(position).scope;
        self.marks.maintenances = step.index;
        step.changes.head = true;
        step.event(at, EventKind::MaintenanceEnded { maintenance: id, scope });
        true
    }
}
