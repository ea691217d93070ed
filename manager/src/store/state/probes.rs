//! Probes: their components, and what the operator grants each.

use std::sync::Arc;

use vouch_types::{DenyReason, EventKind, ProbeDescriptor, ProbeGrant, ProbeName, ProbeRecord, WallTime};

use super::State;
use super::apply::{Outcome, Step};

impl State {
    /// Records a component. An uploaded one for which no grant was named keeps that of its name, as it is by now.
    pub(super) fn record_probe(
        &mut self,
        step: &mut Step,
        mut probe: ProbeRecord,
        by: String,
        at: WallTime,
    ) -> Outcome {
        self.check_signer(&probe)?;
        if probe.grant.is_none() && !probe.shipped {
            probe.grant =
                self.probes.get(&probe.name).filter(|known| !known.shipped).and_then(|known| known.grant.clone());
        }
        check_parts(&probe, probe.grant.as_ref())?;
        if probe.descriptor.is_none() {
            // The same component still says what it said.
            let same = self.probes.get(&probe.name).filter(|known| known.digest == probe.digest);
            probe.descriptor = same.and_then(|known| known.descriptor.clone());
        }
        probe.rollout = None;
        if let Some(rollout) = self.probes.get(&probe.name).and_then(|known| known.rollout.as_deref()) {
            let (probe, digest) = (probe.name.clone(), rollout.next.digest);
            let reason = "another version was pushed to all watchers meanwhile".to_owned();
            step.event(at, EventKind::ProbeTakenBack { probe, digest, reason, by: by.clone() });
        }
        if self.probes.get(&probe.name).is_none_or(|known| **known != probe) {
            let digest = Some(probe.digest);
            step.event(
                at,
                EventKind::ProbeRecorded { probe: probe.name.clone(), digest, by, signer: probe.signer.clone() },
            );
            self.put_probe(step, probe);
        }
        step.done()
    }

    pub(super) fn grant_probe(
        &mut self,
        step: &mut Step,
        name: ProbeName,
        grant: ProbeGrant,
        by: String,
        at: WallTime,
    ) -> Outcome {
        let known = self.probes.get(&name).ok_or_else(|| DenyReason::UnknownProbe(name.clone()))?;
        if known.shipped {
            let rule = "an uploaded probe: those that come with vouch have the grant that they need".to_owned();
            return Err(DenyReason::BadValue { field: "name".to_owned(), value: name.to_string(), rule });
        }
        check_grant(known, &grant)?;
        if known.grant.as_ref() != Some(&grant) {
            let changed = ProbeRecord { grant: Some(grant.clone()), ..ProbeRecord::clone(known) };
            step.event(at, EventKind::ProbeGranted { probe: name, grant, by });
            self.put_probe(step, changed);
        }
        step.done()
    }

    pub(super) fn put_probe(&mut self, step: &mut Step, probe: ProbeRecord) {
        step.changes.probes.insert(probe.name.clone());
        self.probes.insert(probe.name.clone(), Arc::new(probe));
    }
}

/// Refuses a component whose grant or description breaks a rule.
pub(super) fn check_parts(probe: &ProbeRecord, grant: Option<&ProbeGrant>) -> Result<(), DenyReason> {
    if let Some(grant) = grant {
        check_grant(probe, grant)?;
    }
    probe.descriptor.as_ref().map_or(Ok(()), check_descriptor)
}

fn check_descriptor(descriptor: &ProbeDescriptor) -> Result<(), DenyReason> {
    descriptor.validate().map_err(|e| DenyReason::BadValue {
        field: format!("description.{}", e.field),
        value: e.value,
        rule: e.rule.trim_start_matches("must be ").to_owned(),
    })
}

/// Refuses a grant that breaks a rule, or by which the component could not do what it imports.
fn check_grant(probe: &ProbeRecord, grant: &ProbeGrant) -> Result<(), DenyReason> {
    grant.validate().map_err(|e| DenyReason::BadValue {
        field: e.field.to_owned(),
        value: e.value,
        rule: e.rule.trim_start_matches("must be ").to_owned(),
    })?;
    let imports = probe.imports.needs();
    if grant.missing(&imports).is_empty() {
        return Ok(());
    }
    Err(DenyReason::NotGranted { imports, granted: grant.interfaces.clone() })
}
