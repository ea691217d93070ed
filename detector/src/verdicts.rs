//! Judges the VMs whose evidence changed, and proposes what is to be recorded.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use vouch_types::command::PathChange;
use vouch_types::event::ManagerNote;
use vouch_types::{
    Cause, Digest, Fault, HypervisorState, Moment, Network, Outcome, ProbeAssignment, Source, Verdict, VerdictChange,
    VmId, WallTime, WatcherLife,
};

use crate::detector::Proposing;
use crate::judge::guest::Check;
use crate::judge::path::{PathJudgement, judge_path};
use crate::judge::vm::{Base, Life, VmInputs, VmJudgement, judge_vm};
use crate::node_track::{Candidate, NodeTrack, Phase};
use crate::vm_track::{CheckTrack, Suspicion, VmTrack};
use crate::watcher_track::WatcherProcess;
use crate::{Detector, Effect, Proposal};

/// Rounds of asks about one suspicion; after them the ordinary schedule goes on.
const SUSPICION_ROUNDS_MAX: u32 = 16;
/// How many times longer than `watcher_lost_after` a watcher may be silent whose process runs.
const SLOW_WATCHER_PATIENCE: u32 = 10;
/// The longest reason of a verdict, in bytes.
const REASON_MAX: usize = 256;

impl Detector {
    /// Returns when the last check began that `check`'s observer saw answered, with what it has not changed since.
    pub(crate) fn alive_at(&self, check: &CheckTrack) -> Option<Moment> {
        if check.last.outcome.is_sign_of_life() { Some(self.begun_now(check)) } else { check.alive }
    }

    /// Returns when the last check began that came to the outcome which stands.
    pub(crate) fn begun_now(&self, check: &CheckTrack) -> Moment {
        let others = self.watchers.get(&check.last.watcher).and_then(|w| w.others_begun());
        others.map_or(check.last.begun, |others| others.max(check.last.begun))
    }

    /// Returns the checks of a VM that count now.
    pub(crate) fn fresh_checks<'a>(&'a self, now: Moment, vm: &'a VmTrack) -> Vec<Check<'a>> {
        let t = &self.timing;
        let oldest = now - (t.probe_interval * 2 + t.probe_timeout + t.window);
        let mut out = Vec::new();
        for ((watcher, network, probe), check) in &vm.checks {
            let Some(observer) = self.watchers.get(watcher) else { continue };
            let begun = self.begun_now(check);
            if observer.entry.life != WatcherLife::Live || begun < oldest {
                continue;
            }
            out.push(Check {
                watcher: *watcher,
                from: &observer.entry.node,
                network: *network,
                probe,
                outcome: check.last.outcome,
                reason: &check.last.reason,
                failures: check.failures(begun, t),
                proven: vm.is_proven(*network, probe),
                healthy: observer.is_healthy_on(*network),
            });
        }
        out
    }

    fn life(&self, now: Moment, vm: &VmTrack, node: &NodeTrack) -> Life {
        let fresh = now - self.timing.window;
        let mut last = node.silent_since();
        let mut seen = None;
        // What a watcher saw before it was lost it did see; one that is retired vouches for nothing.
        let counts = |id| {
            let life = self.watchers.get(&id).map(|w| w.entry.life);
            matches!(life, Some(WatcherLife::Live | WatcherLife::Lost))
        };
        for (key, check) in vm.checks.iter().filter(|(key, _)| counts(key.0)) {
            if let Some(at) = self.alive_at(check) {
                last = last.max(at);
                if at >= fresh {
                    seen = seen.or(Some(key.0));
                }
            }
        }
        if let Some(watcher) = seen {
            return Life::Seen(watcher);
        }
        let mut lives = None;
        for (id, relay) in node.relay.iter().filter(|(id, _)| counts(**id)) {
            if let Some(at) = relay.reached {
                last = last.max(at);
                if at >= fresh {
                    lives = lives.or(Some(*id));
                }
            }
        }
        for (id, watcher) in &self.watchers {
            if watcher.entry.node == node.entry.node
                && counts(*id)
                && let Some(at) = watcher.last_heard()
            {
                last = last.max(at);
                if at >= fresh {
                    lives = lives.or(Some(*id));
                }
            }
        }
        match lives {
            Some(watcher) => Life::NodeLives(watcher),
            None if now.since(last.max(self.listening.since())) >= self.timing.lost_after => Life::SilentForLong,
            None => Life::Silent,
        }
    }

    fn base(&self, now: Moment, vm: &VmTrack, node: &NodeTrack) -> Base {
        let floor = match node.phase {
            // While it is only suspected, its last word still stands; but not a word from before a cut that is recorded.
            Phase::Suspect { .. } if node.entry.path.source == Source::Watcher => return Base::None(Life::Silent),
            Phase::Direct | Phase::Suspect { .. } => {
                return vm.word.as_ref().map_or(Base::None(Life::Silent), |(word, _)| Base::Direct(word.state));
            }
            Phase::Cut { floor, .. } => floor,
        };
        if let Some((statement, begun, carrier)) = &vm.statement
            && *begun >= floor
        {
            // That it runs is true for one window; that it ended stays true until something later is said.
            let passing = statement.state == HypervisorState::Running;
            if !passing || *begun >= now - self.timing.window {
                return Base::Stated(statement.state, *carrier);
            }
        }
        Base::None(self.life(now, vm, node))
    }

