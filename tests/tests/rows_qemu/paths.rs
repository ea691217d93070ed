//! Rows of the path between a node and the managers: one way only, and on and off.

use std::time::Duration;

use anyhow::{Result, ensure};
use vouch_tests::story::{Claim, OneWay, QemuStage, Row, VM_ONE, VM_THREE, VM_TWO, calm_of, well};

use crate::NOT_WELL;

/// How long a flapping path is cut, and how long it works. In the tests' slower timing a cut is told after 5 s, and one
/// that heals within 3 s of that counts as a late word and not as a cut.
const FLAP: [Duration; 2] = [Duration::from_secs(9), Duration::from_secs(5)];
const FLAPS: usize = 4;
/// How long a direction stays cut after it was told. A gap of fewer than ten heartbeats, half a second apart in the tests'
/// timing, is counted as loss, and told as such for as long as those heartbeats count.
const OUTAGE: Duration = Duration::from_secs(4);

pub fn a_node_is_not_heard_and_hears(stage: &mut QemuStage) -> Result<()> {
    calm_of(stage, "n1")?;
    let row = Row::begin(stage, "31a", "nothing that n1's agent sends reaches a manager; it hears them")?;
    let cut = stage.one_way("n1", OneWay::FromNode)?;
    stage.cut(&cut)?;
    let causes = &["one_way(n1, managers)"];
    let up = |vm| Claim { vm, state: "up", source: Some("watcher"), causes, advice: "none" };
    row.expect(stage, &[up(VM_ONE), up(VM_TWO), well(VM_THREE)], None)?;
    stage.heal(&cut)?;
    row.end(stage, NOT_WELL)?.one_recovery("n1")
}

pub fn a_node_hears_nobody_and_is_heard(stage: &mut QemuStage) -> Result<()> {
    calm_of(stage, "n2")?;
    let row = Row::begin(stage, "31b", "nothing that a manager sends reaches n2's agent; they hear it")?;
    let cut = stage.one_way("n2", OneWay::ToNode)?;
    stage.cut(&cut)?;
    let up = Claim { vm: VM_THREE, state: "up", source: None, causes: &["one_way(managers, n2)"], advice: "none" };
    row.expect(stage, &[up, well(VM_ONE), well(VM_TWO)], None)?;
    std::thread::sleep(OUTAGE);
    stage.heal(&cut)?;
    row.end(stage, NOT_WELL).map(drop)
}

pub fn a_path_flaps(stage: &mut QemuStage) -> Result<()> {
    calm_of(stage, "n2")?;
    let row = Row::begin(stage, "37", "the path between n2's agent and the managers comes and goes")?;
    let cut = stage.between_node_and_managers("n2")?;
    let causes = &["manager_node_path"];
    let up = Claim { vm: VM_THREE, state: "up", source: Some("watcher"), causes, advice: "none" };
    for flap in 0..FLAPS {
        stage.cut(&cut)?;
        std::thread::sleep(FLAP[0]);
        if flap == 0 {
            row.expect(stage, &[up, well(VM_ONE), well(VM_TWO)], None)?;
        }
        stage.heal(&cut)?;
        std::thread::sleep(FLAP[1]);
    }
    let events = row.end(stage, NOT_WELL)?;
    for kind in ["incident_opened", "incident_closed"] {
        ensure!(
            events.of_kind(kind) == 1,
            "{} times {kind} instead of once:\n{}",
            events.of_kind(kind),
            events.lines()
        );
    }
    ensure!(events.notifications().len() == 2, "told otherwise than once and over: {:?}", events.notifications());
    Ok(())
}
