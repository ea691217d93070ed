//! What the detector can tell of the evidence that it holds, for `/evidence` and for people.

use std::time::Duration;

use vouch_types::{
    Fault, HypervisorState, Moment, Network, NodeId, Outcome, ProbeName, Source, VmId, VmState, WatcherId,
};

use crate::Detector;
use crate::node_track::Phase;

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
    /// Why, for people.
    pub message: String,
    /// How long ago the last such check began.
    pub age: Duration,
    /// Failures in a row.
    pub failures: u32,
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
    /// Returns the evidence on a VM, or `None` when it is not recorded.
    pub fn evidence(&self, now: Moment, id: &VmId) -> Option<VmEvidence> {
        let vm = self.vms.get(id)?;
        let node = self.nodes.get(&vm.entry.node)?;
        let (judged, _) = self.judge(now, vm)?;
        let fresh = self.fresh_checks(now, vm);
        let checks = vm.checks.iter().map(|((watcher, network, probe), check)| {
            let begun = self.begun_now(check);
            let counted = fresh.iter().find(|c| c.watcher == *watcher && c.network == *network && c.probe == probe);
            let discounted = match counted {
                None => Some("too old, or its watcher is not live"),
                Some(c) if !c.proven => Some("this probe has never succeeded for this vm"),
                Some(c) if !c.healthy && c.outcome == Outcome::Down => Some("its watcher is not healthy"),
                Some(_) => None,
            };
            CheckView {
                watcher: *watcher,
                network: *network,
                probe: probe.clone(),
                outcome: check.last.outcome,
                reason: check.last.reason.clone(),
                message: check.last.message.clone(),
                age: now.since(begun),
                failures: check.failures(begun, &self.timing),
                discounted,
            }
        });
        Some(VmEvidence {
            vm: *id,
            node: node.entry.node.clone(),
            source: match node.phase {
                Phase::Direct | Phase::Suspect { .. } => Source::Direct,
                Phase::Cut { .. } => Source::Watcher,
            },
            node_heard: node.last_direct().map(|at| now.since(at)),
            word: vm.word.as_ref().map(|(w, at)| (w.state, now.since(*at))),
            statement: vm.statement.as_ref().map(|(s, at, by)| (s.state, now.since(*at), *by)),
            checks: checks.collect(),
            state: judged.state,
            faults: judged.faults,
            reason: judged.reason,
            used: Vec::new(),
            discounted: Vec::new(),
            would_change: Vec::new(),
        })
    }
}
