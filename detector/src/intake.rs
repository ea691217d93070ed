//! Takes the words of nodes and watchers into evidence. Nothing is judged here.

use std::collections::BTreeSet;

use vouch_types::{HypervisorState, Moment, NodeId, Observation, PauseReason, Statement, VmId, WatcherId};

use crate::node_track::ReportKey;
use crate::suspicion::Look;
use crate::watcher_track::WatcherProcess;
use crate::{Detector, NodeReport, VmWord};

impl Detector {
    pub(crate) fn take_report(&mut self, now: Moment, report: NodeReport) {
        if !self.managers.contains_key(&report.manager) {
            self.dropped += 1;
            return;
        }
        let Some(track) = self.nodes.get_mut(&report.node) else {
            self.dropped += 1;
            return;
        };
        // A moment that has not come yet is no moment of this clock.
        let begun = report.begun.min(now);
        let key = ReportKey { boot: report.boot, incarnation: report.incarnation, sequence: report.sequence };
        let stale = track
            .report
            .is_some_and(|(known, _)| (key.incarnation, key.sequence) < (known.incarnation, known.sequence));
        if stale {
            return;
        }
        // The same report comes over several streams and managers: each of them is a path that was heard.
        track.hear(report.manager, begun);
        let read = track.report.map_or(begun, |(_, known)| known.max(begun));
        track.report = Some((key, read));
        let service_changed = track.hypervisor != report.hypervisor;
        track.hypervisor = report.hypervisor;
        if !report.full {
            // VMs that did not change are as they were, and read again just now.
            track.others_read = track.others_read.max(begun);
        }
        let local_watchers = track.local_watchers.clone();
        let owned: Vec<VmId> = if report.full { track.vms.iter().copied().collect() } else { Vec::new() };
        let node = report.node.clone();
        let named: BTreeSet<VmId> =
            if report.full { report.vms.iter().map(|word| word.vm).collect() } else { BTreeSet::new() };
        for word in report.vms {
            self.take_word(now, &node, word, begun);
        }
        if report.full {
            for id in owned.into_iter().filter(|id| !named.contains(id)) {
                if let Some(vm) = self.vms.get_mut(&id) {
                    vm.unnamed = true;
                    vm.word = None;
                    self.mark(id);
                }
            }
            // What a full report does not name is not on the node, as far as it says.
            for id in self.claimed.clone() {
                if !named.contains(&id)
                    && let Some(vm) = self.vms.get_mut(&id)
                {
                    vm.claims.retain(|claim| claim.node != node);
                    self.mark(id);
                }
            }
        }
        if service_changed {
            self.dirty_node(&node);
        }
        for id in &local_watchers {
            let Some(track) = self.watchers.get_mut(id) else { continue };
            let told = report.watchers.iter().find(|(watcher, _)| *watcher == track.entry.watcher);
            track.process = told.map(|(_, state)| match state {
                HypervisorState::Gone(_) | HypervisorState::Stopped => WatcherProcess::Gone,
                HypervisorState::Running
                | HypervisorState::Paused(_)
                | HypervisorState::Rebooting
                | HypervisorState::Panicked
                | HypervisorState::Unknown => WatcherProcess::There,
            });
        }
        self.advance_node(now, &node);
    }

    fn take_word(&mut self, now: Moment, node: &NodeId, word: VmWord, begun: Moment) {
        let id = word.vm;
        let Some(vm) = self.vms.get_mut(&id) else {
            self.dropped += 1;
            return;
        };
        if vm.entry.node != *node {
            // A node speaks only for VMs that it owns: another one's word is a claim, and no more.
            vm.claim(node, word, begun, now);
            self.claimed.insert(id);
            self.mark(id);
            return;
        }
        let told = word.generation.get();
        if told != 0 && word.generation != vm.entry.generation {
            return;
        }
        // A monitor that has not answered yet says nothing; one that answered before and is silent now does.
        let answered = vm.word.as_ref().is_some_and(|(known, _)| known.start == word.start);
        if word.state == HypervisorState::Unknown && !answered {
            return;
        }
        if word.state == HypervisorState::Paused(PauseReason::IoError) {
            self.io_paused.insert(id);
        } else {
            self.io_paused.remove(&id);
        }
        let unchanged = vm.word.as_ref().is_some_and(|(known, _)| *known == word);
        if vm.suspicion.rounds > 0 {
            // Its word may excuse it, and leave its place to another one.
            self.suspects.look = Look::Now;
        }
        vm.hear(word, begun, now);
        if !unchanged {
            self.mark(id);
        }
    }

    pub(crate) fn take_statement(&mut self, watcher: WatcherId, statement: Statement, begun: Moment) {
        // Only an answer to an ask of this manager's own is fresh beyond doubt: a carrier could keep an old one back.
        let Some(asked) = self.asks.get(statement.nonce, watcher).map(|ask| ask.at) else { return };
        let begun = begun.max(asked);
        // Reports and statements are numbered by one counter: what was said before the last report is overtaken by it.
        let reported = self.nodes.get(&statement.node).and_then(|node| node.report);
        let overtaken = reported.is_some_and(|(key, _)| {
            (statement.incarnation, statement.sequence) < (key.incarnation, key.sequence)
                || (statement.incarnation == key.incarnation && statement.boot != key.boot)
        });
        let Some(vm) = self.vms.get_mut(&statement.vm) else { return };
        let earlier_start = vm.word.as_ref().is_some_and(|(word, _)| statement.start < word.start);
        if overtaken || earlier_start {
            self.dropped += 1;
            return;
        }
        let id = statement.vm;
        if vm.suspicion.rounds > 0 {
            self.suspects.look = Look::Now;
        }
        if vm.state(statement, begun, watcher) {
            self.mark(id);
        }
    }

    pub(crate) fn take_observation(&mut self, mut seen: Observation) {
        seen.begun = self.begun_of(seen.begun, seen.asked, seen.watcher);
        let (id, watcher) = (seen.vm, seen.watcher);
        let slack = self.timing.window / 2;
        let Some(vm) = self.vms.get_mut(&id) else {
            self.dropped += 1;
            return;
        };
        if !vm.observers.contains(&watcher) {
            self.dropped += 1;
            return;
        }
        // The confirmation that comes with this very report does not speak of what the report tells apart.
        let next = self.watchers.get(&watcher).map_or(0, |w| w.confirmations.wrapping_add(2));
        let Some((at, changed)) = vm.see(seen, slack) else { return };
        vm.checks[at].covered_from = next;
        if changed {
            self.mark(id);
        }
    }
}
