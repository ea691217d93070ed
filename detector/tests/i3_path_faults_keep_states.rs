//! I3: while a healthy observer reaches the VM or its node, path and agent faults change only source and faults.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use world::schedule::{config, path_change, play, schedule};
use world::{SimWorld, Told};

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn faults_of_paths_and_agents_never_change_a_state(steps in schedule(path_change())) {
        let mut w = SimWorld::new();
        w.run(Duration::from_secs(5));
        w.told.clear();
        play(&mut w, &steps);
        let changed: Vec<_> = w.told.iter().filter(|t| matches!(t, Told::State { .. })).collect();
        prop_assert!(changed.is_empty(), "{changed:?}");
    }
}
