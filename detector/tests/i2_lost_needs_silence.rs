//! I2: no `lost` while an observer has seen the VM, its node's relay, or a watcher on its node within the window.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use vouch_types::{Moment, VmState};
use world::schedule::{any_change, config, play, schedule};
use world::{NODES, STEP, SimWorld, Told};

/// Returns whether the truth lets any observer reach the VM, the relay of its node, or the watcher on its node.
fn within_reach(w: &SimWorld, i: usize) -> bool {
    let t = w.truth[i];
    let other = w.truth[1 - i];
    let local_watcher = t.watcher && t.power && w.is_live(i);
    let other_watcher = other.watcher && other.power && w.is_live(1 - i);
    let sees_vm = t.power && t.vm && t.cable && t.rdp;
    let reaches_relay = t.power && t.agent && t.uplink && other.uplink;
    local_watcher || (other_watcher && (sees_vm || reaches_relay))
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn a_vm_within_reach_is_not_lost(steps in schedule(any_change())) {
        let mut w = SimWorld::new();
        w.run(Duration::from_secs(5));
        // Observers look once a second: what has been within reach for so long has been seen, and what went out of
        // reach was seen a second before that at the latest.
        let look = Duration::from_millis(1_050);
        let window = Duration::from_millis(2_000);
        let mut reach_began: [Option<Moment>; NODES] = [Some(Moment::ZERO); NODES];
        let mut seen = [w.now; NODES];
        for (node, change, time) in steps {
            play(&mut w, &[(node, change, Duration::ZERO)]);
            let end = w.now + time;
            while w.now < end {
                let told = w.told.len();
                for i in 0..NODES {
                    reach_began[i] = within_reach(&w, i).then(|| reach_began[i].unwrap_or(w.now));
                    if reach_began[i].is_some_and(|began| w.now.since(began) >= look) {
                        seen[i] = w.now;
                    }
                }
                w.run(STEP);
                for t in &w.told[told..] {
                    if let Told::State { at, vm, to: VmState::Lost, .. } = t {
                        let unseen = at.since(seen[*vm]);
                        prop_assert!(unseen + look >= window, "{t:?} after {unseen:?}");
                    }
                }
            }
        }
    }
}
