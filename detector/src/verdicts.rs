//! Judges the VMs whose evidence changed, and proposes what is to be recorded.

use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use vouch_types::{
    Digest, HypervisorState, Moment, Network, Outcome, Pin, Progress, Verdict, VerdictChange, VmState, WallTime,
};

use crate::detector::{Proposed, Proposing};
use crate::evidence::boot_budget;
use crate::judge::vm::{Base, Booting, VmInputs, VmJudgement, judge_vm};
use crate::node_track::{NodeTrack, Phase};
use crate::vm_track::{Boot, VmTrack};
use crate::{Detector, Effect, Proposal};

/// The most proposals in one tick interval.
pub const PROPOSALS_PER_TICK_MAX: u32 = 16;
/// How many windows the slowest judgements take: that a guest hangs, and that a path loses packets.
const SLOWEST_WINDOWS: u32 = 4;
/// The longest reason of a verdict, in bytes.
const REASON_MAX: usize = 256;

impl Detector {
    /// Returns whether nothing about a VM that is recorded as well can have changed: the common case, and a cheap one.
    fn is_quiet(&self, now: Moment, vm: &VmTrack, node: &NodeTrack) -> bool {
        let verdict = &vm.entry.verdict;
        let said_well = verdict.state == VmState::Up
            && verdict.faults.is_empty()
            && verdict.notes.is_empty()
            && verdict.suppressed.is_empty();
        let word_well = vm.word.as_ref().is_some_and(|(word, _)| {
            word.state == HypervisorState::Running && word.operation.is_none() && word.links_down.is_empty()
        });
        if !said_well
            || !word_well
            || node.phase != Phase::Direct
            || node.service_cut.is_some()
            || !vm.entry.maintenance.is_empty()
            || !vm.claims.is_empty()
            || !vm.entry.claimed_by.is_empty()
            || vm.boot != Boot::Settled
            || vm.entry.boot.is_some()
            || vm.suspicion.rounds > 0
        {
            return false;
        }
        // A failure counts only where no other observer sees the same probe work, and not long ago; what works must be
        // known to work.
        vm.checks.iter().all(|check| match vm.counted(check) {
            (Outcome::Up, _) => vm.is_proven(check.network, &check.probe) && self.is_pinned(vm, check),
            (Outcome::Down, false) => vm.checks.iter().any(|other| {
                other.network == check.network
                    && other.probe == check.probe
                    && vm.counted(other).0 == Outcome::Up
                    && self.begun_now(other) >= now - self.check_age_max(vm, other)
                    && other.watcher != check.watcher
                    && self.watchers.get(&other.watcher).is_some_and(|w| {
                        w.entry.life == vouch_types::WatcherLife::Live && vm.observers.contains(&other.watcher)
                    })
            }),
            (Outcome::Down | Outcome::Degraded | Outcome::Unknown, _) => false,
        })
    }

    fn is_pinned(&self, vm: &VmTrack, check: &crate::check::CheckTrack) -> bool {
        check.identity.is_none()
            || vm.entry.pins.iter().any(|pin| pin.network == check.network && pin.probe == check.probe)
    }

