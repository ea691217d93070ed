//! What is to be recorded of the paths to nodes.

use vouch_types::command::PathChange;
use vouch_types::{Cause, Fault, IncidentScope, ManagerId, Moment, Network, NodeId, Source};

use crate::judge::path::{NodeLife, PathJudgement, judge_path};
use crate::node_track::{Candidate, NodeTrack, Phase};
use crate::verdicts::clip;
use crate::{Detector, ServiceWord};

/// What is said of a path that is well again.
const HEARD_AGAIN: &str = "a manager hears the node again";
/// How far a loss has to move, in per cent, before the recorded one is said again.
const LOSS_STEP_PER_CENT: u16 = 5;

impl Detector {
    /// Returns what is to be said of the paths to a node; `None` while that is not clear.
    pub(crate) fn path_judgement(&self, now: Moment, node: &NodeTrack) -> Option<(Source, PathJudgement)> {
        match &node.phase {
            Phase::Direct if node.is_direct(now, &self.timing) && node.report.is_some() => {
                Some((Source::Direct, self.direct_judgement(now, node)))
            }
            Phase::Direct | Phase::Suspect { .. } => None,
            Phase::Cut { floor, .. } => {
                // Its heartbeats come, and it has none of theirs: its words stall for want of a way to acknowledge them.
                if !node.deaf_to(now).is_empty() {
                    let cause = Cause::OneWay { from: "managers".to_owned(), to: node.entry.node.to_string() };
                    let reason = "the node's heartbeats come, and it hears no manager's".to_owned();
                    let faults = vec![Fault::sure(cause)];
                    return Some((Source::Watcher, PathJudgement { faults, reason, life: NodeLife::Lives }));
                }
                let shared = self.groups.cause_of(node.entry.rack.as_deref());
                let witnesses = self.witnesses(now, node, *floor);
                Some((Source::Watcher, judge_path(&node.entry.node, &witnesses, shared)))
            }
        }
    }

    /// What is broken of a path that is heard.
    fn direct_judgement(&self, now: Moment, node: &NodeTrack) -> PathJudgement {
        let mut faults = Vec::new();
        let mut reason = String::new();
        let mut say = |fault: Fault, why: String| {
            if reason.is_empty() {
                reason = why;
            }
            faults.push(fault);
        };
        if node.hypervisor == ServiceWord::Silent {
            let fault = Fault::sure(Cause::Hypervisor).with_detail("not answering");
            say(fault, "the node says that its hypervisor service does not answer it".to_owned());
        }
        if node.is_flapping(now) {
            say(Fault::sure(Cause::ManagerNodePath).with_detail("flapping"), "the path comes and goes".to_owned());
        }
        for (from, to) in self.one_ways(now, node) {
            let why = format!("{to} does not hear {from}, which hears it");
            say(Fault::sure(Cause::OneWay { from, to }), why);
        }
        for network in Network::ALL {
            // What all nodes share is an incident of the network, and no node's fault.
            let shared = self.groups.networks_lossy.contains(&network)
                || self.recorded_incidents.contains_key(&IncidentScope::Network(network));
            let told = node.entry.path.faults.iter().filter(|f| *f.top() == Cause::LossyPath);
            let told = told.map(|f| f.detail.as_str()).find(|detail| detail.starts_with(network.as_str()));
            let lossy = self.is_lossy(now, node, network);
            // Who has just begun to listen has not measured enough to say that a loss is over.
            let kept = told.filter(|_| !lossy && self.is_young(now));
            if let Some(detail) = kept.filter(|_| !shared) {
                say(
                    Fault::sure(Cause::LossyPath).with_detail(detail),
                    format!("it was found to lose packets: {detail}"),
                );
            } else if !shared && lossy {
                let measured = self.loss_of(now, node, network).map_or(0, |loss| loss.mean);
                let detail = loss_detail(network, measured, told);
                let why = format!("every path to the node over the {network} network loses packets: {detail}");
                say(Fault::sure(Cause::LossyPath).with_detail(&detail), why);
            }
        }
        if faults.is_empty() {
            HEARD_AGAIN.clone_into(&mut reason);
        }
        PathJudgement { faults, reason, life: NodeLife::Lives }
    }

