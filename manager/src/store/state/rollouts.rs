//! New versions of probes on their way to all watchers.
//!
//! What is to be done is the leader's decision (`background/rollout_rule.rs`); here it is recorded, in the order of the log,
//! and refused where it speaks of another rollout than the one that is under way.

use std::sync::Arc;

use vouch_types::probe_rollout::{ROLLOUT_LASTS, ROLLOUT_RUNS, STEP_REASON_MAX};
use vouch_types::{
    Canary, DenyReason, Digest, EventKind, ProbeName, ProbeRecord, ProbeRollout, RolloutPlan, RolloutStep, WallTime,
    WatcherLife,
};

use super::State;
use super::apply::{Outcome, Step};

impl State {
    pub(super) fn begin_rollout(
        &mut self,
        step: &mut Step,
        next: ProbeRecord,
        plan: RolloutPlan,
        by: String,
        at: WallTime,
    ) -> Outcome {
        check_plan(plan)?;
        self.check_signer(&next)?;
        let known = self.probes.get(&next.name).ok_or_else(|| DenyReason::UnknownProbe(next.name.clone()))?;
        let bad = |field: &str, value: &dyn std::fmt::Display, rule: &str| {
            Err(DenyReason::BadValue { field: field.to_owned(), value: value.to_string(), rule: rule.to_owned() })
        };
        if known.shipped || next.shipped {
            return bad("name", &next.name, "an uploaded probe: those that come with vouch come with their watchers");
        }
        if known.digest == next.digest {
            return bad("body", &next.digest.short(), "another component than the recorded one");
        }
        if let Some(rollout) = &known.rollout {
            let rule =
                format!("a probe without a rollout: {} is on its way; promote or abort it", rollout.next.version);
            return bad("name", &next.name, &rule);
        }
        self.check_next(&next)?;
        let known = ProbeRecord::clone(known);
        let (version, digest) = (next.version.clone(), next.digest);
        let next = ProbeRecord { rollout: None, ..next };
        let rollout = ProbeRollout { next, plan, canary: None, tried: Vec::new(), by: by.clone(), begun: at };
        step.event(at, EventKind::ProbeRolloutBegun { probe: known.name.clone(), version, digest, by });
        self.put_probe(step, ProbeRecord { rollout: Some(Box::new(rollout)), ..known });
        step.done()
    }

    pub(super) fn step_rollout(
        &mut self,
        step: &mut Step,
        (probe, digest): (ProbeName, Digest),
        to: RolloutStep,
        by: String,
        at: WallTime,
    ) -> Outcome {
        let none = || DenyReason::NoRollout { probe: probe.clone(), digest };
        let known = Arc::clone(self.probes.get(&probe).ok_or_else(none)?);
        let rollout = known.rollout.as_deref().filter(|rollout| rollout.next.digest == digest).ok_or_else(none)?;
        match to {
            RolloutStep::Try { watcher, before } => {
                let record = self.watcher_mut(watcher)?;
                if record.life != WatcherLife::Live {
                    return Err(DenyReason::UnknownWatcher(watcher));
                }
                // By the number of the assignment the leader tells runs of the new version from those before.
                let record = Arc::make_mut(record);
                record.assignment = record.assignment.next();
                let canary = Canary {
                    watcher,
                    generation: record.assignment,
                    before,
                    new: Default::default(),
                    others: Default::default(),
                    spent: Default::default(),
                };
                step.changes.watchers.insert(watcher);
                let mut rollout = rollout.clone();
                rollout.tried.push(watcher);
                rollout.canary = Some(canary);
                step.event(at, EventKind::ProbeCanaryChosen { probe, digest, watcher });
                self.put_probe(step, ProbeRecord { rollout: Some(Box::new(rollout)), ..ProbeRecord::clone(&known) });
            }
            RolloutStep::Record { watcher, new, others, spent } => {
                let mut rollout = rollout.clone();
                // Of a canary that was replaced meanwhile nothing is to be kept.
                if let Some(canary) = rollout.canary.as_mut().filter(|canary| canary.watcher == watcher) {
                    (canary.new, canary.others, canary.spent) = (new, others, spent);
                    self.put_probe(
                        step,
                        ProbeRecord { rollout: Some(Box::new(rollout)), ..ProbeRecord::clone(&known) },
                    );
                }
            }
            RolloutStep::Promote { reason } => {
                check_reason(&reason)?;
                let mut next = rollout.next.clone();
                self.check_signer(&next)?;
                self.check_next(&next)?;
                next.grant = next.grant.or_else(|| known.grant.clone());
                step.event(at, EventKind::ProbeRolledOut { probe, digest, reason, by });
                self.put_probe(step, next);
            }
            RolloutStep::TakeBack { reason } => {
                check_reason(&reason)?;
                step.event(at, EventKind::ProbeTakenBack { probe, digest, reason, by });
                self.put_probe(step, ProbeRecord { rollout: None, ..ProbeRecord::clone(&known) });
            }
        }
        step.done()
    }

    /// Checks what a new version is to do with the grant that it will have.
    fn check_next(&self, next: &ProbeRecord) -> Result<(), DenyReason> {
        let of_name = self.probes.get(&next.name).and_then(|known| known.grant.as_ref());
        super::probes::check_parts(next, next.grant.as_ref().or(of_name))
    }
}

fn check_plan(plan: RolloutPlan) -> Result<(), DenyReason> {
    let bad =
        |field: &str, value: String, rule: String| Err(DenyReason::BadValue { field: field.to_owned(), value, rule });
    if !(ROLLOUT_RUNS.0..=ROLLOUT_RUNS.1).contains(&plan.runs) {
        return bad("runs", plan.runs.to_string(), format!("from {} to {}", ROLLOUT_RUNS.0, ROLLOUT_RUNS.1));
    }
    if !(ROLLOUT_LASTS.0..=ROLLOUT_LASTS.1).contains(&plan.lasts) {
        return bad(
            "lasts",
            format!("{:?}", plan.lasts),
            format!("from {:?} to {:?}", ROLLOUT_LASTS.0, ROLLOUT_LASTS.1),
        );
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), DenyReason> {
    if reason.len() <= STEP_REASON_MAX {
        return Ok(());
    }
    let (field, value) = ("reason".to_owned(), format!("{} bytes", reason.len()));
    Err(DenyReason::BadValue { field, value, rule: format!("at most {STEP_REASON_MAX} bytes") })
}
