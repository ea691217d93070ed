//! New versions of probes on their way: begun, tried, counted, ended; and what each step is refused for.

use std::time::Duration;

use vouch_types::probe_rollout::{ROLLOUT_LASTS, ROLLOUT_RUNS, STEP_REASON_MAX};
use vouch_types::{Digest, ProbeImports, ProbeRecord, RolloutPlan, RolloutStep, Tally};

use super::*;

/// The cluster of [`Story::begun`] with a probe in its first version, and a live watcher.
fn begun() -> Story {
    let mut story = Story::begun();
    for command in [place("n1", 1), redeem(1, 1), record(rolling(1))] {
        story.tell(command);
    }
    story
}

fn record(probe: ProbeRecord) -> Command {
    Command::RecordProbe { probe, by: "admin token of m1".to_owned(), at: at(48) }
}

fn try_on(watcher: u64) -> RolloutStep {
    RolloutStep::Try { watcher: WatcherId::new(watcher), before: Tally { runs: 4, faults: 1 } }
}

fn promote() -> RolloutStep {
    RolloutStep::Promote { reason: "it is no worse".to_owned() }
}

fn take_back() -> RolloutStep {
    RolloutStep::TakeBack { reason: "it faults".to_owned() }
}

impl Story {
    fn rolling(&self) -> &ProbeRecord {
        &self.state.probes()[&rolling(1).name]
    }
}

#[test]
fn a_version_on_its_way_leaves_the_record_as_it_is_until_it_is_promoted() {
    let mut story = begun();
    let (probe, digest) = (rolling(2).name, rolling(2).digest);
    let by = "admin token of m1".to_owned();
    let told = EventKind::ProbeRolloutBegun { probe: probe.clone(), version: "2.0.0".to_owned(), digest, by };
    assert_eq!(story.tell(begin_rollout(rolling(2))), [told]);
    assert_eq!((story.rolling().digest, story.rolling().version.as_str()), (rolling(1).digest, "1.0.0"));
    let generation = story.watcher(1).assignment;
    let told = EventKind::ProbeCanaryChosen { probe: probe.clone(), digest, watcher: WatcherId::new(1) };
    assert_eq!(story.tell(step_rollout(2, try_on(1))), [told]);
    assert_eq!(story.watcher(1).assignment, generation.next(), "by which its runs are told apart");
    assert_eq!(story.tell(step_rollout(2, tally(WatcherId::new(1)))), [], "what is counted is no event");
    let canary = story.rolling().rollout.as_ref().unwrap().canary.clone().unwrap();
    assert_eq!((canary.new.runs, canary.others.faults, canary.before.runs), (9, 2, 4));
    assert_eq!((canary.spent, canary.generation), (Duration::from_secs(10), generation.next()));
    survives(&story.state);
    let (reason, by) = ("it is no worse".to_owned(), "admin token of m2".to_owned());
    assert_eq!(story.tell(step_rollout(2, promote())), [EventKind::ProbeRolledOut { probe, digest, reason, by }]);
    assert_eq!(*story.rolling(), rolling(2));
}

#[test]
fn a_version_that_is_taken_back_leaves_nothing_behind() {
    let mut story = begun();
    story.tell(begin_rollout(rolling(2)));
    story.tell(step_rollout(2, try_on(1)));
    let told = story.tell(step_rollout(2, take_back()));
    assert!(matches!(&told[..], [EventKind::ProbeTakenBack { digest, .. }] if *digest == rolling(2).digest));
    assert_eq!(*story.rolling(), rolling(1));
    story.tell(begin_rollout(rolling(2)));
}

