//! What was recorded of the world, in order, and what tests read from that.

use std::time::Duration;

use vouch_types::{Moment, Source, VmState, WatcherId};

use super::SimWorld;

const SECOND: Duration = Duration::from_secs(1);

/// One thing that was recorded.
#[derive(Clone, PartialEq, Debug)]
pub enum Told {
    State { at: Moment, vm: usize, from: VmState, to: VmState, faults: Vec<String> },
    Path { at: Moment, node: usize, to: Source, faults: Vec<String>, recovered: bool },
    WatcherLost { at: Moment, watcher: WatcherId },
    Incident { at: Moment, scope: String, opened: bool },
}

/// A world that has run for long enough to be judged.
pub fn settled() -> SimWorld {
    let mut w = SimWorld::new();
    w.run(SECOND * 5);
    assert_eq!([w.state(0), w.state(1)], [VmState::Up; 2]);
    assert_eq!(w.path(0).source, Source::Direct);
    w.told.clear();
    w
}

pub fn states(w: &SimWorld) -> Vec<VmState> {
    let mut out = vec![];
    for t in &w.told {
        if let Told::State { from, to, .. } = t
            && from != to
        {
            out.push(*to);
        }
    }
    out
}

pub fn recoveries(w: &SimWorld) -> usize {
    w.told.iter().filter(|t| matches!(t, Told::Path { recovered: true, .. })).count()
}
