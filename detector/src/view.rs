//! What the detector can tell of the evidence that it holds, for `/evidence` and for people.

use std::time::Duration;

use vouch_types::{
    Advice, Fault, HypervisorState, Moment, Network, NodeId, Outcome, ProbeName, Source, VmId, VmState, WatcherId,
};

use crate::Detector;
use crate::check::CheckTrack;
use crate::judge::guest::Check;
use crate::judge::vm::{Base, Booting, Life, VmInputs, VmJudgement, judge_vm};
use crate::node_track::{NodeTrack, Phase};
use crate::vm_track::VmTrack;

/// One observer's standing word with one probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckView {
    /// Who looked.
    pub watcher: WatcherId,
    /// Over which network.
    pub network: Network,
    /// With which probe.
    pub probe: ProbeName,
    /// What it came to.
    pub outcome: Outcome,
    /// Why, as one word.
    pub reason: String,
    /// How long ago the last such check began.
    pub age: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// Failures in a row that silence takes on this path; 0 where it does not fail.
    pub needed: u32,
    /// Whether it counts now; else why it is discounted.
    pub discounted: Option<&'static str>,
}

/// All evidence on one VM as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmEvidence {
    /// The VM.
    pub vm: VmId,
    /// Its node.
    pub node: NodeId,
    /// Where its base state comes from now.
    pub source: Source,
    /// How long ago any manager heard the node; `None` when none ever did.
    pub node_heard: Option<Duration>,
    /// The node's own last word, and its age.
    pub word: Option<(HypervisorState, Duration)>,
    /// The last statement, its age, and who carried it.
    pub statement: Option<(HypervisorState, Duration, WatcherId)>,
    /// What probes saw.
    pub checks: Vec<CheckView>,
    /// What would be said by this evidence.
    pub state: VmState,
    /// Faults by this evidence.
    pub faults: Vec<Fault>,
    /// Why.
    pub reason: String,
    /// The evidence that the judgement rests on, one sentence each.
    pub used: Vec<String>,
    /// The evidence that does not count, each with why.
    pub discounted: Vec<String>,
    /// What would make the judgement another one.
    pub would_change: Vec<String>,
}

impl Detector {
    /// Returns the evidence on a VM and how the verdict follows from it, or `None` when it is not recorded.
    pub fn evidence(&self, now: Moment, id: &VmId) -> Option<VmEvidence> {
        let vm = self.vms.get(id)?;
        let node = self.nodes.get(&vm.entry.node)?;
        let inputs = self.inputs(now, vm, node);
        let judged = judge_vm(&inputs);
        let mut explained = Explained::default();
        explained.base(now, vm, node, &inputs);
        explained.remembered(self.remembered_claims(vm));
        let checks: Vec<CheckView> =
            vm.checks.iter().map(|check| self.check_view(now, vm, check, &inputs.checks)).collect();
        for check in &checks {
            explained.check(check, inputs.checks.iter().find(|c| check.is_of(c)));
        }
        explained.suppression(&inputs);
        explained.minds(&judged, &inputs);
        Some(VmEvidence {
            vm: *id,
            node: node.entry.node.clone(),
            source: match node.phase {
                Phase::Direct | Phase::Suspect { .. } => Source::Direct,
                Phase::Cut { .. } => Source::Watcher,
            },
            node_heard: node.last_direct().map(|at| now.since(at)),
            word: vm.word.as_ref().map(|(w, at)| (w.state, now.since((*at).max(node.others_read)))),
            statement: vm.statement.as_deref().map(|(s, at, by)| (s.state, now.since(*at), *by)),
            checks,
            state: judged.state,
            faults: judged.faults,
            reason: judged.reason,
            used: explained.used,
            discounted: explained.discounted,
            would_change: explained.would_change,
        })
    }

