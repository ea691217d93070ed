//! New versions on their way, played over the real records: watchers run what their assignments say, and fault as the
//! version does that they are told.

use std::collections::BTreeSet;

use vouch_types::{AssignmentGeneration, EventKind, LogIndex, PolicyScope, ProbeRecord, ProbeSigner, RolloutPlan};

use super::super::assignments::inputs_of;
use super::*;
use crate::store::tests::samples;

const SECOND: Duration = Duration::from_secs(1);
const NEW: Digest = Digest::new([9; 32]);

fn name() -> ProbeName {
    samples::uploaded().name
}

fn watcher(number: u64) -> WatcherId {
    WatcherId::new(number)
}

/// A cluster of three watchers: w1 has four VMs, w2 three, w3 one.
struct Play {
    state: State,
    index: u64,
    now: Moment,
    reconciler: RolloutsReconciler,
    words: Vec<ProbeWord>,
    heard: BTreeMap<WatcherId, Moment>,
    /// Watchers that say nothing.
    silent: BTreeSet<WatcherId>,
    /// VMs on which the new version faults.
    faulting: BTreeSet<VmId>,
    /// Why the new version does not run at all, if so.
    unavailable: Option<&'static str>,
    /// Who ran the new version, and when first.
    ran_new: BTreeMap<WatcherId, Moment>,
    events: Vec<(Moment, EventKind)>,
}

impl Play {
    fn new() -> Self {
        let mut play = Self {
            state: State::default(),
            index: 0,
            now: Moment::ZERO + SECOND * 100,
            reconciler: RolloutsReconciler::default(),
            words: Vec::new(),
            heard: BTreeMap::new(),
            silent: BTreeSet::new(),
            faulting: BTreeSet::new(),
            unavailable: None,
            ran_new: BTreeMap::new(),
            events: Vec::new(),
        };
        let vms: Vec<u128> = (1..=4).collect();
        let ids = |numbers: &[u128]| numbers.iter().map(|n| samples::vm_id(*n)).collect::<Vec<_>>();
        let mut assigned = samples::scoped(PolicyScope::Cluster, "{}");
        assigned.assignment.probe = name();
        (assigned.interval_ms, assigned.timeout_ms) = (None, None);
        for command in [
            samples::init(),
            samples::record_node("n1"),
            samples::record_vms("n1", &vms),
            samples::place("n1", 1),
            samples::place("n1", 2),
            samples::place("n1", 3),
            samples::redeem(1, 1),
            samples::redeem(2, 2),
            samples::redeem(3, 3),
            Command::AssignWatchers {
                assignments: vec![
                    (watcher(1), ids(&[1, 2, 3, 4])),
                    (watcher(2), ids(&[2, 3, 4])),
                    (watcher(3), ids(&[1])),
                ],
            },
            Command::RecordProbe { probe: samples::uploaded(), by: String::new(), at: samples::at(9) },
            Command::AssignProbe { assigned, at: samples::at(9) },
        ] {
            assert_eq!(play.apply(command), None);
        }
        play.run(5);
        play.events.clear();
        play
    }

    /// Applies a command; returns why it was refused, if so.
    fn apply(&mut self, command: Command) -> Option<DenyReason> {
        self.index += 1;
        let (applied, changes) = self.state.apply(LogIndex::new(self.index), command);
        self.events.extend(changes.events.iter().map(|event| (self.now, event.kind.clone())));
        match applied {
            vouch_types::Applied::Denied(reason) => Some(reason),
            _ => None,
        }
    }

    fn begin(&mut self, next: ProbeRecord) {
        let (plan, by) = (RolloutPlan::default(), "admin token of m1".to_owned());
        assert_eq!(self.apply(Command::BeginRollout { probe: Box::new(next), plan, by, at: samples::at(10) }), None);
    }

