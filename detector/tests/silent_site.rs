//! Nothing is heard of any node, and no watcher is left who could tell why: one incident of the whole site (N10), and not
//! silence because everything is shared with everything.

#![expect(clippy::unwrap_used, reason = "a test")]
#![allow(dead_code, reason = "each property uses its part of the world")]

mod world;

use std::time::Duration;

use vouch_types::{Advice, VmState};
use world::SimWorld;
use world::told::{Told, settled};

const SECOND: Duration = Duration::from_secs(1);

fn power(w: &mut SimWorld, on: bool) {
    w.truth.iter_mut().for_each(|node| node.power = on);
}

fn scopes(w: &SimWorld) -> Vec<String> {
    w.records().incidents.iter().map(|incident| incident.scope.to_string()).collect()
}

#[test]
fn nodes_that_all_lose_their_power_are_one_incident_until_they_are_back() {
    let mut w = settled();
    w.told.clear();
    power(&mut w, false);
    w.run(SECOND * 10);
    assert_eq!(scopes(&w), ["site"]);
    let word = &w.records().incidents[0].word;
    assert_eq!((word.nodes_touched, word.vms_touched), (2, 2));
    for i in 0..2 {
        let verdict = w.verdict(i);
        assert_eq!(verdict.state, VmState::Lost, "{}", verdict.reason);
        assert!(matches!(verdict.advice, Advice::FenceFirst { .. }), "{:?}", verdict.advice);
    }
    power(&mut w, true);
    w.run(SECOND * 10);
    assert_eq!(scopes(&w), Vec::<String>::new());
    assert_eq!((w.state(0), w.state(1)), (VmState::Up, VmState::Up));
    let told: Vec<_> = w.told.iter().filter(|told| matches!(told, Told::Incident { .. })).collect();
    assert_eq!(told.len(), 2, "opened and closed, and nothing else: {told:?}");
}

#[test]
fn a_node_that_stays_away_is_told_of_by_itself_once_half_of_the_site_is_back() {
    let mut w = settled();
    power(&mut w, false);
    w.run(SECOND * 10);
    w.truth[0].power = true;
    w.run(SECOND * 15);
    assert_eq!(scopes(&w), ["node n2"], "{:?}", w.told);
    assert_eq!((w.state(0), w.state(1)), (VmState::Up, VmState::Lost));
}
