//! When a new version of a probe goes to all watchers, and when it is taken back. Pure: what is recorded and what was counted
//! in, a decision out.
//!
//! The part of its runs that are faults is compared with that of the version before: what the same checks of the canary last
//! found with it, or what the other watchers find meanwhile, whichever is worse. So a target on which both fault speaks
//! against neither.
//!
//! | the new version | |
//! |---|---|
//! | has [`FAULTS_MIN`] faults more than the one before would have, and more than [`SIGMAS`] standard deviations of that, and its rate is higher by [`RATE_MARGIN`] | is taken back at once |
//! | has run often and long enough, and its rate is not higher by [`RATE_MARGIN`] | goes to all |
//! | has run often and long enough, and its rate is | is taken back |
//! | has not run once within [`FIRST_RUN_WITHIN`] of being tried | is taken back |
//! | has not run often enough within [`ROLLOUT_LONGEST`] | is taken back |
//! | loses its canary: lost, without a VM that has the probe, or silent for [`CANARY_SILENT`] | gets another, [`CANARIES_MAX`] at most |

use std::time::Duration;

use vouch_types::probe_rollout::CANARIES_MAX;
use vouch_types::{Canary, ProbeRollout, RolloutPlan, Tally, WatcherId};

/// The fewest faults beyond those that the version before would have, for a new one to be taken back before its time.
pub const FAULTS_MIN: f64 = 3.0;
/// Faults beyond the expected in standard deviations of their number, for the same.
pub const SIGMAS: f64 = 3.0;
/// How much higher the part of the runs that are faults may be.
pub const RATE_MARGIN: f64 = 0.05;
/// How long the canary may take to its first run: it fetches and compiles the component meanwhile.
pub const FIRST_RUN_WITHIN: Duration = Duration::from_secs(60);
/// How long the canary may be silent before another one is tried.
pub const CANARY_SILENT: Duration = Duration::from_secs(15);
/// How long a rollout may wait for enough runs on one canary.
pub const ROLLOUT_LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// A watcher that could run the new version first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Candidate {
    pub(super) watcher: WatcherId,
    /// How many checks with this probe it has, by which it is heard now.
    pub(super) checks: usize,
}

/// How the canary is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum CanaryWord {
    /// It lives, has the probe, and was heard not long ago.
    Heard,
    /// It cannot be what it was chosen for any more, and why.
    Gone(String),
}

/// What was counted on the canary.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Counted {
    /// With the new version.
    pub(super) new: Tally,
    /// By the others, with the version before.
    pub(super) others: Tally,
    /// Since its first run of the new version.
    pub(super) spent: Duration,
    /// Since it was tried, as long as it has not run it.
    pub(super) waiting: Duration,
    /// Why it has not run it, if it says so.
    pub(super) unavailable: String,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Decision {
    /// Nothing yet.
    Wait,
    /// Try this watcher.
    Try(WatcherId),
    /// No watcher can be tried now; why, for people.
    Stuck(String),
    /// Let all run it.
    Promote(String),
    /// Let all run the version before.
    TakeBack(String),
}

/// Returns what is to be done with a rollout.
pub(super) fn decide(
    rollout: &ProbeRollout,
    word: &CanaryWord,
    counted: &Counted,
    candidates: &[Candidate],
) -> Decision {
    match (&rollout.canary, word) {
        (Some(canary), CanaryWord::Heard) => judge(canary, &rollout.plan, counted),
        (Some(canary), CanaryWord::Gone(why)) if rollout.tried.len() >= CANARIES_MAX => Decision::TakeBack(format!(
            "{} {why}; {} watchers before it were of no use either",
            canary.watcher,
            rollout.tried.len() - 1
        )),
        (Some(_), CanaryWord::Gone(_)) | (None, _) => choose(rollout, candidates),
    }
}

/// Returns the watcher that touches the fewest VMs: what is wrong with the new version shows there too.
fn choose(rollout: &ProbeRollout, candidates: &[Candidate]) -> Decision {
    let fresh = candidates.iter().filter(|c| c.checks > 0 && !rollout.tried.contains(&c.watcher));
    match fresh.min_by_key(|c| (c.checks, c.watcher)) {
        Some(candidate) => Decision::Try(candidate.watcher),
        None => Decision::Stuck("no other live watcher that this manager hears has a vm with the probe".to_owned()),
    }
}

