//! What the evidence says now: how fresh each check is, whether a VM was seen, and where its base state comes from.

use std::time::Duration;

use vouch_types::probe_descriptor::INTERVAL_MS_MAX;
use vouch_types::vm::REASON_IDENTITY;
use vouch_types::{HypervisorState, Moment, Network, Outcome, Policy, Source, Timing, VmId, WatcherId, WatcherLife};

use crate::Detector;
use crate::check::CheckTrack;
use crate::judge::guest::{Check, Class, class};
use crate::judge::vm::{Base, Booting, Life};
use crate::loss::{FAILURES_MIN, LOSS_ASSUMED_PER_MILLE, failures_needed};
use crate::node_track::{NodeTrack, Phase};
use crate::vm_track::{Boot, VmTrack};
use crate::watcher_track::WatcherTrack;

/// The longest time between two runs of a probe, and of one run, that is reckoned with. What is recorded is judged where it is
/// taken, and is shorter; a longer one must not overflow here.
const PROBE_TIME_LONGEST: Duration = Duration::from_millis(INTERVAL_MS_MAX);

/// Returns how long the guest of a VM may take to its first answer.
pub(crate) fn boot_budget(policy: &Policy, timing: &Timing) -> Duration {
    policy.boot_budget_ms.map_or(timing.boot_budget, Duration::from_millis)
}

impl Detector {
    /// Returns when the last check began that came to the outcome which stands.
    pub(crate) fn begun_now(&self, check: &CheckTrack) -> Moment {
        let watcher = self.watchers.get(&check.watcher);
        // The one that counts is this or a later one: the difference is then a small number.
        let covers = |w: &&WatcherTrack| w.confirmations.wrapping_sub(check.covered_from) < u32::MAX / 2;
        let others = watcher.filter(covers).and_then(|w| w.others_begun());
        others.map_or(check.begun, |others| others.max(check.begun))
    }

    /// Returns when the last check began that `check`'s observer saw answered by the VM itself, with what it has not
    /// changed since.
    pub(crate) fn alive_at(&self, vm: &VmTrack, check: &CheckTrack) -> Option<Moment> {
        match vm.counted(check) {
            (outcome, _) if outcome.is_sign_of_life() => Some(self.begun_now(check)),
            (_, true) => None,
            (_, false) => check.alive,
        }
    }

    /// Returns how often a check of this VM runs.
    pub(crate) fn probe_interval(&self, vm: &VmTrack, check: &CheckTrack) -> Duration {
        let by_policy = || vm.entry.policy.probe_interval_ms.map(Duration::from_millis);
        let own = vm.times_of(check).and_then(|times| times.interval).or_else(by_policy);
        own.unwrap_or(self.timing.probe_interval).min(PROBE_TIME_LONGEST)
    }

    /// Returns how long one run of a check of this VM may take.
    pub(crate) fn probe_timeout(&self, vm: &VmTrack, check: &CheckTrack) -> Duration {
        let by_policy = || vm.entry.policy.probe_timeout_ms.map(Duration::from_millis);
        let own = vm.times_of(check).and_then(|times| times.timeout).or_else(by_policy);
        own.unwrap_or(self.timing.probe_timeout).min(PROBE_TIME_LONGEST)
    }

    /// Returns how old a check of this VM may be to count.
    pub(crate) fn check_age_max(&self, vm: &VmTrack, check: &CheckTrack) -> Duration {
        self.probe_interval(vm, check) * 2 + self.probe_timeout(vm, check) + self.timing.window
    }

    /// Returns whether a watcher reaches anything over the service network beyond its own node: a manager hears it over
    /// that network, or a peer answers it there, or it saw a VM of another node there lately.
    pub(crate) fn reaches_beyond(&self, now: Moment, watcher: WatcherId) -> bool {
        let Some(track) = self.watchers.get(&watcher) else { return false };
        let since = now - self.timing.window;
        if track.last_heard_over(Network::Service).is_some_and(|at| at >= since) {
            return true;
        }
        let says_so = track.health.as_ref().is_some_and(|health| health.reaches_a_peer_on(Network::Service));
        if says_so && track.last_heard().is_some_and(|at| at >= since) {
            return true;
        }
        let sees = |id: &VmId| {
            self.vms.get(id).filter(|vm| vm.entry.node != track.entry.node).is_some_and(|vm| {
                let oldest = |c: &CheckTrack| {
                    now - (self.probe_interval(vm, c) + self.probe_timeout(vm, c) + self.timing.window / 2)
                };
                let own = vm.checks.iter().filter(|c| c.watcher == watcher && c.network == Network::Service);
                own.filter(|c| class(&c.probe) != Class::Agent)
                    .any(|c| self.alive_at(vm, c).is_some_and(|at| at >= oldest(c)))
            })
        };
        track.entry.vms.iter().any(sees)
    }

