//! A few minutes of chaos: what clients saw of three real managers that were killed, paused, cut and replaced meanwhile.

use std::time::Duration;

use vouch_tests::chaos::{Plan, play};
use vouch_tests::netns::must_skip;

const SEED: u64 = 20_261_124;
const LASTS: Duration = Duration::from_secs(150);

#[test]
fn what_clients_saw_is_linearizable_and_no_event_is_lost_whatever_happens_to_the_managers() {
    if must_skip("chaos") {
        return;
    }
    match play("chaos-in-ci", Plan { seed: SEED, lasts: LASTS }, |text| println!("{text}")) {
        Ok(outcome) => println!("every check passed: {outcome:#?}"),
        Err(error) => panic!("{error:#}"),
    }
}