fn judge(canary: &Canary, plan: &RolloutPlan, counted: &Counted) -> Decision {
    let Counted { new, others, spent, waiting, unavailable } = counted;
    let others_count = others.runs > 0 && others.rate() >= canary.before.rate();
    let old = if others_count { others } else { &canary.before };
    let percent = |tally: &Tally| format!("{} of {} runs ({:.0} %)", tally.faults, tally.runs, tally.rate() * 100.0);
    let compared =
        || format!("on {} it faulted in {}, the version before in {}", canary.watcher, percent(new), percent(old));
    if new.runs == 0 {
        if *waiting < FIRST_RUN_WITHIN {
            return Decision::Wait;
        }
        let why = if unavailable.is_empty() { String::new() } else { format!(": {unavailable}") };
        return Decision::TakeBack(format!("{} did not run it once within {FIRST_RUN_WITHIN:?}{why}", canary.watcher));
    }
    let is_worse = new.rate() > old.rate() + RATE_MARGIN;
    let (runs, expected) = (as_f64(new.runs), as_f64(new.runs) * old.rate());
    let deviation = (runs * old.rate() * (1.0 - old.rate())).sqrt();
    if is_worse && as_f64(new.faults) - expected >= FAULTS_MIN.max(SIGMAS * deviation) {
        return Decision::TakeBack(compared());
    }
    if new.runs >= u64::from(plan.runs) && *spent >= plan.lasts {
        return if is_worse { Decision::TakeBack(compared()) } else { Decision::Promote(compared()) };
    }
    if *spent >= ROLLOUT_LONGEST {
        let (watcher, runs, wanted) = (canary.watcher, new.runs, plan.runs);
        return Decision::TakeBack(format!("{watcher} ran it {runs} times within {ROLLOUT_LONGEST:?}, of {wanted}"));
    }
    Decision::Wait
}

