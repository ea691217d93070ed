//! Rows of a whole network: down, lossy, slow.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vouch_tests::netns::{Carriage, Pace};
use vouch_tests::story::{Claim, QemuStage, Row, Shared, Stage, VM_ONE, VM_THREE, VM_TWO, calm_of, open_incidents};
use vouch_tests::wait;
use vouch_types::Network;

use crate::NOT_WELL;

const LIMIT: Duration = Duration::from_secs(90);
/// How long a loss goes on after it is told: nothing may flap meanwhile, as the log of events shows afterwards.
const LOSSY_FOR: Duration = Duration::from_secs(8);
/// Per cent that are lost each way.
const LOSS: u8 = 30;
/// How far off the told loss may be, in points.
const LOSS_POINTS: u8 = 5;
/// A burst holds packets for this long, and then there is none for so long.
const BURST: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(3)];
const BURSTS: usize = 3;

fn all(claim: Claim) -> [Claim; 3] {
    [VM_ONE, VM_TWO, VM_THREE].map(|vm| Claim { vm, ..claim })
}

pub fn the_management_network_is_down(stage: &mut QemuStage) -> Result<()> {
    for node in ["n1", "n2"] {
        calm_of(stage, node)?;
    }
    let row = Row::begin(stage, "22", "the management network carries nothing")?;
    stage.carry(Network::Management, Carriage::Nothing)?;
    let causes = &["network(management)"];
    let up = Claim { vm: VM_ONE, state: "up", source: Some("watcher"), causes, advice: "none" };
    row.expect(stage, &all(up), Some(Shared { kind: "network", of: "management", causes }))?;
    stage.carry(Network::Management, Carriage::Whole)?;
    let events = row.end(stage, NOT_WELL)?;
    for node in ["n1", "n2"] {
        events.one_recovery(node)?;
    }
    ensure!(events.notifications().len() == 2, "told otherwise than once and over: {:?}", events.notifications());
    Ok(())
}

pub fn the_service_network_is_down(stage: &mut QemuStage) -> Result<()> {
    let row = Row::begin(stage, "23", "the service network carries nothing")?;
    stage.carry(Network::Service, Carriage::Nothing)?;
    let causes = &["network(service)"];
    let degraded = Claim { vm: VM_ONE, state: "degraded", source: Some("direct"), causes, advice: "none" };
    row.expect(stage, &all(degraded), Some(Shared { kind: "network", of: "service", causes }))?;
    stage.carry(Network::Service, Carriage::Whole)?;
    let events = row.end(stage, &["down", "lost", "hung", "conflict", "unknown"])?;
    ensure!(events.of_kind("path_changed") == 0, "a path was called broken:\n{}", events.lines());
    ensure!(events.notifications().len() == 2, "told otherwise than once and over: {:?}", events.notifications());
    Ok(())
}

/// Returns how much the one open incident says is lost, in per cent.
fn told_loss(stage: &QemuStage) -> Result<u8> {
    let open = open_incidents(stage)?;
    let detail = open.first().and_then(|i| i.pointer("/fault/detail")).and_then(Value::as_str).unwrap_or_default();
    let percent = detail.split(' ').nth(1).and_then(|word| word.parse().ok());
    percent.with_context(|| format!("no loss in {detail:?}"))
}

pub fn the_management_network_loses_much(stage: &mut QemuStage) -> Result<()> {
    for node in ["n1", "n2"] {
        calm_of(stage, node)?;
    }
    loses_much(stage, "32", Network::Management)
}

pub fn the_service_network_loses_much(stage: &mut QemuStage) -> Result<()> {
    loses_much(stage, "32b", Network::Service)
}

fn loses_much(stage: &mut QemuStage, name: &'static str, network: Network) -> Result<()> {
    let row = Row::begin(stage, name, &format!("the {network} network loses {LOSS} % each way"))?;
    stage.carry(network, Carriage::Lossy { percent: LOSS })?;
    // What all nodes share is said once, by the incident, and not of each VM.
    let up = Claim { vm: VM_ONE, state: "up", source: None, causes: &[], advice: "none" };
    row.expect(stage, &all(up), Some(Shared { kind: "network", of: network.as_str(), causes: &["lossy_path"] }))?;
    let near = || -> Result<u8> {
        let told = told_loss(stage)?;
        ensure!(told.abs_diff(LOSS) <= LOSS_POINTS, "{told} % are told");
        Ok(told)
    };
    let (told, took) =
        wait::until_ok(format!("the told loss is within {LOSS_POINTS} points of {LOSS} %"), LIMIT, near)?;
    stage.tell(&format!("{:>8.2} s  row {name}: {told} % are told", took.as_secs_f64()));
    // A read may come to nothing: managers elect anew under such a loss now and then.
    std::thread::sleep(LOSSY_FOR);
    stage.carry(network, Carriage::Whole)?;
    let events = row.end(stage, NOT_WELL)?;
    ensure!(events.changed_vms().is_empty(), "a state changed:\n{}", events.lines());
    ensure!(events.notifications().len() == 2, "told otherwise than once and over: {:?}", events.notifications());
    Ok(())
}

pub fn latency_comes_in_bursts(stage: &mut QemuStage) -> Result<()> {
    let row = Row::begin(stage, "33", "both networks hold back all packets for 2 s, again and again")?;
    for _ in 0..BURSTS {
        for (pace, time) in [Pace::Held, Pace::AtOnce].into_iter().zip(BURST) {
            stage.pace(pace)?;
            // A read may come to nothing while managers hold their leader's word back; what was said is read later.
            std::thread::sleep(time);
        }
    }
    let events = row.end(stage, NOT_WELL)?;
    ensure!(events.changed_vms().is_empty(), "a state changed:\n{}", events.lines());
    ensure!(events.notifications().is_empty(), "somebody was woken: {:?}", events.notifications());
    Ok(())
}
