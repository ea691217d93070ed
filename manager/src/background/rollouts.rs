//! Brings new versions of probes to all watchers, by one that runs them first.
//!
//! What is counted is soft, and recorded now and then: a new leader goes on from what its predecessor recorded last, and
//! counts anew what came after. It counts what it hears from the watchers itself, so a canary that only another manager hears
//! is one that is gone. Runs are counted by the moments at which they began, at the latest: about one per interval.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use vouch_types::probe_rollout::{FAULT_REASONS, STEP_REASON_MAX};
use vouch_types::{
    Canary, Command, DenyReason, Digest, Moment, Network, Outcome, ProbeName, ProbeRollout, RolloutStep, Tally, Term,
    Timing, VmId, WallTime, WatcherId, WatcherLife,
};

use super::rollout_rule::{CANARY_SILENT, CanaryWord, Candidate, Counted, Decision, decide};
use super::{Desk, Reconciler, ReconcilerReport, RoundError};
use crate::fleet::{ProbeWord, ProbeWords};
use crate::store::State;

/// How often what was counted is recorded.
pub const TALLY_EVERY: Duration = Duration::from_secs(10);
/// The least time between two looks at what watchers say: each goes over all that they said last.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The reason of a run that never began, because the component is not there or cannot be compiled.
const UNAVAILABLE: &str = "probe_unavailable";

/// Where and at what a watcher looks.
type Check = (WatcherId, VmId, Network);

/// What this leader has counted on one canary.
#[derive(Clone, PartialEq, Debug)]
struct Counting {
    canary: WatcherId,
    digest: Digest,
    new: Tally,
    others: Tally,
    /// What was spent before this leader counted.
    spent: Duration,
    /// When this leader saw the first run, or took over after it.
    running_since: Option<Moment>,
    since: Moment,
    recorded: Moment,
    unavailable: String,
    /// The run of each check that was counted last.
    last: BTreeMap<Check, Moment>,
}

impl Counting {
    fn begin(now: Moment, digest: Digest, canary: &Canary) -> Self {
        Self {
            canary: canary.watcher,
            digest,
            new: canary.new,
            others: canary.others,
            spent: canary.spent,
            running_since: (canary.new.runs > 0).then_some(now),
            since: now,
            recorded: now,
            unavailable: String::new(),
            last: BTreeMap::new(),
        }
    }

    /// Counts the runs that began since the last look. Runs of the canary by an earlier assignment are of the version before.
    fn look(
        &mut self,
        now: Moment,
        canary: &Canary,
        words: &[ProbeWord],
        interval: impl Fn(VmId, Network) -> Duration,
    ) {
        for word in words {
            let is_canary = word.watcher == canary.watcher;
            if is_canary && word.assignment < canary.generation {
                continue;
            }
            if is_unavailable(word) {
                if is_canary {
                    self.unavailable.clone_from(&word.message);
                }
                continue;
            }
            let check = (word.watcher, word.vm, word.network);
            // The beginning of a run is known at the latest, and moves a little while the run is the same.
            let step = interval(word.vm, word.network) * 3 / 4;
            // What began before the canary was tried tells of the version before as well as what follows.
            if self.last.get(&check).is_some_and(|last| word.begun < *last + step) {
                continue;
            }
            self.last.insert(check, word.begun);
            let tally = if is_canary { &mut self.new } else { &mut self.others };
            tally.count(is_fault(word));
            if is_canary {
                self.running_since.get_or_insert(now);
            }
        }
    }

    fn counted(&self, now: Moment) -> Counted {
        Counted {
            new: self.new,
            others: self.others,
            spent: self.spent + self.running_since.map_or(Duration::ZERO, |since| now.since(since)),
            waiting: now.since(self.since),
            unavailable: self.unavailable.clone(),
        }
    }
}

fn is_unavailable(word: &ProbeWord) -> bool {
    word.outcome == Outcome::Unknown && word.reason == UNAVAILABLE
}

fn is_fault(word: &ProbeWord) -> bool {
    word.outcome == Outcome::Unknown && FAULT_REASONS.contains(&word.reason.as_str())
}

/// What is heard of the watchers, and when that was.
struct Hearing<'a> {
    now: Moment,
    words: &'a BTreeMap<ProbeName, ProbeWords>,
    heard: &'a BTreeMap<WatcherId, Moment>,
}

/// A step that is to be recorded.
#[derive(Clone, PartialEq, Debug)]
struct Due {
    probe: ProbeName,
    digest: Digest,
    step: RolloutStep,
}

