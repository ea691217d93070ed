//! I2: no `lost` while an observer has seen the VM, its node's relay, or a watcher on its node within the window.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use vouch_types::{Moment, VmState};
use world::schedule::{any_change, play, schedule};
use world::{NODES, STEP, SimWorld, Told};

/// Returns whether the truth lets any observer reach the VM, the relay of its node, or the watcher on its node.
fn within_reach(w: &SimWorld, i: usize) -> bool {
    let t = w.truth[i];
    let other = w.truth[1 - i];
    let local_watcher = t.watcher && t.power;
    let other_watcher = other.watcher && other.power;
    let sees_vm = t.power && t.vm && t.cable && t.rdp;
    let reaches_relay = t.power && t.agent && t.uplink && other.uplink;
    local_watcher || (other_watcher && (sees_vm || reaches_relay))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_vm_within_reach_is_not_lost(steps in schedule(any_change())) {
        let mut w = SimWorld::new();
        w.run(Duration::from_secs(5));
        let mut reached = [w.now; NODES];
        for (node, change, time) in steps {
            play(&mut w, &[(node, change, Duration::ZERO)]);
            let end = w.now + time;
            while w.now < end {
                let told = w.told.len();
                for (i, at) in reached.iter_mut().enumerate() {
                    if within_reach(&w, i) {
                        *at = w.now;
                    }
                }
                w.run(STEP);
                for t in &w.told[told..] {
                    if let Told::State { at, vm, to: VmState::Lost, .. } = t {
                        let unreached: Duration = at.since(reached[*vm]);
                        // Observers look once a second: what is reachable is seen at the latest a look later.
                        prop_assert!(unreached >= Duration::from_millis(2_000 - 1_000), "{t:?} after {unreached:?}");
                        prop_assert!(*at > Moment::ZERO);
                    }
                }
            }
        }
    }
}