    /// Returns how many failures in a row silence takes for this observer of this VM.
    fn needed(&self, vm: &VmTrack, check: &CheckTrack, local: bool) -> u32 {
        let observer = self.watchers.get(&check.watcher);
        let network = if class(&check.probe) == Class::Agent { Network::Management } else { check.network };
        let measured = observer.and_then(|w| w.health.as_ref()).map_or(0, |health| health.loss_on(network));
        // Over the local bridge nothing is lost.
        let loss = if local { 0 } else { measured.max(LOSS_ASSUMED_PER_MILLE) };
        let least = vm.entry.policy.silence_failures.unwrap_or(FAILURES_MIN);
        failures_needed(loss).max(least)
    }

    /// Returns the checks of a VM that count now.
    pub(crate) fn fresh_checks<'a>(&'a self, now: Moment, vm: &'a VmTrack) -> Vec<Check<'a>> {
        // While its services come up, one that has not answered yet owes no answer.
        let booted = match self.booting(now, vm) {
            Booting::Partly(since) => Some(since),
            Booting::No | Booting::Starting | Booting::Rebooting | Booting::Overdue => None,
        };
        let is_up = |c: &CheckTrack| booted.is_none_or(|since| self.has_answered(vm, c.network, &c.probe, since));
        let mut out = Vec::with_capacity(vm.checks.len());
        for check in vm.checks.iter().filter(|check| is_up(check)) {
            let Some(observer) = self.watchers.get(&check.watcher) else { continue };
            let begun = self.begun_now(check);
            if observer.entry.life != WatcherLife::Live
                || begun < now - self.check_age_max(vm, check)
                || !vm.observers.contains(&check.watcher)
            {
                continue;
            }
            let local = observer.entry.node == vm.entry.node;
            let (outcome, other_machine) = vm.counted(check);
            let failed = outcome == Outcome::Down;
            let beyond = || local || check.network != Network::Service || self.reaches_beyond(now, check.watcher);
            let failures = if other_machine { 1 } else { check.failures(begun, self.probe_interval(vm, check)) };
            out.push(Check {
                watcher: check.watcher,
                from: &observer.entry.node,
                local,
                network: check.network,
                probe: &check.probe,
                outcome,
                reason: if other_machine { REASON_IDENTITY } else { &check.reason },
                failures,
                needed: if failed { self.needed(vm, check, local) } else { 0 },
                silent_for: now.since(check.silent_since()),
                proven: vm.is_proven(check.network, &check.probe),
                healthy: observer.is_healthy_on(check.network) && (!failed || beyond()),
            });
        }
        out
    }