#[expect(clippy::cast_precision_loss, reason = "far fewer runs than 2^52")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use vouch_types::{AssignmentGeneration, WallTime};

    use super::*;
    use crate::store::tests::samples;

    const SECOND: Duration = Duration::from_secs(1);

    fn watcher(number: u64) -> WatcherId {
        WatcherId::new(number)
    }

    fn tally(faults: u64, runs: u64) -> Tally {
        Tally { runs, faults }
    }

    /// A rollout on w1, whose checks faulted so before.
    fn on_w1(before: Tally) -> ProbeRollout {
        let generation = AssignmentGeneration::default();
        let canary = Canary {
            watcher: watcher(1),
            generation,
            before,
            new: Tally::default(),
            others: Tally::default(),
            spent: Duration::ZERO,
        };
        ProbeRollout {
            next: samples::uploaded(),
            plan: RolloutPlan::default(),
            canary: Some(canary),
            tried: vec![watcher(1)],
            by: String::new(),
            begun: WallTime::default(),
        }
    }

    fn counted(new: Tally, others: Tally, spent: Duration) -> Counted {
        Counted { new, others, spent, waiting: Duration::ZERO, unavailable: String::new() }
    }

    fn judged(before: Tally, new: Tally, others: Tally, spent: u32) -> Decision {
        decide(&on_w1(before), &CanaryWord::Heard, &counted(new, others, SECOND * spent), &[])
    }

    fn taken_back(decision: &Decision) -> bool {
        matches!(decision, Decision::TakeBack(_))
    }

    #[test]
    fn one_that_faults_every_time_is_taken_back_at_its_third_run() {
        let none = tally(0, 40);
        assert_eq!(judged(tally(0, 4), tally(2, 2), none, 1), Decision::Wait);
        let told = "on w1 it faulted in 3 of 3 runs (100 %), the version before in 0 of 40 runs (0 %)";
        assert_eq!(judged(tally(0, 4), tally(3, 3), none, 1), Decision::TakeBack(told.to_owned()));
        // It need not fault every time.
        assert!(taken_back(&judged(tally(0, 4), tally(3, 29), none, 29)));
    }

    #[test]
    fn one_that_faults_no_more_than_the_one_before_goes_to_all_after_so_many_runs_and_so_long() {
        let (clean, plan) = (tally(0, 100), RolloutPlan::default());
        assert_eq!(judged(clean, tally(0, 29), clean, 60), Decision::Wait, "one run too few");
        assert_eq!(judged(clean, tally(0, 500), clean, 59), Decision::Wait, "one second too early");
        let told = "on w1 it faulted in 0 of 30 runs (0 %), the version before in 0 of 100 runs (0 %)";
        assert_eq!(judged(clean, tally(0, u64::from(plan.runs)), clean, 60), Decision::Promote(told.to_owned()));
        // One fault of thirty is within the margin, two are not.
        assert!(matches!(judged(clean, tally(1, 30), clean, 60), Decision::Promote(_)));
        assert!(taken_back(&judged(clean, tally(2, 30), clean, 60)));
    }

    #[test]
    fn targets_on_which_both_fault_speak_against_neither() {
        // Half of the canary's checks fault, with either version; their order must not matter.
        for (faults, runs) in [(3, 3), (3, 4), (5, 8), (20, 40)] {
            assert!(!taken_back(&judged(tally(1, 2), tally(faults, runs), tally(0, 0), 30)), "{faults} of {runs}");
        }
        assert!(matches!(judged(tally(1, 2), tally(15, 30), tally(0, 50), 60), Decision::Promote(_)));
        assert!(
            matches!(judged(tally(0, 2), tally(15, 30), tally(50, 100), 60), Decision::Promote(_)),
            "as the others"
        );
        assert!(taken_back(&judged(tally(1, 2), tally(27, 30), tally(0, 50), 30)), "and still it can be worse");
    }

    #[test]
    fn a_canary_that_does_not_run_it_once_in_time_takes_it_back_with_why() {
        let waits = |waiting| Counted {
            waiting,
            unavailable: "does not compile".to_owned(),
            ..counted(tally(0, 0), tally(0, 9), Duration::ZERO)
        };
        let on = on_w1(tally(0, 1));
        let short = FIRST_RUN_WITHIN - SECOND;
        assert_eq!(decide(&on, &CanaryWord::Heard, &waits(short), &[]), Decision::Wait);
        let told = "w1 did not run it once within 60s: does not compile".to_owned();
        assert_eq!(decide(&on, &CanaryWord::Heard, &waits(FIRST_RUN_WITHIN), &[]), Decision::TakeBack(told));
    }

    #[test]
    fn too_little_evidence_for_a_day_takes_it_back() {
        let seldom = counted(tally(0, 24), tally(0, 99), ROLLOUT_LONGEST - SECOND);
        let on = on_w1(tally(0, 1));
        assert_eq!(decide(&on, &CanaryWord::Heard, &seldom, &[]), Decision::Wait);
        let told = "w1 ran it 24 times within 86400s, of 30".to_owned();
        let over = Counted { spent: ROLLOUT_LONGEST, ..seldom };
        assert_eq!(decide(&on, &CanaryWord::Heard, &over, &[]), Decision::TakeBack(told));
    }

    #[test]
    fn the_watcher_with_the_fewest_checks_is_tried_and_another_one_when_it_goes_away_three_times_at_most() {
        let candidates = [(1, 4), (2, 2), (3, 2), (4, 0)].map(|(w, checks)| Candidate { watcher: watcher(w), checks });
        let nothing = counted(tally(0, 0), tally(0, 0), Duration::ZERO);
        let mut rollout = ProbeRollout { canary: None, tried: Vec::new(), ..on_w1(tally(0, 0)) };
        assert_eq!(decide(&rollout, &CanaryWord::Heard, &nothing, &candidates), Decision::Try(watcher(2)));
        rollout = on_w1(tally(0, 0));
        let gone = CanaryWord::Gone("is lost".to_owned());
        assert_eq!(decide(&rollout, &gone, &nothing, &candidates), Decision::Try(watcher(2)));
        rollout.tried.push(watcher(2));
        assert_eq!(decide(&rollout, &gone, &nothing, &candidates), Decision::Try(watcher(3)));
        assert!(
            matches!(decide(&rollout, &gone, &nothing, &candidates[..2]), Decision::Stuck(_)),
            "w4 has no vm with it"
        );
        rollout.tried.push(watcher(3));
        let told = "w1 is lost; 2 watchers before it were of no use either".to_owned();
        assert_eq!(decide(&rollout, &gone, &nothing, &candidates), Decision::TakeBack(told));
    }
}