    /// Plays so many seconds: each watcher runs its checks, then the leader looks.
    fn run(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.now = self.now + SECOND;
            let speak = self.state.watchers().keys().copied().filter(|w| !self.silent.contains(w));
            for watcher in speak.collect::<Vec<_>>() {
                self.speak(watcher);
            }
            let mut checks = BTreeMap::new();
            self.words.iter().for_each(|word| *checks.entry(word.watcher).or_default() += 1);
            let words = BTreeMap::from([(name(), ProbeWords { words: self.words.clone(), checks })]);
            let hearing = Hearing { now: self.now, words: &words, heard: &self.heard };
            for due in self.reconciler.due(&self.state, &Timing::default(), &hearing) {
                if let Some(refused) = self.apply(due.command(samples::at(20))) {
                    let other = due.instead(&refused).expect("nobody else takes steps here");
                    assert_eq!(self.apply(other.command(samples::at(21))), None);
                }
            }
        }
    }

    fn speak(&mut self, watcher: WatcherId) {
        let inputs = inputs_of(&self.state, watcher, Vec::new()).expect("it is recorded");
        self.heard.insert(watcher, self.now);
        self.words.retain(|word| word.watcher != watcher);
        let Some(told) = inputs.probes.get(&name()) else { return };
        let is_new = told.digest == NEW;
        if is_new && self.unavailable.is_none() {
            self.ran_new.entry(watcher).or_insert(self.now);
        }
        for target in &inputs.targets {
            let (outcome, reason) = match (is_new, self.unavailable) {
                (true, Some(_)) => (Outcome::Unknown, UNAVAILABLE),
                (true, None) if self.faulting.contains(&target.vm) => (Outcome::Unknown, "crashed"),
                // That a target is down is no fault of the probe.
                (true, None) => (Outcome::Down, "closed"),
                (false, _) => (Outcome::Up, "replied"),
            };
            self.words.push(ProbeWord {
                watcher,
                assignment: inputs.generation,
                vm: target.vm,
                network: Network::Service,
                begun: self.now,
                outcome,
                reason: reason.to_owned(),
                message: self.unavailable.filter(|_| is_new).unwrap_or_default().to_owned(),
            });
        }
    }

    /// Returns the component that each watcher is told to run.
    fn told(&self) -> Vec<Digest> {
        let of = |w| inputs_of(&self.state, w, Vec::new()).unwrap().probes[&name()].digest;
        self.state.watchers().keys().map(|w| of(*w)).collect()
    }

    fn record(&self) -> &ProbeRecord {
        &self.state.probes()[&name()]
    }

    /// Returns what was told of the rollout: a word for each event, its reason, and the seconds since the first.
    fn story(&self) -> Vec<(String, u64)> {
        let begun = self.events.first().map_or(self.now, |(at, _)| *at);
        let word = |kind: &EventKind| match kind {
            EventKind::ProbeRolloutBegun { .. } => Some("begun".to_owned()),
            EventKind::ProbeCanaryChosen { watcher, .. } => Some(format!("tried on {watcher}")),
            EventKind::ProbeRolledOut { reason, .. } => Some(format!("recorded: {reason}")),
            EventKind::ProbeTakenBack { reason, .. } => Some(format!("taken back: {reason}")),
            _ => None,
        };
        self.events.iter().filter_map(|(at, kind)| Some((word(kind)?, at.since(begun).as_secs()))).collect()
    }
}

fn next() -> ProbeRecord {
    ProbeRecord { version: "2.0.0".to_owned(), digest: NEW, grant: None, ..samples::uploaded() }
}

#[test]
fn a_version_that_faults_is_taken_back_at_once_and_no_watcher_but_the_canary_ever_ran_it() {
    let mut play = Play::new();
    play.faulting = (1..=4).map(samples::vm_id).collect();
    play.begin(next());
    play.run(30);
    let why = "taken back: on w3 it faulted in 3 of 3 runs (100 %), the version before in 0 of 21 runs (0 %)";
    assert_eq!(play.story(), [("begun".to_owned(), 0), ("tried on w3".to_owned(), 1), (why.to_owned(), 4)]);
    assert_eq!(play.ran_new.keys().copied().collect::<Vec<_>>(), [watcher(3)]);
    assert_eq!((play.record(), play.told()), (&samples::uploaded(), vec![samples::uploaded().digest; 3]));
}

#[test]
fn a_good_version_goes_to_all_after_its_time_and_is_run_by_the_canary_alone_until_then() {
    let mut play = Play::new();
    play.begin(next());
    play.run(61);
    assert_eq!(play.ran_new.keys().copied().collect::<Vec<_>>(), [watcher(3)]);
    assert_eq!(play.told(), [samples::uploaded().digest, samples::uploaded().digest, NEW]);
    play.run(5);
    let story = play.story();
    let (last, at) = story.last().unwrap();
    assert!(last.starts_with("recorded: on w3 it faulted in 0 of 61 runs") && (61..=63).contains(at), "{story:?}");
    assert_eq!(play.told(), [NEW; 3]);
    let grant = samples::uploaded().grant;
    assert_eq!(*play.record(), ProbeRecord { grant, ..next() }, "with the grant of its name");
}

