//! Rows of the managers: deaf, cut off from one another, with a wall clock that jumps.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vouch_tests::story::{QemuStage, Row, Stage, VM_ONE, VM_THREE, VM_TWO, well};
use vouch_tests::wait;

use crate::NOT_WELL;

const LIMIT: Duration = Duration::from_secs(60);
/// For how long a manager stays cut off: longer than a silence that would be told.
const WHILE: Duration = Duration::from_secs(7);
/// For how long a clock stays wrong: longer than it takes until a silence is told.
const JUMPED_FOR: Duration = Duration::from_secs(6);
/// An hour, in seconds.
const HOUR: i64 = 3600;

const ALL_WELL: [vouch_tests::story::Claim; 3] = [well(VM_ONE), well(VM_TWO), well(VM_THREE)];

/// Returns the managers that are said to be deaf to a node.
fn deaf_to(stage: &QemuStage, node: &str) -> Result<Vec<String>> {
    let page = stage.read("/v1/nodes")?;
    let items = page.get("items").and_then(Value::as_array).context("a page of nodes has items")?;
    let found = items.iter().find(|n| n.get("id").and_then(Value::as_str) == Some(node));
    let deaf = found.and_then(|n| n.get("deaf_managers")).and_then(Value::as_array);
    let deaf = deaf.with_context(|| format!("no node {node}: {page}"))?;
    Ok(deaf.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

pub fn the_leader_is_deaf_to_a_node(stage: &mut QemuStage) -> Result<()> {
    let leader = stage.leader()?;
    let row = Row::begin(stage, "2", &format!("{leader}, which leads, cannot hear n1; the others can"))?;
    let cut = stage.between_node_and_manager("n1", &leader)?;
    stage.cut(&cut)?;
    let noted = || -> Result<()> {
        let deaf = deaf_to(stage, "n1")?;
        ensure!(deaf == [leader.clone()], "deaf to n1: {deaf:?}");
        Ok(())
    };
    let (_, took) = wait::until_ok("the leader is noted as deaf to n1", LIMIT, noted)?;
    stage.tell(&format!("{:>8.2} s  row 2: {leader} is noted as deaf to n1", took.as_secs_f64()));
    row.expect(stage, &ALL_WELL, None)?;
    stage.heal(&cut)?;
    let hears = || -> Result<()> {
        let deaf = deaf_to(stage, "n1")?;
        ensure!(deaf.is_empty(), "still deaf to n1: {deaf:?}");
        Ok(())
    };
    wait::until_ok("the leader hears n1 again", LIMIT, hears)?;
    let events = row.end(stage, NOT_WELL)?;
    ensure!(events.of_kind("path_changed") == 0, "a path was called broken:\n{}", events.lines());
    Ok(())
}

/// Fails unless this manager refuses to say anything at `default` consistency.
fn says_nothing(stage: &QemuStage, manager: &str) -> Result<()> {
    let client = stage.clients().into_iter().find(|(name, _)| name == manager).context("it runs")?.1;
    for path in [format!("/v1/vms/{VM_ONE}"), "/v1/events?format=json".to_owned()] {
        let reply = client.get(&path)?;
        ensure!(reply.status == 503, "{manager}, cut off from the others, answered {path} with {}", reply.status);
    }
    Ok(())
}

/// Returns whom a manager takes for the leader.
fn leader_by(stage: &QemuStage, manager: &str) -> Result<String> {
    let client = stage.clients().into_iter().find(|(name, _)| name == manager).context("it runs")?.1;
    let cluster = client.read("/v1/cluster")?;
    let leader = cluster.get("leader").and_then(Value::as_str);
    leader.map(str::to_owned).with_context(|| format!("{manager} knows no leader"))
}

fn others(stage: &QemuStage, manager: &str) -> Vec<String> {
    stage.clients().into_iter().map(|(name, _)| name).filter(|name| name != manager).collect()
}

pub fn a_follower_is_cut_off(stage: &mut QemuStage) -> Result<()> {
    let leader = stage.leader()?;
    let alone = others(stage, &leader).pop().context("there are three managers")?;
    let row = Row::begin(stage, "30", &format!("{alone} is cut off from the other managers, and hears the nodes"))?;
    let cut = stage.between_manager_and_others(&alone)?;
    stage.cut(&cut)?;
    let (_, took) = wait::until_ok("the minority says nothing", LIMIT, || says_nothing(stage, &alone))?;
    stage.tell(&format!("{:>8.2} s  row 30: {alone} says nothing any more", took.as_secs_f64()));
    wait::while_for(WHILE, || says_nothing(stage, &alone))?;
    row.expect(stage, &ALL_WELL, None)?;
    stage.heal(&cut)?;
    let hears = || -> Result<()> {
        let known = leader_by(stage, &alone)?;
        ensure!(known == leader, "{alone} says that {known} leads");
        Ok(())
    };
    wait::until_ok("it follows the same leader again", LIMIT, hears)?;
    let events = row.end(stage, NOT_WELL)?;
    ensure!(stage.leader()? == leader, "the one that came back has made the leader another one");
    ensure!(events.of_kind("path_changed") == 0, "a path was called broken:\n{}", events.lines());
    ensure!(events.notifications().is_empty(), "somebody was woken: {:?}", events.notifications());
    Ok(())
}

pub fn the_leader_is_cut_off(stage: &mut QemuStage) -> Result<()> {
    let leader = stage.leader()?;
    let row = Row::begin(stage, "29", &format!("{leader}, which leads, is cut off from the other managers"))?;
    let cut = stage.between_manager_and_others(&leader)?;
    stage.cut(&cut)?;
    let (_, took) = wait::until_ok("the lone leader serves nothing as fresh", LIMIT, || says_nothing(stage, &leader))?;
    stage.tell(&format!("{:>8.2} s  row 29: {leader} serves nothing as fresh", took.as_secs_f64()));
    let elected = || -> Result<()> {
        for other in others(stage, &leader) {
            let new = leader_by(stage, &other)?;
            ensure!(new != leader, "{other} says that {new} leads");
        }
        says_nothing(stage, &leader)
    };
    let (_, took) = wait::until_ok("the others have a leader of their own", LIMIT, elected)?;
    stage.tell(&format!("{:>8.2} s  row 29: another leads", took.as_secs_f64()));
    wait::while_for(WHILE, || says_nothing(stage, &leader))?;
    row.expect(stage, &ALL_WELL, None)?;
    stage.heal(&cut)?;
    let one = || -> Result<()> {
        let (new, own) = (stage.leader()?, leader_by(stage, &leader)?);
        ensure!(new == own, "{leader} says that {own} leads, and the others say {new}");
        Ok(())
    };
    wait::until_ok("there is one leader for all", LIMIT, one)?;
    let events = row.end(stage, NOT_WELL)?;
    ensure!(events.of_kind("path_changed") == 0, "a path was called broken:\n{}", events.lines());
    ensure!(events.notifications().is_empty(), "somebody was woken: {:?}", events.notifications());
    Ok(())
}

pub fn the_wall_clock_of_the_leader_jumps(stage: &mut QemuStage) -> Result<()> {
    let leader = stage.leader()?;
    if !stage.set_clock(&leader, 0)? {
        stage.tell("row 34 is left out: libfaketime is not installed");
        return Ok(());
    }
    for (way, seconds, logged) in [("forward", HOUR, "forward by 3600 s"), ("back", 0, "back by 3600 s")] {
        let row = Row::begin(stage, "34", &format!("the wall clock of {leader}, which leads, jumps {way} by an hour"))?;
        stage.set_clock(&leader, seconds)?;
        let said = || -> Result<()> {
            let log = stage.manager_log(&leader)?;
            ensure!(log.contains("wall clock was set") && log.contains(logged), "{leader} does not log it");
            Ok(())
        };
        wait::until_ok(format!("{leader} logs the jump"), LIMIT, said)?;
        wait::while_for(JUMPED_FOR, || row.events(stage)?.never(NOT_WELL))?;
        let events = row.end(stage, NOT_WELL)?;
        ensure!(events.changed_vms().is_empty(), "a state changed:\n{}", events.lines());
        ensure!(events.of_kind("path_changed") == 0, "a path was called broken:\n{}", events.lines());
        ensure!(stage.leader()? == leader, "the jump has cost {leader} its leadership");
    }
    Ok(())
}
