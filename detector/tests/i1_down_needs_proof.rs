//! I1: no `down` without proof.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use vouch_types::VmState;
use world::schedule::{Change, any_change, config, play, schedule};
use world::{SimWorld, Told};

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn a_vm_is_down_only_after_its_process_ended(steps in schedule(any_change())) {
        let mut w = SimWorld::new();
        w.run(Duration::from_secs(5));
        let mut ended = [false; 2];
        for step in &steps {
            if let (node, Change::Vm(false) | Change::Power(false), _) = step {
                ended[*node] = true;
            }
            let told = w.told.len();
            play(&mut w, std::slice::from_ref(step));
            for t in &w.told[told..] {
                if let Told::State { vm, to: VmState::Down, .. } = t {
                    prop_assert!(ended[*vm], "{t:?}");
                }
            }
        }
    }
}