    fn check_view(&self, now: Moment, vm: &VmTrack, check: &CheckTrack, fresh: &[Check<'_>]) -> CheckView {
        let begun = self.begun_now(check);
        let counted = fresh.iter().find(|c| check.is_of(c.watcher, c.network, c.probe));
        let discounted = match counted {
            None => Some("too old, or its watcher is not live"),
            Some(c) if !c.proven => Some("this probe has never succeeded for this vm"),
            Some(c) if c.outcome == Outcome::Unknown => Some("it could not look"),
            Some(c) if !c.healthy && c.outcome != Outcome::Up => {
                Some("its watcher is not healthy, or reaches nothing beyond its own node")
            }
            Some(_) => None,
        };
        CheckView {
            watcher: check.watcher,
            network: check.network,
            probe: check.probe.clone(),
            outcome: vm.counted(check).0,
            reason: counted.map_or_else(|| check.reason.to_string(), |c| c.reason.to_owned()),
            age: now.since(begun),
            failures: check.failures(begun, self.probe_interval(vm, check)),
            needed: counted.map_or(0, |c| c.needed),
            discounted,
        }
    }
}

impl CheckView {
    fn is_of(&self, check: &Check<'_>) -> bool {
        self.watcher == check.watcher && self.network == check.network && self.probe == *check.probe
    }
}

/// Sentences on what a judgement rests on.
#[derive(Debug, Default)]
struct Explained {
    used: Vec<String>,
    discounted: Vec<String>,
    would_change: Vec<String>,
}

fn seconds(age: Duration) -> String {
    format!("{:.1} s ago", age.as_secs_f64())
}

impl Explained {
    fn base(&mut self, now: Moment, vm: &VmTrack, node: &NodeTrack, inputs: &VmInputs<'_>) {
        let id = &node.entry.node;
        let word = vm.word.as_ref().map(|(word, at)| (word, seconds(now.since((*at).max(node.others_read)))));
        match (inputs.base, word) {
            (Base::Direct(_), Some((word, age))) => {
                self.used
                    .push(format!("node {id} said {age} that it is {:?}; it gets on: {}", word.state, word.progress));
            }
            (Base::Stated(state, carrier), _) => {
                self.used.push(format!("node {id} stated through {carrier}, signed, that it is {state:?}"));
            }
            (Base::None(life), word) => {
                if let Some((word, age)) = word {
                    self.discounted.push(format!(
                        "node {id} said {age} that it is {:?}: no manager hears that node now",
                        word.state
                    ));
                }
                self.used.push(match life {
                    Life::Seen(watcher) => format!("{watcher} saw the vm itself within the window"),
                    Life::NodeLives(watcher) => format!("{watcher} hears its node, or runs on it and is heard"),
                    Life::Silent => "nothing is heard of it, not yet for long enough".to_owned(),
                    Life::SilentForLong => "nothing has been heard of it on any path for long enough".to_owned(),
                });
            }
            (Base::Direct(_), None) => {}
        }
        for claim in &vm.claims {
            let age = seconds(now.since(claim.begun));
            self.discounted
                .push(format!("node {} said {age} that it is {:?}, and does not own it", claim.node, claim.word.state));
        }
        if let Some(proof) = inputs.fence {
            self.used.push(format!(
                "log index {} proves that node {id} does not run ({})",
                proof.index,
                proof.kind.as_str()
            ));
        }
    }

    /// What is recorded of other nodes, of which this manager has heard nothing itself.
    fn remembered<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeId>) {
        let line =
            |node| format!("node {node} executed it by the last that was heard of that node, and does not own it");
        self.used.extend(nodes.map(line));
    }

    fn check(&mut self, view: &CheckView, counted: Option<&Check<'_>>) {
        let where_from = if counted.is_some_and(|c| c.local) { "on its node" } else { "on another node" };
        let mut line = format!(
            "{} ({where_from}) found {} over {} {} {}",
            view.watcher,
            view.probe,
            view.network,
            match view.outcome {
                Outcome::Up => "up",
                Outcome::Degraded => "degraded",
                Outcome::Down => "down",
                Outcome::Unknown => "unknown",
            },
            seconds(view.age)
        );
        if !view.reason.is_empty() {
            line.push_str(&format!(" ({})", view.reason));
        }
        if view.outcome == Outcome::Down && view.needed > 0 {
            line.push_str(&format!(", {} failures in a row of the {} that silence takes", view.failures, view.needed));
        }
        match view.discounted {
            None => self.used.push(line),
            Some(why) => self.discounted.push(format!("{line}: {why}")),
        }
    }

    fn suppression(&mut self, inputs: &VmInputs<'_>) {
        if let Some(operation) = inputs.operation {
            self.used.push(format!("its node says that an operation is under way: {operation}"));
        }
        if !inputs.maintenance.is_empty() {
            self.used.push(format!("{} covers it: nothing is said against it", inputs.maintenance));
        }
        match inputs.booting {
            Booting::No => {}
            Booting::Partly(_) => {
                self.used.push("its guest has begun to answer, and its services may still come up".to_owned())
            }
            Booting::Starting | Booting::Rebooting => self.used.push("its guest boots, within its budget".to_owned()),
            Booting::Overdue => self.used.push("its guest's boot budget is over".to_owned()),
        }
        if let Some((scope, fault)) = &inputs.service_cut {
            self.used.push(format!("{scope}: {fault}"));
        }
    }

    fn minds(&mut self, judged: &VmJudgement, inputs: &VmInputs<'_>) {
        let mut add = |line: &str| self.would_change.push(line.to_owned());
        match judged.state {
            VmState::Up => {
                add("its node's word that it is paused, stopped, panicked or gone");
                add("a service that both watchers find closed, wedged or silent for long enough");
            }
            VmState::Degraded => add("one success of the probe that fails, by any watcher"),
            VmState::Hung => {
                add("one answer to any probe, or counters of its node that move");
                if judged.advice == Advice::None {
                    add("the same for a few seconds longer: then a restart is advised");
                }
            }
            VmState::Lost => {
                add("an answer of the vm, its node's relay or the watcher on its node: up again");
                add("a proof that its node is off or fenced: down, and safe to restart elsewhere");
            }
            VmState::Down => add("its node's word that it runs, with a new start"),
            VmState::Paused => add("its node's word that it runs"),
            VmState::Rebooting => add("an answer of its guest, or the end of its boot budget"),
            VmState::Stopped => add("its node's word that it runs"),
            VmState::Conflict => add("one of the two nodes no longer executes it"),
            VmState::Unknown => add("a first word of its node"),
        }
        if matches!(inputs.base, Base::None(_)) {
            add("a fresh report of its node: then the node's own word rules again");
        }
    }
}
