//! One command after the other: who handles it, and how its events are numbered.

use std::sync::Arc;

use vouch_types::{Applied, Command, DenyReason, EventKind, EventRecord, JoinUse, LogIndex, WallTime};

use super::super::Changes;
use super::{Cluster, EVENTS_MAX, Leadership, State};

/// What a handler hands back: what came of it, or why nothing did.
pub(super) type Outcome = Result<Applied, DenyReason>;

/// One command while it is being applied: collects what it touches and numbers its events.
pub(super) struct Step {
    pub(super) index: LogIndex,
    pub(super) changes: Changes,
}

impl Step {
    pub(super) fn done(&self) -> Outcome {
        Ok(Applied::Done { index: self.index })
    }

    pub(super) fn event(&mut self, at: WallTime, kind: EventKind) {
        let ordinal =
            u32::try_from(self.changes.events.len()).expect("a command makes fewer events than u32 can count");
        self.changes.events.push(Arc::new(EventRecord { index: self.index, ordinal, at, kind }));
    }
}

impl State {
    /// Applies one command, the one at `index` of the log. A refused command changes nothing.
    pub fn apply(&mut self, index: LogIndex, command: Command) -> (Applied, Changes) {
        let mut step = Step { index, changes: Changes::default() };
        match self.dispatch(&mut step, command) {
            Ok(applied) => {
                self.mark(index, &step.changes);
                self.keep(&mut step.changes);
                (applied, step.changes)
            }
            Err(reason) => {
                debug_assert!(step.changes.is_empty(), "a handler refuses before it changes anything");
                (Applied::Denied(reason), Changes::default())
            }
        }
    }

    pub(super) fn dispatch(&mut self, step: &mut Step, command: Command) -> Outcome {
        // Who leads is known before there is a cluster; all else speaks of one.
        match command {
            Command::InitCluster { cluster, secrets, at } => {
                self.init_cluster(step, Cluster { id: cluster, secrets }, at)
            }
            Command::RecordLeader { manager, term, at } => self.record_leader(step, Leadership { manager, term }, at),
            _ if self.head.cluster.is_none() => Err(DenyReason::NotInitialised),
            Command::Guarded { command, guard } => self.apply_guarded(step, *command, &guard),
            Command::RecordNode { node, at } => self.record_node(step, node, at),
            Command::RemoveNode { node, vms, by, at } => self.remove_node(step, node, vms, by, at),
            Command::RecordVms { node, vms, at } => self.record_vms(step, &node, vms, at),
            Command::RecordProven { proven, pins } => self.record_proven(step, proven, pins),
            Command::RecordVerdicts { verdicts, paths, manager_notes, incidents, placements, boots, claims, at } => {
                self.record_verdicts(
                    step,
                    super::verdicts::Batch { verdicts, paths, manager_notes, incidents, placements, boots, claims },
                    at,
                )
            }
            Command::SetPolicy { scope, policy, at } => self.set_policy(step, scope, policy, at),
            Command::BeginMaintenance { scope, reason, lasts, at } => {
                self.begin_maintenance(step, scope, reason, lasts, at)
            }
            Command::RecordMaintenance { remaining } => self.record_maintenance(step, remaining),
            Command::EndMaintenance { maintenance, at } => self.end_maintenance(step, maintenance, at),
            Command::RecordFenceProof { node, boot, kind, note, at } => {
                self.record_fence_proof(step, &node, boot, kind, note, at)
            }
            Command::WithdrawFenceProof { node, reason, at } => self.withdraw_fence_proof(step, &node, reason, at),
            Command::ForgetPins { vm, at } => self.forget_pins(step, vm, at),
            Command::CreateJoinToken { allows, secret_hash, uses, ttl, at } => {
                self.create_join_token(step, allows, secret_hash, uses, ttl, at)
            }
            Command::RevokeJoinToken { token, at } => self.revoke_join_token(step, token, at),
            Command::RedeemJoinToken { secret_hash, joiner, request, key, incarnation, at } => {
                self.redeem_join_token(step, &secret_hash, JoinUse { joiner, request, at }, key, incarnation)
            }
            Command::AddCa { ca, at } => self.add_ca(step, ca, at),
            Command::SwitchCa { at } => self.switch_ca(step, at),
            Command::RetireCa { at } => self.retire_ca(step, at),
            Command::RecordManagerLog { manager, log } => self.record_manager_log(step, manager, log),
            Command::BeginManagerReturn { manager, returning, at } => {
                self.begin_manager_return(step, manager, returning, at)
            }
            Command::EndManagerReturn { manager, end, at } => self.end_manager_return(step, manager, end, at),
            Command::PlaceWatcher { node, secret_hash, at } => self.place_watcher(step, node, secret_hash, at),
            Command::RedeemSecret { watcher, secret_hash, incarnation, at } => {
                self.redeem_secret(step, watcher, &secret_hash, incarnation, at)
            }
            Command::AssignWatchers { assignments } => self.assign_watchers(step, assignments),
            Command::LoseWatcher { watcher, reason, at } => self.lose_watcher(step, watcher, reason, at),
            Command::RetireWatcher { watcher, at } => self.retire_watcher(step, watcher, at),
            Command::ForgetWatcher { watcher } => self.forget_watcher(step, watcher),
            Command::RecordProbe { probe, by, at } => self.record_probe(step, probe, by, at),
            Command::GrantProbe { probe, grant, by, at } => self.grant_probe(step, probe, grant, by, at),
            Command::BeginRollout { probe, plan, by, at } => self.begin_rollout(step, *probe, plan, by, at),
            Command::StepRollout { probe, digest, step: to, by, at } => {
                self.step_rollout(step, (probe, digest), to, by, at)
            }
            Command::AssignProbe { assigned, at } => self.assign_probe(step, assigned, at),
            Command::UnassignProbe { key, by, at } => self.unassign_probe(step, key, by, at),
            Command::AddProbeKey { name, public_key, by, at } => self.add_probe_key(step, name, public_key, by, at),
            Command::RemoveProbeKey { name, by, at } => self.remove_probe_key(step, name, by, at),
            Command::SetSignatureRule { signatures, by, at } => self.set_signature_rule(step, signatures, by, at),
            Command::RefuseProbe { refusal, at } => self.refuse_probe(step, refusal, at),
        }
    }

    fn init_cluster(&mut self, step: &mut Step, cluster: Cluster, at: WallTime) -> Outcome {
        if let Some(existing) = &self.head.cluster {
            return Err(DenyReason::AlreadyInitialised(existing.id));
        }
        self.head.cluster = Some(cluster);
        step.changes.head = true;
        step.event(at, EventKind::ClusterInitialised);
        step.done()
    }

    fn record_leader(&mut self, step: &mut Step, leader: Leadership, at: WallTime) -> Outcome {
        if self.head.leader.is_none_or(|last| leader.term > last.term) {
            self.head.leader = Some(leader);
            step.changes.head = true;
            step.event(at, EventKind::LeaderElected { manager: leader.manager, term: leader.term });
        }
        step.done()
    }

    fn keep(&mut self, changes: &mut Changes) {
        self.events.extend(changes.events.iter().cloned());
        while self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.marks.trimmed = Some((oldest.index, oldest.ordinal));
            changes.evicted.push((oldest.index, oldest.ordinal));
        }
    }
}
