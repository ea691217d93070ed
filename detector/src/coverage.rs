//! Who does not hear what others hear, and which watchers are lost.

use vouch_types::event::ManagerNote;
use vouch_types::{ManagerId, Moment, WatcherId, WatcherLife};

use crate::Detector;
use crate::node_track::NodeTrack;
use crate::watcher_track::WatcherProcess;

/// How many times longer than `watcher_lost_after` a watcher may be silent whose process runs.
const SLOW_WATCHER_PATIENCE: u32 = 10;

impl Detector {
    /// Returns whether a manager tells what it hears: one that is silent itself is not deaf, and the last that it heard
    /// is as old as the last that it said.
    pub(crate) fn speaks(&self, now: Moment, manager: ManagerId) -> bool {
        let heard = self.managers.get(&manager).copied().flatten();
        manager == self.own || heard.is_some_and(|at| now.since(at) < self.timing.suspect_after())
    }

    /// Returns whether a manager has not heard a node for so long that it is noted.
    pub(crate) fn is_deaf(&self, now: Moment, node: &NodeTrack, manager: ManagerId) -> bool {
        let own = node.last_heard_by(manager).unwrap_or_default().max(self.listening.since());
        now.since(own) >= self.deaf_after() && !node.is_new(now, self.deaf_after())
    }

    pub(crate) fn notes(&self, now: Moment) -> Option<Vec<ManagerNote>> {
        if !self.listening.covers(now, self.timing.window) {
            return None;
        }
        let mut notes = Vec::new();
        for manager in self.managers.keys().copied().filter(|m| self.speaks(now, *m)) {
            for (id, node) in &self.nodes {
                if node.is_direct(now, &self.timing) && self.is_deaf(now, node, manager) {
                    notes.push(ManagerNote { manager, node: id.clone() });
                }
            }
        }
        (notes != self.recorded_notes).then_some(notes)
    }

    pub(crate) fn lost_watchers(&self, now: Moment) -> Vec<(WatcherId, String)> {
        let may_judge = self.listening.covers(now, self.timing.window);
        let mut lost = Vec::new();
        for (id, watcher) in &self.watchers {
            let entry = &watcher.entry;
            let node_rules = self.nodes.get(&entry.node).is_some_and(|n| n.is_direct(now, &self.timing));
            if !matches!(entry.life, WatcherLife::Placed | WatcherLife::Live) || !node_rules {
                continue;
            }
            if watcher.process == Some(WatcherProcess::Gone) {
                lost.push((*id, "its node says that its process is gone".to_owned()));
                continue;
            }
            let last = watcher.last_heard().unwrap_or_default().max(watcher.live_since).max(self.listening.since());
            // One that runs may be slow for a while, as its host is; to replace it then is more load on that host. Its
            // word does not count meanwhile.
            let patience = match watcher.process {
                Some(WatcherProcess::There) => self.timing.watcher_lost_after * SLOW_WATCHER_PATIENCE,
                Some(WatcherProcess::Gone) | None => self.timing.watcher_lost_after,
            };
            if entry.life == WatcherLife::Live && may_judge && now.since(last) >= patience {
                lost.push((*id, format!("no manager has heard it for {:.1} s", now.since(last).as_secs_f64())));
            }
        }
        lost
    }
}
