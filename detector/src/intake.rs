//! Takes the words of nodes and watchers into evidence. Nothing is judged here.

use vouch_types::{HypervisorState, Moment, Observation, Statement, WatcherId};

use crate::node_track::ReportKey;
use crate::watcher_track::WatcherProcess;
use crate::{Detector, NodeReport};

impl Detector {
    pub(crate) fn take_report(&mut self, now: Moment, report: NodeReport) {
        let Some(track) = self.nodes.get_mut(&report.node) else { return };
        let key = ReportKey { boot: report.boot, incarnation: report.incarnation, sequence: report.sequence };
        let stale = track
            .report
            .is_some_and(|(known, _)| (key.incarnation, key.sequence) < (known.incarnation, known.sequence));
        if stale {
            return;
        }
        // The same report comes over several streams and managers: each of them is a path that was heard.
        track.hear(report.manager, report.begun);
        let begun = track.report.map_or(report.begun, |(_, known)| known.max(report.begun));
        track.report = Some((key, begun));
        let owned = track.vms.clone();
        let node = report.node.clone();
        for word in report.vms {
            // A node speaks only for VMs that it owns.
            let Some(vm) = owned.contains(&word.vm).then(|| self.vms.get_mut(&word.vm)).flatten() else { continue };
            let told = word.generation.get();
            if told != 0 && word.generation != vm.entry.generation {
                continue;
            }
            // A monitor that has not answered yet says nothing; one that answered before and is silent now does.
            let answered = vm.word.as_ref().is_some_and(|(known, _)| known.start == word.start);
            if word.state == HypervisorState::Unknown && !answered {
                continue;
            }
            self.dirty.insert(word.vm);
            vm.word = Some((word, report.begun));
        }
        if !report.full {
            // VMs that did not change are as they were, and read again just now.
            for id in &owned {
                if let Some((_, read)) = self.vms.get_mut(id).and_then(|vm| vm.word.as_mut()) {
                    *read = (*read).max(report.begun);
                }
            }
        }
        for track in self.watchers.values_mut().filter(|w| w.entry.node == node) {
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
        if vm.state(statement, begun, watcher) {
            self.dirty.insert(id);
        }
    }

    pub(crate) fn take_observation(&mut self, mut seen: Observation) {
        seen.begun = self.begun_of(seen.begun, seen.asked, seen.watcher);
        let watched = self.watchers.get(&seen.watcher).is_some_and(|w| w.entry.vms.contains(&seen.vm));
        if !watched {
            return;
        }
        if let Some(vm) = self.vms.get_mut(&seen.vm) {
            let id = seen.vm;
            vm.see(seen, self.timing.window / 2);
            self.dirty.insert(id);
        }
    }
}