impl Due {
    fn command(&self, at: WallTime) -> Command {
        let Self { probe, digest, step } = self.clone();
        Command::StepRollout { probe, digest, step, by: String::new(), at }
    }

    /// Returns what is to be done in place of a step that was refused: a version that may not be recorded is taken back.
    fn instead(&self, refused: &DenyReason) -> Option<Self> {
        match (&self.step, refused) {
            (_, DenyReason::NoRollout { .. }) => None,
            (RolloutStep::Promote { .. }, why) => {
                let step = RolloutStep::TakeBack { reason: cut(format!("it may not be recorded: {why}")) };
                Some(Self { step, ..self.clone() })
            }
            (RolloutStep::Try { .. } | RolloutStep::Record { .. } | RolloutStep::TakeBack { .. }, _) => None,
        }
    }
}

fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(STEP_REASON_MAX));
    reason
}

/// The reconciler; see the module's head.
#[derive(Default)]
pub(super) struct RolloutsReconciler {
    counting: BTreeMap<ProbeName, Counting>,
    looked: Option<Moment>,
    problem: Option<String>,
}

impl RolloutsReconciler {
    /// Returns what is to be recorded now.
    fn due(&mut self, state: &State, timing: &Timing, hearing: &Hearing<'_>) -> Vec<Due> {
        let under_way = |probe: &ProbeName| state.probes().get(probe).is_some_and(|known| known.rollout.is_some());
        self.counting.retain(|probe, _| under_way(probe));
        self.problem = None;
        let rollouts = state.probes().values().filter_map(|probe| Some((&probe.name, probe.rollout.as_deref()?)));
        rollouts.filter_map(|(probe, rollout)| self.one(state, timing, hearing, probe, rollout)).collect()
    }

    fn one(
        &mut self,
        state: &State,
        timing: &Timing,
        hearing: &Hearing<'_>,
        probe: &ProbeName,
        rollout: &ProbeRollout,
    ) -> Option<Due> {
        let (now, digest) = (hearing.now, rollout.next.digest);
        let nothing = ProbeWords::default();
        let ProbeWords { words, checks } = hearing.words.get(probe).unwrap_or(&nothing);
        let interval = |vm: VmId, network: Network| interval_of(state, timing, probe, vm, network);
        let mut counted = Counted::default();
        let mut word = CanaryWord::Heard;
        if let Some(canary) = &rollout.canary {
            let known = self.counting.get(probe).is_some_and(|c| c.canary == canary.watcher && c.digest == digest);
            if !known {
                self.counting.insert(probe.clone(), Counting::begin(now, digest, canary));
            }
            if let Some(counting) = self.counting.get_mut(probe) {
                counting.look(now, canary, words, interval);
                counted = counting.counted(now);
                word = word_on(state, hearing, probe, canary.watcher, counting.since);
            }
        }
        let step = match decide(rollout, &word, &counted, &candidates(state, hearing, checks)) {
            Decision::Try(watcher) => {
                let mut before = Tally::default();
                let its = words.iter().filter(|word| word.watcher == watcher && !is_unavailable(word));
                its.for_each(|word| before.count(is_fault(word)));
                RolloutStep::Try { watcher, before }
            }
            Decision::Promote(reason) => RolloutStep::Promote { reason: cut(reason) },
            Decision::TakeBack(reason) => RolloutStep::TakeBack { reason: cut(reason) },
            Decision::Wait => self.tally(now, probe)?,
            Decision::Stuck(why) => {
                self.problem = Some(format!("rollout of probe {probe}: {why}"));
                return None;
            }
        };
        Some(Due { probe: probe.clone(), digest, step })
    }

    /// Returns what was counted, when it is time to record it.
    fn tally(&mut self, now: Moment, probe: &ProbeName) -> Option<RolloutStep> {
        let counting = self.counting.get_mut(probe)?;
        if now.since(counting.recorded) < TALLY_EVERY || counting.new.runs == 0 {
            return None;
        }
        counting.recorded = now;
        let Counted { new, others, spent, .. } = counting.counted(now);
        Some(RolloutStep::Record { watcher: counting.canary, new, others, spent })
    }
}

fn interval_of(state: &State, timing: &Timing, probe: &ProbeName, vm: VmId, network: Network) -> Duration {
    let Some(record) = state.vms().get(&vm) else { return timing.probe_interval };
    let policy = state.policy_of(record);
    let by_policy = || policy.probe_interval_ms.map(Duration::from_millis);
    let run = state.probes_of(record);
    let its = run.iter().find(|p| p.assignment.probe == *probe && p.assignment.network == network);
    let own = its.and_then(|its| state.times_of(&policy, its)).and_then(|times| times.interval);
    own.or_else(by_policy).unwrap_or(timing.probe_interval)
}