#[test]
fn what_cannot_be_rolled_out_is_told() {
    let mut story = begun();
    let unknown = ProbeRecord { name: uploaded().name, ..rolling(2) };
    assert_eq!(story.refused(begin_rollout(unknown)), DenyReason::UnknownProbe(uploaded().name));
    let why = story.refused(begin_rollout(rolling(1))).to_string();
    assert!(why.contains("must be another component than the recorded one"), "{why}");
    story.tell(record(probe()));
    let own = ProbeRecord { shipped: false, digest: Digest::new([7; 32]), ..probe() };
    let why = story.refused(begin_rollout(own)).to_string();
    assert!(why.contains("name: ping must be an uploaded probe"), "{why}");
    let imports = ProbeImports { interfaces: vec!["wasi:sockets/tcp@0.2.6".to_owned()] };
    let wants = ProbeRecord { imports, grant: None, ..rolling(2) };
    assert!(matches!(story.refused(begin_rollout(wants)), DenyReason::NotGranted { .. }), "by the grant of its name");
    story.tell(begin_rollout(rolling(2)));
    let why = story.refused(begin_rollout(rolling(3))).to_string();
    assert!(why.contains("2.0.0 is on its way; promote or abort it"), "{why}");
}

#[test]
fn a_plan_is_taken_at_its_limits_and_refused_beyond_them() {
    let plan = |runs, lasts| {
        let by = String::new();
        let plan = RolloutPlan { runs, lasts };
        Command::BeginRollout { probe: Box::new(rolling(2)), plan, by, at: at(49) }
    };
    let (tick, default) = (Duration::from_millis(1), RolloutPlan::default());
    for (runs, lasts) in [(ROLLOUT_RUNS.0, ROLLOUT_LASTS.0), (ROLLOUT_RUNS.1, ROLLOUT_LASTS.1)] {
        begun().tell(plan(runs, lasts));
    }
    for (runs, lasts, said) in [
        (ROLLOUT_RUNS.0 - 1, default.lasts, "runs: 4 must be from 5 to 10000"),
        (ROLLOUT_RUNS.1 + 1, default.lasts, "runs: 10001 must be"),
        (default.runs, ROLLOUT_LASTS.0 - tick, "lasts: 9.999s must be from 10s to 3600s"),
        (default.runs, ROLLOUT_LASTS.1 + tick, "lasts: 3600.001s must be"),
    ] {
        let why = begun().refused(plan(runs, lasts)).to_string();
        assert!(why.starts_with(said), "{why} is not {said}");
    }
}

#[test]
fn a_step_of_another_rollout_or_on_a_watcher_that_does_not_live_changes_nothing() {
    let mut story = begun();
    let none = |version: u8| DenyReason::NoRollout { probe: rolling(1).name, digest: rolling(version).digest };
    assert_eq!(story.refused(step_rollout(2, promote())), none(2));
    story.tell(begin_rollout(rolling(2)));
    assert_eq!(story.refused(step_rollout(3, take_back())), none(3), "an earlier leader's");
    assert_eq!(story.refused(step_rollout(2, try_on(9))), DenyReason::UnknownWatcher(WatcherId::new(9)));
    story.tell(place("n1", 2));
    assert_eq!(story.refused(step_rollout(2, try_on(2))), DenyReason::UnknownWatcher(WatcherId::new(2)));
    story.tell(step_rollout(2, try_on(1)));
    story.in_vain(step_rollout(2, tally(WatcherId::new(2))));
    let long = RolloutStep::Promote { reason: "x".repeat(STEP_REASON_MAX + 1) };
    assert!(matches!(story.refused(step_rollout(2, long)), DenyReason::BadValue { .. }));
}

#[test]
fn a_plain_push_goes_to_all_and_ends_what_is_on_its_way() {
    let mut story = begun();
    story.tell(begin_rollout(rolling(2)));
    let told = story.tell(record(rolling(3)));
    let [EventKind::ProbeTakenBack { digest, reason, .. }, EventKind::ProbeRecorded { .. }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!((*digest, reason.as_str()), (rolling(2).digest, "another version was pushed to all watchers meanwhile"));
    assert_eq!(*story.rolling(), rolling(3));
}
