//! What changed of the records since the detector was told of them last.

use std::time::Duration;

use vouch_types::Moment;

use crate::raft::Notice;
use crate::store::Changes;

/// How long changes gather after the detector was told of others. Each telling makes it look at every node once.
const GATHERED_FOR: Duration = Duration::from_millis(10);

/// What to tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Gathered {
    /// Nothing.
    #[default]
    Nothing,
    /// What these touched.
    Changes(Box<Changes>),
    /// All records.
    Whole,
}

/// Gathers notices. Pure: who calls it knows the time.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    gathered: Gathered,
    not_before: Moment,
}

impl Gathering {
    /// Adds what a notice tells.
    pub(super) fn add(&mut self, notice: &Notice) {
        match (notice, &mut self.gathered) {
            (Notice::Changed { changes, .. }, Gathered::Changes(all)) => all.merge((**changes).clone()),
            (Notice::Changed { changes, .. }, all @ Gathered::Nothing) => {
                *all = Gathered::Changes(Box::new((**changes).clone()))
            }
            // It is told as it is by then.
            (Notice::Changed { .. }, Gathered::Whole) => {}
            (Notice::Replaced, all) => *all = Gathered::Whole,
        }
    }

    /// Returns when to tell what there is, if there is anything.
    pub(super) fn due(&self) -> Option<Moment> {
        (self.gathered != Gathered::Nothing).then_some(self.not_before)
    }

    /// Returns what to tell.
    pub(super) fn take(&mut self) -> Gathered {
        std::mem::take(&mut self.gathered)
    }

    /// Notes that the detector was told, which took so long: what comes now gathers for as long at least.
    pub(super) fn told(&mut self, now: Moment, took: Duration) {
        self.not_before = now + took.max(GATHERED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vouch_types::{LogIndex, NodeId};

    use super::*;

    fn changed(node: &str) -> Notice {
        let changes = Changes { nodes: [NodeId::new(node).unwrap()].into(), ..Changes::default() };
        Notice::Changed { index: LogIndex::new(1), changes: Arc::new(changes) }
    }

    #[test]
    fn the_first_change_is_told_at_once_and_those_that_follow_together() {
        let mut gathering = Gathering::default();
        assert_eq!((gathering.due(), gathering.take()), (None, Gathered::Nothing));
        let now = Moment::default() + Duration::from_secs(5);
        gathering.add(&changed("n1"));
        assert!(gathering.due().unwrap() <= now);
        assert!(matches!(gathering.take(), Gathered::Changes(changes) if changes.nodes.len() == 1));
        gathering.told(now, Duration::from_millis(1));
        assert_eq!(gathering.due(), None);
        gathering.add(&changed("n2"));
        gathering.add(&changed("n3"));
        assert_eq!(gathering.due(), Some(now + GATHERED_FOR));
        assert!(matches!(gathering.take(), Gathered::Changes(changes) if changes.nodes.len() == 2));
        gathering.told(now, GATHERED_FOR * 4);
        gathering.add(&changed("n2"));
        assert_eq!(gathering.due(), Some(now + GATHERED_FOR * 4), "half of the time at most");
    }

    #[test]
    fn a_replaced_state_is_told_whole_whatever_changed_before_and_after() {
        let mut gathering = Gathering::default();
        for notice in [changed("n1"), Notice::Replaced, changed("n2")] {
            gathering.add(&notice);
        }
        assert_eq!((gathering.take(), gathering.take()), (Gathered::Whole, Gathered::Nothing));
    }
}
