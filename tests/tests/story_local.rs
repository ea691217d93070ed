//! The story on `local`, and what else a whole cluster has to live through: any manager killed, a minority that must
//! not speak, an agent killed and started again.

#![expect(clippy::print_stdout, reason = "the times of the steps are what these tests are also run for")]

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use vouch_tests::story::{CUT, Cursor, Events, Expected, LocalStage, Stage, VM_ONE, WELL, calm, whole};
use vouch_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);

fn on_local(test: &str, play: impl FnOnce(&mut LocalStage) -> Result<()>) {
    LocalStage::play(test, |text| println!("{text}"), play);
}

#[test]
fn the_story_holds_on_local() {
    on_local("story-local", |stage| {
        for (what, time) in whole(stage, true)? {
            println!("{:>8.2} s  {what}", time.as_secs_f64());
        }
        Ok(())
    });
}

#[test]
fn each_manager_may_be_killed_in_turn() {
    on_local("managers-in-turn", |stage| {
        let before = Cursor::now(stage)?;
        for id in ["m1", "m2", "m3"] {
            calm(stage)?;
            stage.kill_manager(id)?;
            stage.cut_agent()?;
            stage.expect(VM_ONE, CUT, LIMIT)?;
            stage.heal_agent()?;
            stage.expect(VM_ONE, WELL, LIMIT)?;
            stage.start_manager(id)?;
            let ready = || -> Result<()> {
                let clients = stage.clients();
                let client = clients.iter().find(|(name, _)| name == id).map(|(_, c)| c);
                client.ok_or_else(|| anyhow::anyhow!("{id} has no client"))?.read("/readyz").map(drop)
            };
            wait::until_ok(format!("{id} is ready again"), LIMIT, ready)?;
        }
        let events = Events::after(stage, &before)?;
        events.never(&["down", "lost"])?;
        events.in_order()?;
        ensure!(events.count("path_recovered", "n1") == 3, "one recovery per heal:\n{}", events.lines());
        Ok(())
    });
}

#[test]
fn a_minority_says_nothing_new() {
    on_local("minority", |stage| {
        let before = Cursor::now(stage)?;
        let leader = stage.leader()?;
        let others: Vec<_> = ["m1", "m2", "m3"].into_iter().filter(|m| *m != leader).collect();
        // The leader alone still hears every node, and is heard by no other manager.
        for other in &others {
            stage.set_links("cut", &[&format!("{leader}-{other}*"), &format!("{other}-{leader}*")], false)?;
        }
        let alone = stage.clients().into_iter().find(|(name, _)| *name == leader).expect("it runs").1;
        let silent = || -> Result<()> {
            let reply = alone.get(&format!("/v1/vms/{VM_ONE}"))?;
            ensure!(reply.status == 503, "a leader without a quorum answered {}", reply.status);
            Ok(())
        };
        wait::until_ok("the lone leader serves nothing as fresh", LIMIT, silent)?;
        let elected = || -> Result<()> {
            for (name, client) in stage.clients().into_iter().filter(|(name, _)| *name != leader) {
                let cluster = client.read("/v1/cluster")?;
                let new = cluster.get("leader").and_then(Value::as_str);
                ensure!(new.is_some_and(|l| l != leader), "{name} says that {new:?} leads");
            }
            Ok(())
        };
        wait::until_ok("the others have a leader of their own", LIMIT, elected)?;
        silent()?;
        stage.set_links("heal", &["*"], false)?;
        stage.expect(VM_ONE, WELL, LIMIT)?;
        let events = Events::after(stage, &before)?;
        events.never(&["down", "lost", "degraded", "unknown"])?;
        events.in_order()?;
        ensure!(events.of_kind("path_changed") == 0, "no path was called broken:\n{}", events.lines());
        Ok(())
    });
}

#[test]
fn a_killed_agent_is_named_and_adopts_its_guests_when_it_is_back() {
    on_local("agent", |stage| {
        let before = Cursor::now(stage)?;
        stage.kill_agent("n1")?;
        let dead = Expected { state: "up", source: "watcher", cause: Some("node_agent") };
        let told = stage.expect(VM_ONE, dead, LIMIT)?;
        println!("{:>8.2} s  agent killed: up by watcher, node_agent", told.as_secs_f64());
        stage.start_agent("n1")?;
        stage.expect(VM_ONE, WELL, LIMIT)?;
        let events = Events::after(stage, &before)?;
        events.never(&["down", "lost"])?;
        events.one_recovery("n1")?;
        Ok(())
    });
}