    /// Returns the judgement on a VM by the evidence of now, and a digest of that evidence.
    pub(crate) fn judge(&self, now: Moment, vm: &VmTrack) -> Option<(VmJudgement, Digest)> {
        let node = self.nodes.get(&vm.entry.node)?;
        let base = self.base(now, vm, node);
        let direct = matches!(base, Base::Direct(_));
        let links_down = vm.word.as_ref().filter(|_| direct).map(|(word, _)| word.links_down.as_slice());
        let inputs = VmInputs {
            recorded: &vm.entry.verdict,
            generation: vm.entry.generation,
            base,
            checks: self.fresh_checks(now, vm),
            service_link_down: links_down.is_some_and(|down| down.contains(&Network::Service)),
            may_judge_silence: self.listening.covers(now, self.timing.window),
        };
        let judgement = judge_vm(&inputs);
        let mut text = format!("{:?}", inputs.base);
        for c in &inputs.checks {
            let _ = write!(text, "|{} {} {} {:?} {}", c.watcher, c.network, c.probe, c.outcome, c.reason);
        }
        Some((judgement, Digest::new(Sha256::digest(text.as_bytes()).into())))
    }

    /// Looks into what is suspicious: asks its watchers again, in rounds.
    pub(crate) fn judge_dirty(&mut self, now: Moment) {
        if self.leads.is_none() {
            return;
        }
        let round = self.timing.probe_interval / 2;
        let mut ask = Vec::new();
        for id in &self.dirty {
            let Some(vm) = self.vms.get(id) else { continue };
            let suspicious = self.judge(now, vm).is_some_and(|(j, _)| j.suspicious);
            let due = vm.suspicion.asked.is_none_or(|at| now.since(at) >= round);
            match (suspicious, due && vm.suspicion.rounds < SUSPICION_ROUNDS_MAX) {
                (true, true) => ask.push((*id, true)),
                (false, _) if vm.suspicion.rounds > 0 => ask.push((*id, false)),
                _ => {}
            }
        }
        for (id, suspicious) in ask {
            let Some(vm) = self.vms.get_mut(&id) else { continue };
            if suspicious {
                vm.suspicion = Suspicion { rounds: vm.suspicion.rounds + 1, asked: Some(now) };
                for watcher in self.watchers_of(id) {
                    self.ask(now, watcher, Vec::new(), vec![id]);
                }
            } else {
                vm.suspicion = Suspicion::default();
            }
        }
    }

    /// Has VMs judged again whose judgement time alone can change: failures that go on, evidence that grows old.
    pub(crate) fn mark_suspicious(&mut self) {
        for (id, vm) in &self.vms {
            let failing = vm.checks.values().any(|c| c.failing_since.is_some());
            if failing || vm.suspicion.rounds > 0 || vm.entry.verdict.state == vouch_types::VmState::Degraded {
                self.dirty.insert(*id);
            }
        }
    }

    fn path_judgement(&self, now: Moment, node: &NodeTrack) -> Option<(Source, PathJudgement)> {
        match node.phase {
            Phase::Direct if node.is_direct(now, &self.timing) && node.report.is_some() => {
                let told = if node.is_flapping(now) {
                    let fault = Fault::sure(Cause::ManagerNodePath).with_detail("flapping");
                    PathJudgement { faults: vec![fault], reason: "the path comes and goes".to_owned() }
                } else {
                    PathJudgement { faults: Vec::new(), reason: "a manager hears the node again".to_owned() }
                };
                Some((Source::Direct, told))
            }
            Phase::Direct | Phase::Suspect { .. } => None,
            Phase::Cut { floor, .. } => Some((Source::Watcher, judge_path(&self.witnesses(now, node, floor)))),
        }
    }

    /// Returns the change of a node's paths that is to be recorded now, if any.
    fn path_change(&mut self, now: Moment, id: &vouch_types::NodeId) -> Option<PathChange> {
        let node = self.nodes.get(id)?;
        let (source, judged) = self.path_judgement(now, node)?;
        let recorded = &node.entry.path;
        if recorded.source == source && recorded.faults == judged.faults {
            self.nodes.get_mut(id)?.candidate = None;
            return None;
        }
        // A first word is said at once; another cause for a path that stays cut has to last, or every late answer
        // would be an event.
        if source == Source::Watcher && recorded.source == source {
            let since = match &node.candidate {
                Some(c) if c.faults == judged.faults => c.since,
                _ => now,
            };
            let lasted = now.since(since) >= self.timing.window;
            self.nodes.get_mut(id)?.candidate = Some(Candidate { faults: judged.faults.clone(), since });
            if !lasted {
                return None;
            }
        }
        let replaces = self.nodes.get(id)?.entry.path.version;
        Some(PathChange { node: id.clone(), replaces, source, faults: judged.faults, reason: clip(judged.reason) })
    }