    /// Returns the directions in which a path to a node carries nothing, while the other one does: who is not heard, and
    /// by whom.
    fn one_ways(&self, now: Moment, node: &NodeTrack) -> Vec<(String, String)> {
        let name = node.entry.node.to_string();
        let deaf_to = node.deaf_to(now);
        let hearing: Vec<ManagerId> = self.managers.keys().copied().filter(|m| self.hears_now(now, node, *m)).collect();
        let mut out: Vec<(String, String)> = Vec::new();
        if deaf_to.len() > 1 && hearing.iter().all(|m| deaf_to.contains(m)) {
            out.push(("managers".to_owned(), name.clone()));
        } else {
            out.extend(deaf_to.iter().map(|m| (m.to_string(), name.clone())));
        }
        // What the relay said lately of managers that do not hear the node.
        let since = now - self.timing.window;
        let relays = node.relay.values().filter(|r| r.reached.is_some_and(|at| at >= since));
        let heard_by_node: std::collections::BTreeSet<ManagerId> =
            relays.flat_map(|r| r.hears.iter().copied()).collect();
        for manager in heard_by_node {
            let deaf = self.managers.contains_key(&manager) && self.is_deaf(now, node, manager);
            if deaf && self.speaks(now, manager) {
                out.push((name.clone(), manager.to_string()));
            }
        }
        out
    }

    fn hears_now(&self, now: Moment, node: &NodeTrack, manager: ManagerId) -> bool {
        node.last_heard_by(manager).is_some_and(|at| now.since(at) < self.timing.suspect_after())
    }

    /// Returns the change of a node's paths that is to be recorded now, if any.
    pub(crate) fn path_change(&mut self, now: Moment, id: &NodeId) -> Option<PathChange> {
        let node = self.nodes.get_mut(id)?;
        if node.entry.path.source == Source::Watcher && node.report.is_some() && node.is_direct(now, &self.timing) {
            node.note_told_recovery(now, &self.timing);
        }
        let node = self.nodes.get(id)?;
        let (source, judged) = self.path_judgement(now, node)?;
        let recorded = &node.entry.path;
        if recorded.source == source && recorded.faults == judged.faults {
            self.nodes.get_mut(id)?.candidate = None;
            return None;
        }
        // That the source changes is said at once; other faults of the same source have to last, or every late answer
        // would be an event. What only a hand-back shows (a loss, a direction) is told after it.
        let (mut faults, mut reason) = (judged.faults, judged.reason);
        let first = recorded.source != source;
        if first && source == Source::Direct {
            faults.retain(|fault| fault.detail == "flapping");
            if faults.is_empty() {
                HEARD_AGAIN.clone_into(&mut reason);
            }
        } else if !first {
            let wait = match source {
                Source::Watcher => self.timing.window,
                Source::Direct => self.settle_time(),
            };
            let since = match &node.candidate {
                Some(c) if same_causes(&c.faults, &faults) => c.since,
                Some(_) | None => now,
            };
            let lasted = now.since(since) >= wait;
            self.nodes.get_mut(id)?.candidate = Some(Candidate { faults: faults.clone(), since });
            if !lasted {
                return None;
            }
        }
        let node = self.nodes.get(id)?;
        let (replaces, hand_backs) = (node.entry.path.version, node.hand_backs.record(now));
        Some(PathChange { node: id.clone(), replaces, source, faults, reason: clip(reason), hand_backs })
    }
}

/// Returns whether two judgements name the same; a loss that is a little more or less is the same.
fn same_causes(a: &[Fault], b: &[Fault]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.causes == b.causes)
}

/// Returns how a loss is told: as it was, while it is about the same.
pub(crate) fn loss_detail(network: Network, per_mille: u16, told: Option<&str>) -> String {
    let per_cent = (per_mille + 5) / 10;
    let before =
        told.and_then(|text| text.strip_prefix(network.as_str())?.trim().strip_suffix(" %")?.parse::<u16>().ok());
    match before {
        Some(before) if before.abs_diff(per_cent) < LOSS_STEP_PER_CENT => format!("{network} {before} %"),
        Some(_) | None => format!("{network} {per_cent} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_moves_a_little_is_told_as_before() {
        let network = Network::Management;
        assert_eq!(loss_detail(network, 304, None), "management 30 %");
        assert_eq!(loss_detail(network, 344, Some("management 30 %")), "management 30 %");
        assert_eq!(loss_detail(network, 356, Some("management 30 %")), "management 36 %");
        assert_eq!(loss_detail(network, 300, Some("service 28 %")), "management 30 %");
    }
}