    pub(crate) fn life(&self, now: Moment, vm: &VmTrack, node: &NodeTrack) -> Life {
        let fresh = now - self.timing.window;
        // What was seen before a proof does not speak against it.
        let floor = node.fenced.unwrap_or_default();
        let mut last = node.silent_since();
        let mut seen = None;
        // What a watcher saw before it was lost it did see; one that is retired vouches for nothing.
        let counts = |id: WatcherId| {
            let life = self.watchers.get(&id).map(|w| w.entry.life);
            matches!(life, Some(WatcherLife::Live | WatcherLife::Lost))
        };
        for check in vm.checks.iter().filter(|check| counts(check.watcher)) {
            if let Some(at) = self.alive_at(vm, check) {
                last = last.max(at);
                if at >= fresh && at > floor {
                    seen = seen.or(Some(check.watcher));
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
                if at >= fresh && at > floor {
                    lives = lives.or(Some(*id));
                }
            }
        }
        for id in node.local_watchers.iter().filter(|id| counts(**id)) {
            if let Some(at) = self.watchers.get(id).and_then(|w| w.last_heard()) {
                last = last.max(at);
                if at >= fresh && at > floor {
                    lives = lives.or(Some(*id));
                }
            }
        }
        let lost_after = vm.entry.policy.lost_after_ms.map_or(self.timing.lost_after, Duration::from_millis);
        match lives {
            Some(watcher) => Life::NodeLives(watcher),
            None if now.since(last.max(self.listening.since())) >= lost_after => Life::SilentForLong,
            None => Life::Silent,
        }
    }

    pub(crate) fn base(&self, now: Moment, vm: &VmTrack, node: &NodeTrack) -> Base {
        let floor = match node.phase {
            // While it is only suspected, its last word still stands; but not a word from before a cut that is recorded.
            Phase::Suspect { .. } if node.entry.path.source == Source::Watcher => return Base::None(Life::Silent),
            Phase::Direct | Phase::Suspect { .. } => {
                return vm.word.as_ref().map_or(Base::None(Life::Silent), |(word, _)| Base::Direct(word.state));
            }
            Phase::Cut { floor, .. } => floor,
        };
        if let Some((statement, begun, carrier)) = vm.statement.as_deref()
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

    /// Returns how far the VM's guest is with starting.
    pub(crate) fn booting(&self, now: Moment, vm: &VmTrack) -> Booting {
        let (since, rebooting) = match vm.boot {
            Boot::Settled => return Booting::No,
            Boot::Starting { since, .. } => (since, false),
            Boot::Rebooting { since, .. } => (since, true),
        };
        let is_over = vm.boot_left(now, boot_budget(&vm.entry.policy, &self.timing)).is_some_and(|left| left.is_zero());
        let answered = |p: &&vouch_types::ProbeAssignment| self.has_answered(vm, p.network, &p.probe, since);
        let first = vm.entry.proven.iter().any(|p| answered(&p));
        // Of a guest that never answered nobody can say when it is up.
        if vm.entry.proven.iter().all(|p| answered(&p)) || (first && is_over) {
            return Booting::No;
        }
        match (first, is_over, rebooting) {
            (true, ..) => Booting::Partly(since),
            (false, true, _) => Booting::Overdue,
            (false, false, true) => Booting::Rebooting,
            (false, false, false) => Booting::Starting,
        }
    }

    /// Returns whether a probe of the VM was answered by a run that began after `since`.
    fn has_answered(&self, vm: &VmTrack, network: Network, probe: &vouch_types::ProbeName, since: Moment) -> bool {
        let mut of = vm.checks.iter().filter(|c| c.network == network && c.probe == *probe);
        of.any(|check| self.alive_at(vm, check).is_some_and(|at| at > since))
    }
}

#[cfg(test)]
mod tests {
    use vouch_types::{ManagerId, ProbeTimes};

    use super::*;
    use crate::vm_track::tests::{seen, track};

    #[test]
    fn a_check_is_as_old_as_it_may_be_by_its_own_times_else_by_the_policy_else_by_the_cluster() {
        let (timing, second) = (Timing::default(), Duration::from_secs(1));
        let detector = Detector::new(ManagerId::new(1), timing.clone());
        let (mut vm, check) = (track(), CheckTrack::new(seen(1, Outcome::Up)));
        let by_cluster = timing.probe_interval * 2 + timing.probe_timeout + timing.window;
        assert_eq!(detector.check_age_max(&vm, &check), by_cluster);
        vm.entry.policy.probe_interval_ms = Some(5_000);
        let by_policy = second * 10 + timing.probe_timeout + timing.window;
        assert_eq!(detector.check_age_max(&vm, &check), by_policy);
        let times = ProbeTimes {
            probe: check.probe.clone(),
            network: check.network,
            interval: Some(second * 60),
            timeout: Some(second * 3),
        };
        vm.entry.probe_times = vec![ProbeTimes { network: Network::Management, ..times.clone() }];
        assert_eq!(detector.check_age_max(&vm, &check), by_policy, "those are of another network");
        vm.entry.probe_times.push(times);
        assert_eq!(detector.check_age_max(&vm, &check), second * 123 + timing.window);
        assert_eq!(detector.probe_interval(&vm, &check), second * 60, "by which its failures are counted");
    }
}
