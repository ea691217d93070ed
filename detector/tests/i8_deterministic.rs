//! I8: the same events in the same order give the same effects.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use proptest::prelude::*;
use world::SimWorld;
use world::schedule::{any_change, config, play, schedule};

proptest! {
    #![proptest_config(config(50))]

    #[test]
    fn the_same_events_give_the_same_effects(steps in schedule(any_change())) {
        let run = || {
            let mut w = SimWorld::new();
            w.run(Duration::from_secs(5));
            play(&mut w, &steps);
            w.log
        };
        prop_assert_eq!(run(), run());
    }
}