/// Returns how many checks with the probe a watcher has, by the records.
fn checks_of(state: &State, probe: &ProbeName, watcher: WatcherId) -> usize {
    let vms = state.watchers().get(&watcher).map(|record| record.vms.as_slice()).unwrap_or_default();
    let of = |vm: &VmId| {
        let run = state.vms().get(vm).map(|record| state.probes_of(record)).unwrap_or_default();
        run.iter().filter(|p| p.assignment.probe == *probe).count()
    };
    vms.iter().map(of).sum()
}

fn word_on(state: &State, hearing: &Hearing<'_>, probe: &ProbeName, watcher: WatcherId, since: Moment) -> CanaryWord {
    let life = state.watchers().get(&watcher).map(|record| record.life);
    // A leader that has only just become one has heard nobody yet.
    let heard = hearing.heard.get(&watcher).copied().unwrap_or_default().max(since);
    if life != Some(WatcherLife::Live) {
        CanaryWord::Gone("is lost".to_owned())
    } else if checks_of(state, probe, watcher) == 0 {
        CanaryWord::Gone("has no vm with the probe any more".to_owned())
    } else if hearing.now.since(heard) >= CANARY_SILENT {
        CanaryWord::Gone(format!("was not heard for {CANARY_SILENT:?}"))
    } else {
        CanaryWord::Heard
    }
}

/// Returns the live watchers that are heard and say something of the probe, with the number of their checks.
fn candidates(state: &State, hearing: &Hearing<'_>, checks: &BTreeMap<WatcherId, usize>) -> Vec<Candidate> {
    let fresh =
        |watcher: &WatcherId| hearing.heard.get(watcher).is_some_and(|heard| hearing.now.since(*heard) < CANARY_SILENT);
    let live = |watcher: &WatcherId| state.watchers().get(watcher).is_some_and(|w| w.life == WatcherLife::Live);
    let could = checks.iter().filter(|(watcher, _)| fresh(watcher) && live(watcher));
    could.map(|(watcher, checks)| Candidate { watcher: *watcher, checks: *checks }).collect()
}

#[async_trait]
impl Reconciler for RolloutsReconciler {
    fn name(&self) -> &'static str {
        "rollouts"
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    async fn round(&mut self, desk: &Desk, _term: Term) -> Result<ReconcilerReport, RoundError> {
        let now = desk.clock.now();
        let under_way: Vec<(ProbeName, Option<WatcherId>)> = desk.consensus.read_state(|state| {
            let of = state.probes().values().filter_map(|probe| Some((&probe.name, probe.rollout.as_deref()?)));
            of.map(|(name, rollout)| (name.clone(), rollout.canary.as_ref().map(|canary| canary.watcher))).collect()
        });
        let pending = under_way.len() as u64;
        if under_way.is_empty() {
            self.reset();
            return Ok(ReconcilerReport::default());
        }
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK_EVERY) {
            return Ok(ReconcilerReport { pending, problem: self.problem.clone() });
        }
        self.looked = Some(now);
        // Before the records are read: the book is never taken while they are.
        let words = |(name, canary)| {
            let told = desk.fleet.probe_words(&name, canary);
            (name, told)
        };
        let words = under_way.into_iter().map(words).collect();
        let heard = desk.fleet.watchers_heard();
        let hearing = Hearing { now, words: &words, heard: &heard };
        let due = desk.consensus.read_state(|state| self.due(state, &desk.timing, &hearing));
        for due in due {
            if !matches!(due.step, RolloutStep::Record { .. }) {
                tracing::info!(probe = %due.probe, digest = %due.digest.short(), step = ?due.step, "rollout goes on");
            }
            match desk.propose(due.command(desk.wall_clock.now())).await {
                Ok(_) => {}
                Err(RoundError::Denied { reason, command }) => match due.instead(&reason) {
                    Some(other) => drop(desk.propose(other.command(desk.wall_clock.now())).await?),
                    // An operator was faster.
                    None if matches!(reason, DenyReason::NoRollout { .. }) => {}
                    None => return Err(RoundError::Denied { reason, command }),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(ReconcilerReport { pending, problem: self.problem.clone() })
    }
}

#[cfg(test)]
mod tests;