#[test]
fn a_new_leader_goes_on_from_what_was_recorded() {
    let mut play = Play::new();
    play.begin(next());
    play.run(41);
    let recorded = play.record().rollout.as_ref().unwrap().canary.clone().unwrap();
    assert!(recorded.new.runs >= 30 && recorded.spent >= SECOND * 29, "{recorded:?}");
    // Another process with another clock: it knows what is recorded, and hears what is said now.
    play.reconciler = RolloutsReconciler::default();
    play.now = Moment::ZERO + SECOND * 7_000;
    play.heard.clear();
    play.words.clear();
    play.run(20);
    assert!(play.story().iter().all(|(told, _)| !told.starts_with("recorded")), "it counts no time twice");
    play.run(15);
    assert!(play.story().last().unwrap().0.starts_with("recorded: on w3"), "{:?}", play.story());
    assert_eq!(play.story().len(), 3, "the canary stays");
}

#[test]
fn another_watcher_is_tried_when_the_canary_goes_away_and_the_third_that_goes_takes_it_back() {
    let mut play = Play::new();
    play.begin(next());
    play.run(3);
    let lost = Command::LoseWatcher { watcher: watcher(3), reason: "silent".to_owned(), at: samples::at(30) };
    play.silent.insert(watcher(3));
    play.apply(lost);
    play.run(2);
    assert_eq!(play.story().last().unwrap().0, "tried on w2");
    // One that is only silent is given a while.
    play.silent.insert(watcher(2));
    play.run(14);
    assert_eq!(play.story().last().unwrap().0, "tried on w2");
    play.run(3);
    assert_eq!(play.story().last().unwrap().0, "tried on w1");
    play.silent.insert(watcher(1));
    play.run(20);
    let why = "taken back: w1 was not heard for 15s; 2 watchers before it were of no use either";
    assert_eq!(play.story().last().unwrap().0, why);
}

#[test]
fn one_that_no_watcher_can_run_is_taken_back_with_what_the_watcher_says() {
    let mut play = Play::new();
    play.unavailable = Some("component 090909090909 says that it is probe \"other\"");
    play.begin(next());
    play.run(59);
    assert_eq!(play.story().len(), 2);
    play.run(5);
    let why = "taken back: w3 did not run it once within 60s: component 090909090909 says that it is probe \"other\"";
    assert_eq!(play.story().last().unwrap().0, why);
}

#[test]
fn a_version_whose_key_is_trusted_no_more_is_taken_back_and_not_recorded() {
    let mut play = Play::new();
    play.apply(samples::add_probe_key("release", 7));
    let signer = ProbeSigner { key: samples::key_name("release"), public_key: samples::public_key(7) };
    play.begin(ProbeRecord { signer: Some(signer), ..next() });
    play.run(10);
    let name = samples::key_name("release");
    play.apply(Command::RemoveProbeKey { name, by: String::new(), at: samples::at(40) });
    play.run(60);
    let why = "taken back: it may not be recorded: the signature is of key release, which is not trusted";
    assert_eq!(play.story().last().unwrap().0, why);
}

#[test]
fn a_run_is_counted_once_however_often_it_is_looked_at_and_by_the_interval_of_its_check() {
    let canary = Canary {
        watcher: watcher(1),
        generation: AssignmentGeneration::new(4),
        before: Tally::default(),
        new: Tally::default(),
        others: Tally::default(),
        spent: Duration::ZERO,
    };
    let at = |millis: u64| Moment::from_micros(millis * 1_000);
    let mut counting = Counting::begin(at(0), NEW, &canary);
    let word = |watcher, generation, millis| ProbeWord {
        watcher,
        assignment: AssignmentGeneration::new(generation),
        vm: samples::vm_id(1),
        network: Network::Service,
        begun: at(millis),
        outcome: Outcome::Unknown,
        reason: "crashed".to_owned(),
        message: String::new(),
    };
    let mut look = |words: &[ProbeWord]| {
        counting.look(at(1), &canary, words, |_, _| SECOND);
        (counting.new.runs, counting.others.runs)
    };
    assert_eq!(look(&[word(watcher(1), 3, 100)]), (0, 0), "by an earlier assignment");
    assert_eq!(look(&[word(watcher(1), 4, 200), word(watcher(2), 1, 200)]), (1, 1));
    assert_eq!(look(&[word(watcher(1), 4, 200), word(watcher(2), 1, 900)]), (1, 1), "less than its interval later");
    assert_eq!(look(&[word(watcher(1), 4, 1_200), word(watcher(2), 1, 1_150)]), (2, 2));
}
