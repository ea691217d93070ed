//! Rows of a whole node: without power, and cut from everything.

use anyhow::{Result, ensure};
use serde_json::json;
use vouch_tests::netns::Carrier;
use vouch_tests::story::{Claim, QemuStage, Row, Shared, Stage, VM_ONE, VM_THREE, VM_TWO, calm_of, well};

/// Without a proof nobody can tell these apart.
const SILENT: &[&str] = &["node silent", "node_isolated silent"];

const fn lost(vm: &'static str) -> Claim {
    Claim { vm, state: "lost", source: Some("watcher"), causes: SILENT, advice: "fence_first" }
}

const fn silent(of: &'static str) -> Option<Shared> {
    Some(Shared { kind: "node", of, causes: SILENT })
}

pub fn a_node_is_cut_from_both_networks(stage: &mut QemuStage) -> Result<()> {
    calm_of(stage, "n1")?;
    let row = Row::begin(stage, "19", "n1 lives on, without carrier on both networks")?;
    stage.carriers("n1", Carrier::Down)?;
    row.expect(stage, &[lost(VM_ONE), lost(VM_TWO), well(VM_THREE)], silent("n1"))?;
    stage.carriers("n1", Carrier::Up)?;
    let events = row.end(stage, &["down", "hung", "conflict", "paused"])?;
    events.one_recovery("n1")?;
    ensure!(events.of_kind("incident_opened") == 1, "more than one incident:\n{}", events.lines());
    Ok(())
}

pub fn a_node_loses_its_power(stage: &mut QemuStage) -> Result<()> {
    calm_of(stage, "n1")?;
    let row = Row::begin(stage, "18", "n1 loses its power")?;
    stage.power_off("n1")?;
    row.expect(stage, &[lost(VM_ONE), lost(VM_TWO), well(VM_THREE)], silent("n1"))?;
    row.events(stage)?.never(&["down", "hung", "conflict"])?;
    stage.tell("           row 18: somebody says that its power is off");
    stage.write("/v1/nodes/n1/fence-proof", &json!({ "kind": "power_off", "note": "the rack controller says so" }))?;
    let down = |vm| Claim { state: "down", advice: "safe_to_restart", causes: &["node power off"], ..lost(vm) };
    row.expect(stage, &[down(VM_ONE), down(VM_TWO), well(VM_THREE)], silent("n1"))?;
    stage.tell("           row 18: it has power again, and boots");
    stage.power_on("n1")?;
    let events = row.end(stage, &["hung", "conflict", "paused"])?;
    ensure!(events.of_kind("incident_opened") == 1, "more than one incident:\n{}", events.lines());
    let nodes = stage.read("/v1/nodes")?;
    ensure!(nodes.pointer("/items/0/id") == Some(&json!("n1")), "n1 is the first node: {nodes}");
    ensure!(nodes.pointer("/items/0/fence").is_none(), "the proof of its last boot stands: {nodes}");
    Ok(())
}

/// On the stage of racks: n1 and n2 stand in r1, n3 in r2.
pub fn a_rack_is_lost(stage: &mut QemuStage) -> Result<()> {
    let row = Row::begin(stage, "24", "the rack of n1 and n2 loses its power")?;
    for node in ["n1", "n2"] {
        stage.power_off(node)?;
    }
    let causes = &["rack"];
    let lost = |vm| Claim { causes, ..lost(vm) };
    row.expect(stage, &[lost(VM_ONE), lost(VM_TWO), well(VM_THREE)], Some(Shared { kind: "rack", of: "r1", causes }))?;
    row.events(stage)?.never(&["down", "hung", "conflict"])?;
    stage.tell("           row 24: it has power again, and both nodes boot");
    for node in ["n1", "n2"] {
        stage.power_on(node)?;
    }
    let events = row.end(stage, &["down", "hung", "conflict", "paused"])?;
    let third = stage.read(&format!("/v1/vms/{VM_THREE}"))?;
    let others = events.changed_vms().into_iter().filter(|vm| third.get("id") == Some(&json!(vm))).count();
    ensure!(others == 0, "the guest of the other rack changed:\n{}", events.lines());
    ensure!(events.of_kind("incident_opened") == 1, "more than one incident:\n{}", events.lines());
    Ok(())
}

pub fn a_watchers_node_loses_its_power(stage: &mut QemuStage) -> Result<()> {
    calm_of(stage, "n2")?;
    let row = Row::begin(stage, "26", "n2, with the watcher of n1's guests, loses its power")?;
    stage.power_off("n2")?;
    row.expect(stage, &[lost(VM_THREE), well(VM_ONE), well(VM_TWO)], silent("n2"))?;
    stage.tell("           row 26: it has power again, and boots");
    stage.power_on("n2")?;
    let events = row.end(stage, &["down", "hung", "conflict", "paused"])?;
    let third = stage.read(&format!("/v1/vms/{VM_THREE}"))?;
    let others: Vec<_> = events.changed_vms().into_iter().filter(|vm| third.get("id") != Some(&json!(vm))).collect();
    ensure!(others.is_empty(), "a guest of the other node changed:\n{}", events.lines());
    Ok(())
}
