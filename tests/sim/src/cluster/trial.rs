//! Scores one trial of one row: what was said of the VMs that the fault struck, against the fault table.

use std::time::Duration;

use vouch_types::{Cause, EventKind, Fault, Source, VmState};

use super::host::{NodeNo, VmNo};
use super::play::Run;
use super::published::{Said, VmSaid};
use super::row::{PROOF_AFTER, Row, Told, When};

/// How long what was true is excused for: what is published now rests on what was so a little earlier.
pub const LAG: Duration = Duration::from_secs(5);
/// A VM that was reached for all of this time must not be called lost.
pub const REACHED_FOR: Duration = Duration::from_secs(2);
/// How long a trial goes on after the fault has healed.
pub const AFTER_HEAL: Duration = Duration::from_secs(8);

/// Whether something was right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mark {
    /// It was.
    Right,
    /// It was not.
    Wrong,
}

impl Mark {
    /// Returns the mark of a condition.
    pub const fn of(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// What one trial came to.
#[derive(Clone, Debug)]
pub struct Score {
    /// Its seed.
    pub seed: u64,
    /// State, at the end of the fault; at all times for rows without alarm.
    pub state: Mark,
    /// The right cause is the likeliest one of a fault that is told.
    pub top1: Mark,
    /// It is among the first three.
    pub top3: Mark,
    /// Advice, at the end of the fault.
    pub advice: Mark,
    /// Time until state and cause were right for the first time; `None` for never, and for rows without alarm.
    pub time: Option<Duration>,
    /// VMs that were called down without proof.
    pub false_down: usize,
    /// VMs that were called lost though somebody saw them.
    pub false_lost: usize,
    /// Recoveries after the heal, of the nodes whose path had been called cut; `None` when none had been.
    pub recoveries: Option<usize>,
    /// Time from the heal until the node's own word ruled again.
    pub hand_back: Option<Duration>,
    /// Incidents that opened.
    pub incidents: usize,
    /// Notifications.
    pub notices: usize,
    /// Breaches of the replicated log.
    pub log_broken: usize,
    /// What was said at the end of the fault, for people.
    pub said: String,
}

/// Returns whether a cause is one of these.
pub fn is_one_of(cause: &Cause, names: &[&str]) -> bool {
    let text = cause.to_string();
    names.iter().any(|name| text == *name || text.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
}

/// Returns all faults that a reader is told of a VM.
fn told_of<'a>(said: &'a Said, vm: &'a VmSaid, notes: bool) -> impl Iterator<Item = &'a Fault> {
    let touching = said.incidents.iter().filter(|incident| incident.nodes.contains(&vm.node));
    let notes = if notes { vm.notes.as_slice() } else { &[] };
    touching.map(|incident| &incident.fault).chain(&vm.faults).chain(notes)
}

/// Returns whether the right cause of a row is told of a VM among the first `rank` causes of some fault.
fn cause_is_told(row: Row, said: &Said, vm: &VmSaid, rank: usize) -> bool {
    let spec = row.spec();
    let named = |fault: &Fault| fault.causes.iter().take(rank).any(|c| is_one_of(&c.cause, spec.causes));
    match spec.told {
        Told::Fault => told_of(said, vm, false).any(named),
        Told::Note => told_of(said, vm, true).any(named),
        Told::DeafManager => said.deaf.iter().any(|note| note.node == vm.node),
        Told::LostWatcher => said.watchers_lost.contains(&vm.node) || told_of(said, vm, true).any(named),
        Told::Nothing => told_of(said, vm, false).next().is_none(),
        Told::Anything => true,
    }
}

/// Judges what was said of the VMs that a fault of a run struck.
pub(crate) struct Judge<'a> {
    pub row: Row,
    pub run: &'a Run,
    pub struck: &'a [VmNo],
}

impl Judge<'_> {
    fn all(&self, said: &Said, right: impl Fn(&VmSaid) -> bool) -> bool {
        self.struck.iter().all(|vm| said.vms.get(vm).is_some_and(&right))
    }

    fn state_is_right(&self, said: &Said) -> bool {
        let others = said.vms.iter().filter(|(vm, _)| !self.struck.contains(vm));
        self.all(said, |vm| self.row.spec().states.contains(&vm.state))
            && others.into_iter().all(|(_, vm)| vm.state == VmState::Up)
    }

    /// Returns whether state and cause of the struck VMs are right, whatever is said of others.
    pub fn struck_are_right(&self, said: &Said) -> bool {
        self.all(said, |vm| self.row.spec().states.contains(&vm.state)) && self.cause_is_right(said, 1)
    }

    fn cause_is_right(&self, said: &Said, rank: usize) -> bool {
        self.all(said, |vm| cause_is_told(self.row, said, vm, rank))
    }

    /// Returns how long after `from` it holds for the first time, if it does until `to`.
    pub fn first(&self, from: Duration, to: Duration, holds: impl Fn(&Said) -> bool) -> Option<Duration> {
        if self.run.record.at(from).is_some_and(&holds) {
            return Some(Duration::ZERO);
        }
        let after = self.run.record.published.iter().filter(|p| p.at > from && p.at <= to);
        after.into_iter().find(|p| holds(&p.said)).map(|p| p.at - from)
    }

    fn always(&self, from: Duration, to: Duration, holds: impl Fn(&Said) -> bool) -> bool {
        self.run.record.published.iter().filter(|p| p.at > from && p.at <= to).all(|p| holds(&p.said))
    }
}

/// Returns the VMs that were called down without proof, and lost though somebody saw them.
pub fn false_alarms(run: &Run) -> (usize, usize) {
    let (mut down, mut lost) = (0, 0);
    for told in &run.record.events {
        let EventKind::VmStateChanged { vm, to, .. } = &told.event.kind else { continue };
        let vm = VmNo::of(*vm);
        let since = |time: Duration| told.at.saturating_sub(time);
        let truths = |time| run.truths.between(since(time), told.at).filter_map(|truth| truth.vms.get(&vm));
        match to {
            VmState::Down => down += usize::from(!truths(LAG).any(|t| t.gone || t.proof)),
            VmState::Lost => lost += usize::from(truths(REACHED_FOR).all(|t| t.reached)),
            VmState::Up
            | VmState::Degraded
            | VmState::Paused
            | VmState::Hung
            | VmState::Rebooting
            | VmState::Stopped
            | VmState::Conflict
            | VmState::Unknown => {}
        }
    }
    (down, lost)
}

fn count(run: &Run, from: Duration, what: impl Fn(&EventKind) -> bool) -> usize {
    run.record.events.iter().filter(|told| told.at > from && what(&told.event.kind)).count()
}

fn hand_back(run: &Run, nodes: &[NodeNo], from: Duration) -> (Option<usize>, Option<Duration>) {
    let was_cut = |said: &Said| nodes.iter().any(|n| said.paths.get(n).is_some_and(|p| p.source == Source::Watcher));
    if !run.record.at(from).is_some_and(was_cut) {
        return (None, None);
    }
    let is_nodes = |id: &vouch_types::NodeId| NodeNo::of(id).is_some_and(|no| nodes.contains(&no));
    let recoveries = count(run, from, |kind| matches!(kind, EventKind::PathRecovered { node, .. } if is_nodes(node)));
    let rules = |said: &Said| {
        let direct = |n| said.paths.get(n).is_some_and(|p| p.source == Source::Direct);
        nodes.iter().all(direct)
    };
    let at = run.record.published.iter().find(|p| p.at > from && rules(&p.said));
    (Some(recoveries), at.map(|p| p.at - from))
}

/// Scores a trial of its schedule's first fault.
///
/// # Panics
/// When the schedule is empty.
pub fn score(run: &Run) -> Score {
    let entry = run.schedule.0.first().expect("a trial has a fault");
    let row = entry.fault.row;
    let spec = row.spec();
    let judge = Judge { row, run, struck: &run.struck[0] };
    let (start, end) = (entry.start, entry.end());
    let empty = Said::default();
    let last = run.record.at(end).unwrap_or(&empty);
    let (recoveries, back) = hand_back(run, &run.struck_nodes[0], end);
    let right = |said: &Said| judge.state_is_right(said) && judge.cause_is_right(said, 1);
    let time = match spec.when {
        When::Within(_) => judge.first(start, end, right),
        When::AfterProof(_) => judge.first(start + PROOF_AFTER, end, right),
        When::AfterHeal(_) => back,
        When::LeaderWithin(_) => {
            let before = run.record.led.iter().rev().find(|led| led.at <= start).and_then(|led| led.leader);
            let after =
                run.record.led.iter().find(|led| led.at > start && led.leader.is_some() && led.leader != before);
            after.map(|led| led.at - start)
        }
        When::NoAlarm => None,
    };
    let state = match spec.when {
        When::NoAlarm => judge.always(start, run.lasted, |said| judge.state_is_right(said)),
        When::Within(_) | When::AfterProof(_) | When::LeaderWithin(_) | When::AfterHeal(_) => {
            judge.state_is_right(last)
        }
    };
    let cause = |rank| match spec.told {
        Told::Nothing => judge.always(start, run.lasted, |said| judge.cause_is_right(said, rank)),
        // Its replacement takes the note away again.
        Told::LostWatcher => judge.first(start, end, |said| judge.cause_is_right(said, rank)).is_some(),
        Told::Fault | Told::Note | Told::DeafManager | Told::Anything => judge.cause_is_right(last, rank),
    };
    let (false_down, false_lost) = false_alarms(run);
    let opened = |kind: &EventKind| matches!(kind, EventKind::IncidentOpened { .. });
    Score {
        seed: run.seed,
        state: Mark::of(state),
        top1: Mark::of(cause(1)),
        top3: Mark::of(cause(3)),
        advice: Mark::of(judge.all(last, |vm| spec.advice.contains(&vm.advice.as_str()))),
        time,
        false_down,
        false_lost,
        recoveries,
        hand_back: back,
        incidents: count(run, start, opened),
        notices: count(run, start, EventKind::is_notification),
        log_broken: run.record.log_broken.len(),
        said: summary(last, judge.struck),
    }
}

/// Returns what is said of these VMs in one line.
pub fn summary(said: &Said, vms: &[VmNo]) -> String {
    let list = |faults: &[Fault]| {
        let each = faults.iter().map(|fault| {
            let causes: Vec<String> = fault.causes.iter().map(|c| format!("{} {}", c.cause, c.score)).collect();
            format!("[{}]{}", causes.join(" "), fault.detail)
        });
        each.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = Vec::new();
    for vm in vms.iter().filter_map(|vm| said.vms.get(vm)) {
        let text = format!(
            "{} by {} {} notes {} advice {}",
            vm.state,
            vm.source,
            list(&vm.faults),
            list(&vm.notes),
            vm.advice.as_str()
        );
        if !lines.contains(&text) {
            lines.push(text);
        }
    }
    let incidents: Vec<String> = said.incidents.iter().map(|i| format!("{}: {}", i.scope, i.fault)).collect();
    format!("{}; incidents: {}; deaf: {}", lines.join(" | "), incidents.join(", "), said.deaf.len())
}
