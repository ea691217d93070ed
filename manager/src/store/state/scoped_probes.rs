//! Probes that operators assign by scope, and how often each probe of a VM runs.

use std::sync::Arc;
use std::time::Duration;

use vouch_types::scoped_probe::{
    ASSIGNED_INTERVAL_MS, ASSIGNED_TIMEOUT_MS, ProbeTimes, SCOPED_PROBES_MAX, VmProbe, named_for, probes_of,
};
use vouch_types::vm::{PROBES_PER_VM_MAX, SETTINGS_MAX};
use vouch_types::{
    DenyReason, EventKind, LogIndex, Pin, Policy, ProbeAssignment, ScopedProbe, ScopedProbeKey, VmId, VmRecord,
    WallTime,
};

use super::State;
use super::apply::{Outcome, Step};
use super::inventory::limit;

impl State {
    /// Returns the probes that operators assign by scope, in the order of their keys: the widest scope first.
    pub fn scoped_probes(&self) -> &[ScopedProbe] {
        &self.head.scoped_probes
    }

    /// Returns one of them.
    pub fn scoped_probe(&self, key: &ScopedProbeKey) -> Option<&ScopedProbe> {
        self.head.scoped_probes.iter().find(|known| known.key() == *key)
    }

    /// Returns the probes that are run against a VM, those of its file first.
    pub fn probes_of<'a>(&'a self, vm: &'a VmRecord) -> Vec<VmProbe<'a>> {
        probes_of(&self.head.scoped_probes, &vm.spec, &vm.node)
    }

    /// Returns the names of probes that are assigned to a VM and not run, since it has as many as it may have.
    pub fn probes_left_out<'a>(&'a self, vm: &'a VmRecord) -> Vec<VmProbe<'a>> {
        let mut named = named_for(&self.head.scoped_probes, &vm.spec, &vm.node);
        named.split_off(named.len().min(PROBES_PER_VM_MAX.max(vm.spec.probes.len())))
    }

    /// Returns how often a probe of a VM runs and how long a run may take, where that is not as its policies say: as the
    /// assignment says, else, where no policy says anything, as an uploaded probe proposes.
    pub fn times_of(&self, policy: &Policy, probe: &VmProbe<'_>) -> Option<ProbeTimes> {
        let ProbeAssignment { probe: name, network, .. } = probe.assignment;
        let assigned = |of: fn(&ScopedProbe) -> Option<u64>| probe.scoped.and_then(of);
        let descriptor = self.probes.get(name).and_then(|probe| probe.descriptor.as_ref());
        let proposed = |said: Option<u64>, of_policy: Option<u64>| said.filter(|_| of_policy.is_none());
        let interval_ms = assigned(|scoped| scoped.interval_ms)
            .or_else(|| proposed(descriptor.and_then(|said| said.interval_ms), policy.probe_interval_ms));
        let timeout_ms = assigned(|scoped| scoped.timeout_ms)
            .or_else(|| proposed(descriptor.and_then(|said| said.timeout_ms), policy.probe_timeout_ms));
        (interval_ms.is_some() || timeout_ms.is_some()).then(|| ProbeTimes {
            probe: name.clone(),
            network: *network,
            interval: interval_ms.map(Duration::from_millis),
            timeout: timeout_ms.map(Duration::from_millis),
        })
    }

    pub(super) fn assign_probe(&mut self, step: &mut Step, assigned: ScopedProbe, at: WallTime) -> Outcome {
        check(&assigned)?;
        let key = assigned.key();
        if !self.probes.contains_key(&key.probe) {
            return Err(DenyReason::UnknownProbe(key.probe));
        }
        self.known_scope(&key.scope)?;
        let known = self.head.scoped_probes.binary_search_by(|known| known.key().cmp(&key));
        let new = ScopedProbe { modified: step.index, ..assigned };
        let mut all = self.head.scoped_probes.clone();
        match known {
            Ok(position) => {
                let same = ScopedProbe { modified: step.index, by: new.by.clone(), ..all[position].clone() };
                if same == new {
                    return step.done();
                }
                all[position] = new.clone();
            }
            Err(position) => {
                limit("assigned probes", all.len() + 1, SCOPED_PROBES_MAX)?;
                all.insert(position, new.clone());
                for vm in self.vms.all().values().filter(|vm| key.scope.covers(&vm.spec, &vm.node)) {
                    let named = named_for(&all, &vm.spec, &vm.node).len();
                    limit(&format!("probes of vm {}", vm.spec.id), named, PROBES_PER_VM_MAX)?;
                }
            }
        }
        step.event(at, EventKind::ProbeAssigned { assigned: new });
        self.put_scoped_probes(step, all, &key);
        step.done()
    }