    /// Returns all that the judgement on a VM rests on now.
    pub(crate) fn inputs<'a>(&'a self, now: Moment, vm: &'a VmTrack, node: &'a NodeTrack) -> VmInputs<'a> {
        let base = self.base(now, vm, node);
        let direct = matches!(base, Base::Direct(_));
        let word = vm.word.as_ref().map(|(word, _)| word).filter(|_| direct);
        let stated = vm.statement.as_deref().filter(|_| matches!(base, Base::Stated(..)));
        let progress = match (word, stated) {
            (Some(word), _) => word.progress,
            (None, Some((statement, ..))) => statement.progress,
            (None, None) => Progress::Unknown,
        };
        VmInputs {
            recorded: &vm.entry.verdict,
            generation: vm.entry.generation,
            base,
            checks: self.fresh_checks(now, vm),
            service_link_down: word.is_some_and(|word| word.links_down.contains(&Network::Service)),
            may_judge_silence: self.listening.covers(now, self.timing.window),
            is_young: self.is_young(now),
            progress,
            operation: vm.operation().filter(|_| direct),
            booting: self.booting(now, vm),
            settling: vm.operation_over.is_some_and(|at| now.since(at) < self.timing.window),
            maintenance: &vm.entry.maintenance,
            required: vm.entry.policy.required_probes.as_deref(),
            hypervisor_silent: node.hypervisor == crate::ServiceWord::Silent,
            service_cut: self.service_cut_of(now, vm, node),
            silent_with: self.scope_of_silence(node),
            storage: self.storage_of(vm, node),
            datastore: vm.entry.datastore.as_deref(),
            fence: node.entry.fence.as_ref().filter(|_| matches!(node.phase, Phase::Cut { .. })),
            rival: self.rival_of(now, vm, node),
            executes_elsewhere: self.may_execute_elsewhere(vm),
            hung_for: vm.hung_since.map(|since| now.since(since)),
            hung_confirmed_after: self.hang_confirmed_after(),
        }
    }

    /// Judges every VM that is marked, and puts what differs from the record into the proposal.
    fn judge_marked(&mut self, now: Moment, proposal: &mut Proposal) {
        let marked = std::mem::take(&mut self.dirty);
        for id in marked {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            vm.is_dirty = false;
            // Most are not, and to find that out in the set would cost the most of a look at one that is quiet.
            if std::mem::take(&mut vm.is_restless) {
                self.restless.remove(&id);
            }
            let Some(vm) = self.vms.get(&id) else { continue };
            let node = self.nodes.get(&vm.entry.node);
            let Some(node) = node.filter(|node| !self.is_quiet(now, vm, node)) else {
                self.suspects.forget(&id);
                continue;
            };
            self.proven(vm, proposal);
            let inputs = self.inputs(now, vm, node);
            let mut judged = judge_vm(&inputs);
            if judged.state == VmState::Up && vm.entry.verdict.state != VmState::Up {
                judged.shared = self.shared_before(vm, node);
            }
            let restless = judged.suspicious
                || !matches!(node.phase, Phase::Direct)
                || inputs.settling
                || node.service_cut.is_some()
                || vm.boot != Boot::Settled
                || vm.checks.iter().any(crate::check::CheckTrack::is_failing)
                || !vm.claims.is_empty()
                || !vm.entry.claimed_by.is_empty()
                || !vm.entry.verdict.notes.is_empty()
                || matches!(judged.state, VmState::Degraded | VmState::Hung)
                || matches!(vm.entry.verdict.state, VmState::Degraded | VmState::Hung);
            let settled = inputs.booting == Booting::No;
            let claims = self.claim_change(now, vm);
            let (suspicious, hangs) = (judged.suspicious, judged.state == VmState::Hung);
            if !judged.says(&vm.entry.verdict) {
                let evidence = digest_of(&inputs);
                proposal.verdicts.push(change_of(vm, judged, evidence));
            }
            if restless {
                self.restless.insert(id);
            }
            self.suspect(id, suspicious);
            if let Some(vm) = self.vms.get_mut(&id) {
                vm.is_restless = restless;
                if settled {
                    vm.boot = Boot::Settled;
                }
                proposal.claims.extend(claims);
                proposal.boots.extend(vm.boot_change(now, boot_budget(&vm.entry.policy, &self.timing)));
                vm.hung_since = hangs.then(|| vm.hung_since.unwrap_or(now));
            }
        }
    }

    fn proven(&self, vm: &VmTrack, proposal: &mut Proposal) {
        for p in &vm.entry.probes {
            let mut seen = vm.checks.iter().filter(|c| c.network == p.network && c.probe == p.probe);
            let worked = |c: &&crate::check::CheckTrack| vm.counted(c).0 == Outcome::Up;
            let Some(check) = seen.find(worked) else { continue };
            if !vm.is_proven(p.network, &p.probe) {
                proposal.proven.push((vm.entry.vm, p.clone()));
            }
            if let Some(identity) = check.identity
                && !self.is_pinned(vm, check)
            {
                let pin = Pin { probe: p.probe.clone(), network: p.network, identity };
                proposal.pins.push((vm.entry.vm, pin));
            }
        }
    }

    /// Proposes all that differs from what is recorded, if this manager leads and no proposal is under way.
    pub(crate) fn propose(&mut self, now: Moment) {
        if self.leads.is_none() || self.proposing != Proposing::Idle {
            return;
        }
        // What is refused again and again must not keep the managers busy: the rest waits for the next tick.
        if now.since(self.proposed.since) >= self.timing.tick_interval {
            self.proposed = Proposed { since: now, count: 0 };
        } else if self.proposed.count >= PROPOSALS_PER_TICK_MAX {
            return;
        }
        let mut proposal = Proposal::default();
        let whole = std::mem::take(&mut self.whole_pass);
        let touched = std::mem::take(&mut self.touched);
        if whole {
            self.regroup(now);
        }
        let nodes: Vec<_> = if whole { self.nodes.keys().cloned().collect() } else { touched.into_iter().collect() };
        proposal.paths.extend(nodes.iter().filter_map(|node| self.path_change(now, node)));
        self.judge_marked(now, &mut proposal);
        if whole {
            proposal.incidents = self.incident_changes(now);
            proposal.placements = self.placement_changes(now);
            proposal.withdrawn = self.withdrawn_proofs(now);
            proposal.manager_notes = self.notes(now);
            proposal.lost_watchers = self.lost_watchers(now);
        }
        if !proposal.is_empty() {
            self.proposing = Proposing::UnderWay;
            self.proposed.count += 1;
            self.effects.push(Effect::Propose(proposal));
        }
    }

    /// Returns whether this manager has not listened for as long as the slowest judgement takes: what it does not find yet,
    /// its predecessor may have found.
    pub(crate) fn is_young(&self, now: Moment) -> bool {
        !self.listening.covers(now, self.timing.window * SLOWEST_WINDOWS)
    }

    /// How long a hang has to last before a restart is advised: longer than a host stalls for a moment.
    fn hang_confirmed_after(&self) -> Duration {
        self.timing.window * 3 / 4
    }

    /// How long a node is looked at alone before what is wrong with it is told: others may follow, and share it.
    pub(crate) fn group_wait(&self) -> Duration {
        self.timing.tick_interval * 4
    }

    /// How long something that is shared has to last before it is told, where it need not be told at once.
    pub(crate) fn settle_time(&self) -> Duration {
        self.timing.window / 2
    }
}

fn digest_of(inputs: &VmInputs<'_>) -> Digest {
    let mut text = format!("{:?} {} {:?}", inputs.base, inputs.progress, inputs.operation);
    for c in &inputs.checks {
        let _ = write!(text, "|{} {} {} {:?} {}", c.watcher, c.network, c.probe, c.outcome, c.reason);
    }
    Digest::new(Sha256::digest(text.as_bytes()).into())
}

fn change_of(vm: &VmTrack, judged: VmJudgement, evidence: Digest) -> VerdictChange {
    let recorded = &vm.entry.verdict;
    VerdictChange {
        vm: vm.entry.vm,
        generation: vm.entry.generation,
        replaces: recorded.version,
        verdict: Verdict {
            state: judged.state,
            faults: judged.faults,
            notes: judged.notes,
            advice: judged.advice,
            suppressed: judged.suppressed,
            reason: clip(judged.reason),
            evidence,
            version: recorded.version,
            since: WallTime::default(),
        },
        shared: judged.shared,
    }
}

/// Returns a reason that is short enough to be recorded.
pub(crate) fn clip(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_MAX));
    reason
}
