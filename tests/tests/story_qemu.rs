//! The story on real QEMU guests: three managers, two nodes, two networks, guests with xrdp and qemu-ga.

#![expect(clippy::print_stdout, reason = "the times are what this test is also run for")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vouch_tests::netns::must_skip;
use vouch_tests::story::{Profile, QemuStage, Scene, Stage, VM_ONE, whole};
use vouch_tests::wait;

/// A probe that is assigned anew has to reach the watchers, and to run.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the facts of each watcher's last look with a probe at desk-1, asked now.
fn facts(stage: &QemuStage, probe: &str) -> Result<Vec<Value>> {
    let (_, client) = stage.clients().into_iter().next().context("a manager runs")?;
    let checked = client.post(&format!("/v1/vms/{VM_ONE}/check"), &Value::Null)?.ok()?;
    let looks = checked.pointer("/check/looks").and_then(Value::as_array).context("looks")?;
    Ok(looks.iter().filter(|look| look["probe"] == probe).map(|look| look["facts"].clone()).collect())
}

fn fact<'a>(facts: &'a Value, name: &str) -> Option<&'a str> {
    let facts = facts.as_array()?;
    facts.iter().find(|fact| fact["name"] == name)?.get("value")?.as_str()
}

/// The real agent in the guest is asked what it is, by both watchers through the relay of its node.
fn what_is_in_the_guest(stage: &QemuStage) -> Result<()> {
    let (_, client) = stage.clients().into_iter().next().context("a manager runs")?;
    let desk = stage.read(&format!("/v1/vms/{VM_ONE}"))?;
    let desk = desk.get("id").and_then(Value::as_str).context("the id of desk-1")?;
    // Its file names the probe over the other network, and has the last word there.
    let path = format!("/v1/probes/guest-agent/assignments/service/vm:{desk}");
    client.put(&path, &json!({ "settings": { "facts": true } }))?.ok()?;
    let (told, took) = wait::until_ok("both watchers tell what the agent is", LIMIT, || {
        let all = facts(stage, "guest-agent")?;
        let told: Vec<_> = all.iter().filter(|facts| fact(facts, "agent_version").is_some()).cloned().collect();
        ensure!(told.len() == 2, "{all:?}");
        Ok::<_, anyhow::Error>(told)
    })?;
    for facts in &told {
        let version = fact(facts, "agent_version").unwrap_or_default();
        ensure!(version.starts_with(|c: char| c.is_ascii_digit()), "no version of an agent: {version}");
        ensure!(fact(facts, "kernel").is_some_and(|kernel| kernel.contains('.')), "no kernel: {facts}");
    }
    println!("{:>8.2} s  the agent tells {}", took.as_secs_f64(), told[0]);
    client.delete(&path)?.ok()?;
    Ok(())
}

#[test]
fn the_story_holds_on_real_guests() {
    if must_skip("the story on QEMU") {
        return;
    }
    let (mut stage, boot) = QemuStage::start("story-qemu", Profile::Slow, Scene::Story, |text| println!("{text}"))
        .expect("the cluster comes up");
    println!("all guests and watchers are up after {boot:.1?}");
    what_is_in_the_guest(&stage).unwrap_or_else(|e| panic!("{e:#}\nlogs: {}", stage.logs().display()));
    let took = whole(&mut stage, true).unwrap_or_else(|e| panic!("{e:#}\nlogs: {}", stage.logs().display()));
    for (what, time) in took {
        println!("{:>8.2} s  {what}", time.as_secs_f64());
    }
}