    fn notes(&self, now: Moment) -> Option<Vec<ManagerNote>> {
        if !self.listening.covers(now, self.timing.window) {
            return None;
        }
        let deaf_after = self.deaf_after();
        let mut notes = Vec::new();
        for (manager, heard) in &self.managers {
            // One that is silent itself is not deaf, and the last that it heard is as old as the last that it said.
            let speaks = *manager == self.own || heard.is_some_and(|at| now.since(at) < self.timing.suspect_after());
            if !speaks {
                continue;
            }
            for (id, node) in &self.nodes {
                let own = node.last_heard_by(*manager).unwrap_or_default().max(self.listening.since());
                let deaf = node.is_direct(now, &self.timing) && now.since(own) >= deaf_after;
                if deaf && !node.is_new(now, deaf_after) {
                    notes.push(ManagerNote { manager: *manager, node: id.clone() });
                }
            }
        }
        (notes != self.recorded_notes).then_some(notes)
    }

    fn lost_watchers(&self, now: Moment) -> Vec<(vouch_types::WatcherId, String)> {
        let may_judge = self.listening.covers(now, self.timing.window);
        let mut lost = Vec::new();
        for (id, watcher) in &self.watchers {
            let entry = &watcher.entry;
            let node_rules = self.nodes.get(&entry.node).is_some_and(|n| n.is_direct(now, &self.timing));
            if !matches!(entry.life, WatcherLife::Placed | WatcherLife::Live) || !node_rules {
                continue;
            }
            if watcher.process == Some(WatcherProcess::Gone) {
                lost.push((*id, "its node says that its process is gone".to_owned()));
                continue;
            }
            let last = watcher.last_heard().unwrap_or_default().max(watcher.live_since).max(self.listening.since());
            // One that runs may be slow for a while, as its host is; to replace it then is more load on that host. Its
            // word does not count meanwhile.
            let patience = match watcher.process {
                Some(WatcherProcess::There) => self.timing.watcher_lost_after * SLOW_WATCHER_PATIENCE,
                Some(WatcherProcess::Gone) | None => self.timing.watcher_lost_after,
            };
            if entry.life == WatcherLife::Live && may_judge && now.since(last) >= patience {
                lost.push((*id, format!("no manager has heard it for {:.1} s", now.since(last).as_secs_f64())));
            }
        }
        lost
    }

    fn proven(&self, id: VmId, vm: &VmTrack, out: &mut Vec<(VmId, ProbeAssignment)>) {
        for p in &vm.entry.probes {
            let worked = vm
                .checks
                .iter()
                .any(|(key, check)| key.1 == p.network && key.2 == p.probe && check.last.outcome == Outcome::Up);
            if worked && !vm.is_proven(p.network, &p.probe) {
                out.push((id, p.clone()));
            }
        }
    }

    /// Proposes all that differs from what is recorded, if this manager leads and no proposal is under way.
    pub(crate) fn propose(&mut self, now: Moment) {
        if self.leads.is_none() || self.proposing != Proposing::Idle {
            return;
        }
        let mut proposal = Proposal::default();
        let whole = std::mem::take(&mut self.whole_pass);
        let touched = std::mem::take(&mut self.touched);
        let nodes: Vec<_> = if whole { self.nodes.keys().cloned().collect() } else { touched.into_iter().collect() };
        proposal.paths.extend(nodes.iter().filter_map(|node| self.path_change(now, node)));
        let dirty = std::mem::take(&mut self.dirty);
        for id in dirty {
            let Some(vm) = self.vms.get(&id) else { continue };
            self.proven(id, vm, &mut proposal.proven);
            let Some((judged, evidence)) = self.judge(now, vm) else { continue };
            let recorded = &vm.entry.verdict;
            if judged.says(recorded) {
                continue;
            }
            let verdict = Verdict {
                state: judged.state,
                faults: judged.faults,
                notes: judged.notes,
                advice: judged.advice,
                suppressed: String::new(),
                reason: clip(judged.reason),
                evidence,
                version: recorded.version,
                since: WallTime::default(),
            };
            proposal.verdicts.push(VerdictChange {
                vm: id,
                generation: vm.entry.generation,
                replaces: recorded.version,
                verdict,
                shared: None,
            });
        }
        if whole {
            proposal.manager_notes = self.notes(now);
            proposal.lost_watchers = self.lost_watchers(now);
        }
        if !proposal.is_empty() {
            self.proposing = Proposing::UnderWay;
            self.effects.push(Effect::Propose(proposal));
        }
    }
}

fn clip(mut reason: String) -> String {
    while reason.len() > REASON_MAX {
        reason.pop();
    }
    reason
}
