//! I5: one recovery event per heal.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use vouch_types::Source;
use world::schedule::{any_change, config, play, schedule};
use world::{SimWorld, Told};

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn every_recovery_ends_exactly_one_cut(steps in schedule(any_change())) {
        let mut w = SimWorld::new();
        w.run(Duration::from_secs(5));
        w.told.clear();
        play(&mut w, &steps);
        let mut open = [false; 2];
        for t in &w.told {
            if let Told::Path { node, to, recovered, .. } = t {
                // A path that flaps is told to be open by its faults until it is clear.
                prop_assert!(!*recovered || open[*node], "a recovery without a cut: {:?}", w.told);
                open[*node] = !*recovered;
                prop_assert!(*recovered || *to == Source::Watcher || open[*node]);
            }
        }
    }

    #[test]
    fn a_cut_that_heals_is_told_twice_in_all(cut_ms in 3_000u64..20_000, node in 0usize..2) {
        let mut w = SimWorld::new();
        w.run(Duration::from_secs(5));
        w.told.clear();
        w.truth[node].paths = [false; 2];
        w.run(Duration::from_millis(cut_ms));
        w.truth[node].paths = [true; 2];
        w.run(Duration::from_secs(10));
        prop_assert_eq!(w.told.len(), 2, "{:?}", w.told);
        let recovered = matches!(w.told[1], Told::Path { recovered: true, .. });
        prop_assert!(recovered);
    }
}
