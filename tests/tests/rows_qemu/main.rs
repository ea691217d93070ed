//! Rows of the fault table on real processes and QEMU guests in network namespaces: what the managers say from before
//! the fault to after its end, and what they never say.
//!
//! All rows but one are played on one stage, one after the other, in an order in which no node's path heals more often
//! than a flapping one would. `VOUCH_ROWS=15,22` plays only those rows. Row 24 needs racks, and so a stage of its own.

mod guests;
mod managers;
mod networks;
mod nodes;
mod paths;

use std::time::{Duration, Instant};

use anyhow::Result;
use vouch_tests::netns::must_skip;
use vouch_tests::story::{Cursor, Events, Profile, QemuStage, Scene};

/// What nobody may say where only paths, agents or managers are broken.
const NOT_WELL: &[&str] =
    &["down", "lost", "hung", "conflict", "degraded", "paused", "stopped", "rebooting", "unknown"];

/// How long it may take until all is well after a row that failed.
const MENDED: Duration = Duration::from_secs(120);

type Play = fn(&mut QemuStage) -> Result<()>;

const ROWS: &[(&str, Play)] = &[
    ("15", guests::rdp_accepts_and_is_silent),
    ("2", managers::the_leader_is_deaf_to_a_node),
    ("32", networks::the_management_network_loses_much),
    ("31a", paths::a_node_is_not_heard_and_hears),
    ("31b", paths::a_node_hears_nobody_and_is_heard),
    ("17", guests::ping_is_dropped),
    ("30", managers::a_follower_is_cut_off),
    ("29", managers::the_leader_is_cut_off),
    ("32b", networks::the_service_network_loses_much),
    ("22", networks::the_management_network_is_down),
    ("23", networks::the_service_network_is_down),
    ("33", networks::latency_comes_in_bursts),
    ("34", managers::the_wall_clock_of_the_leader_jumps),
    ("19", nodes::a_node_is_cut_from_both_networks),
    ("18", nodes::a_node_loses_its_power),
    ("37", paths::a_path_flaps),
    ("26", nodes::a_watchers_node_loses_its_power),
];

fn row(name: &str) -> Option<&'static (&'static str, Play)> {
    ROWS.iter().find(|(one, _)| *one == name)
}

#[test]
fn rows_of_the_fault_table_hold_on_real_guests() {
    if must_skip("the rows on QEMU") {
        return;
    }
    let wanted = std::env::var("VOUCH_ROWS").ok();
    let rows: Vec<&(&str, Play)> = match &wanted {
        None => ROWS.iter().collect(),
        Some(list) => list.split(',').map(|name| row(name).expect("VOUCH_ROWS names rows of this test")).collect(),
    };
    let (mut stage, boot) = QemuStage::start("rows-qemu", Profile::Slow, Scene::Rows, |text| println!("{text}"))
        .unwrap_or_else(|e| panic!("{e:#}"));
    println!("all guests and watchers are up after {boot:.1?}");
    let begun = Instant::now();
    let mut failed = Vec::new();
    for (name, play) in rows {
        let before = Cursor::now(&stage);
        if let Err(error) = play(&mut stage) {
            let said = before.and_then(|before| Events::after(&stage, &before)).map(|events| events.lines());
            println!("row {name} FAILED: {error:#}; since it began:\n{}", said.unwrap_or_default());
            failed.push(format!("row {name}: {error:#}"));
            // The rows after it are played all the same, if what it broke can be mended.
            let mended = stage.mend().and_then(|()| stage.until_well(MENDED));
            mended.unwrap_or_else(|e| panic!("{}\nand then: {e:#}\n{}", failed.join("\n"), stage.logs().display()));
        }
    }
    println!("all rows after {:.1?}", begun.elapsed());
    assert!(failed.is_empty(), "{}\nlogs: {}", failed.join("\n"), stage.logs().display());
}

#[test]
fn a_lost_rack_is_one_incident_and_the_other_rack_is_well() {
    if must_skip("the row of a rack on QEMU") {
        return;
    }
    let (mut stage, boot) = QemuStage::start("rows-qemu-rack", Profile::Slow, Scene::Racks, |text| println!("{text}"))
        .unwrap_or_else(|e| panic!("{e:#}"));
    println!("all guests and watchers are up after {boot:.1?}");
    nodes::a_rack_is_lost(&mut stage).unwrap_or_else(|e| panic!("{e:#}\nlogs: {}", stage.logs().display()));
}
