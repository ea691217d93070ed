//! Fault schedules for the properties: what breaks or heals, on which node, and how long it then stays.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{NODES, NodeTruth, SimWorld};

/// Returns how many schedules a property is tried with, and from which seed they are drawn.
///
/// The gate draws the same ones every time. `PROPTEST_CASES=10000 PROPTEST_RNG_SEED=7 cargo test -p vouch-detector`
/// looks further.
pub fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(1);
    }
    config.failure_persistence = None;
    config
}

/// One change of the truth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Path(usize, bool),
    Agent(bool),
    Uplink(bool),
    Power(bool),
    Vm(bool),
    Rdp(bool),
    Cable(bool),
    Watcher(bool),
    NewLeader,
    Heal,
}

/// A change on a node, and how long the world then runs.
pub type Step = (usize, Change, Duration);

pub fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0usize..2, any::<bool>()).prop_map(|(m, on)| Change::Path(m, on)),
        2 => any::<bool>().prop_map(Change::Agent),
        2 => any::<bool>().prop_map(Change::Uplink),
        1 => any::<bool>().prop_map(Change::Power),
        1 => any::<bool>().prop_map(Change::Vm),
        2 => any::<bool>().prop_map(Change::Rdp),
        2 => any::<bool>().prop_map(Change::Cable),
        1 => any::<bool>().prop_map(Change::Watcher),
        1 => Just(Change::NewLeader),
        2 => Just(Change::Heal),
    ]
}

/// Changes of paths and agents alone: the VM, its node and its observers live on.
pub fn path_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0usize..2, any::<bool>()).prop_map(|(m, on)| Change::Path(m, on)),
        2 => any::<bool>().prop_map(Change::Agent),
        2 => any::<bool>().prop_map(Change::Uplink),
        1 => Just(Change::NewLeader),
        1 => Just(Change::Heal),
    ]
}

pub fn schedule(change: impl Strategy<Value = Change>) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..NODES, change, (50u64..6_000).prop_map(Duration::from_millis));
    prop::collection::vec(step, 1..12)
}

/// Makes the change, and runs.
pub fn play(world: &mut SimWorld, steps: &[Step]) {
    for (node, change, time) in steps {
        let truth = &mut world.truth[*node];
        match change {
            Change::Path(manager, on) => truth.paths[*manager] = *on,
            Change::Agent(on) => truth.agent = *on,
            Change::Uplink(on) => truth.uplink = *on,
            Change::Power(on) => {
                truth.power = *on;
                // Power that went takes the processes with it.
                truth.vm &= *on;
            }
            Change::Vm(on) => truth.vm = *on && truth.power,
            Change::Rdp(on) => truth.rdp = *on,
            Change::Cable(on) => truth.cable = *on,
            Change::Watcher(on) => truth.watcher = *on,
            Change::NewLeader => world.change_leader(),
            Change::Heal => world.truth[*node] = NodeTruth::WELL,
        }
        world.run(*time);
    }
}