    pub(super) fn unassign_probe(&mut self, step: &mut Step, key: ScopedProbeKey, by: String, at: WallTime) -> Outcome {
        let Ok(position) = self.head.scoped_probes.binary_search_by(|known| known.key().cmp(&key)) else {
            return Err(DenyReason::UnknownScopedProbe(key));
        };
        let mut all = self.head.scoped_probes.clone();
        all.remove(position);
        step.event(at, EventKind::ProbeUnassigned { key: key.clone(), by });
        self.put_scoped_probes(step, all, &key);
        step.done()
    }

    fn put_scoped_probes(&mut self, step: &mut Step, all: Vec<ScopedProbe>, key: &ScopedProbeKey) {
        let before = std::mem::replace(&mut self.head.scoped_probes, all);
        self.marks.scoped_probes = step.index;
        step.changes.head = true;
        let covered = self.vms.all().values().filter(|vm| key.scope.covers(&vm.spec, &vm.node));
        let covered: Vec<VmId> = covered.map(|vm| vm.spec.id).collect();
        for vm in covered {
            self.forget_unassigned(step, vm, &before);
        }
    }

    /// Forgets what was found with probes that are not run against a VM any more, or with other settings: it proves
    /// nothing about these, and another setting may take the identity from something else.
    pub(super) fn forget_unassigned(&mut self, step: &mut Step, vm: VmId, before: &[ScopedProbe]) {
        let Some(record) = self.vms.get_mut(&vm) else { return };
        let run = probes_of(&self.head.scoped_probes, &record.spec, &record.node);
        let is_run = |p: &ProbeAssignment| run.iter().any(|now| now.assignment == p);
        let was = probes_of(before, &record.spec, &record.node);
        let stays = |pin: &Pin| {
            let mut its = was.iter().filter(|p| p.assignment.probe == pin.probe && p.assignment.network == pin.network);
            its.any(|p| is_run(p.assignment))
        };
        if record.proven.iter().all(&is_run) && record.pins.iter().all(&stays) {
            return;
        }
        let proven = record.proven.iter().filter(|p| is_run(p)).cloned().collect();
        let pins = record.pins.iter().filter(|pin| stays(pin)).cloned().collect();
        let record = Arc::make_mut(record);
        (record.proven, record.pins) = (proven, pins);
        step.changes.vms.insert(vm);
    }

    /// Returns the index at which an assignment to a scope was last changed.
    pub fn scoped_probe_version(&self, key: &ScopedProbeKey) -> Option<LogIndex> {
        self.scoped_probe(key).map(|known| known.modified)
    }
}

/// Checks what an assignment says by itself.
fn check(assigned: &ScopedProbe) -> Result<(), DenyReason> {
    let bad =
        |field: &str, value: String, rule: String| Err(DenyReason::BadValue { field: field.to_owned(), value, rule });
    let settings = &assigned.assignment.settings;
    if settings.len() > SETTINGS_MAX {
        return bad("settings", format!("{} bytes", settings.len()), format!("at most {SETTINGS_MAX} bytes"));
    }
    if !matches!(serde_json::from_str(settings), Ok(serde_json::Value::Object(_))) {
        return bad("settings", settings.clone(), "a JSON object".to_owned());
    }
    for (field, value, (least, most)) in [
        ("interval_ms", assigned.interval_ms, ASSIGNED_INTERVAL_MS),
        ("timeout_ms", assigned.timeout_ms, ASSIGNED_TIMEOUT_MS),
    ] {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            return bad(field, value.to_string(), format!("from {least} to {most}"));
        }
    }
    Ok(())
}
