//! Another CA in place of the first, on a running cluster of processes: nobody is restarted, and nobody is lost.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use vouch_tests::story::{Cursor, Events, LocalStage, Stage, VM_ONE, WELL};
use vouch_tests::wait;

const LIMIT: Duration = Duration::from_secs(90);

fn pki(stage: &LocalStage, arguments: &[&str]) -> Result<String> {
    let done = stage.cli().arg("pki").args(arguments).output()?;
    if !done.status.success() {
        bail!("vouch pki {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8(done.stdout)?)
}

fn certificates(text: &str) -> usize {
    text.matches("BEGIN CERTIFICATE").count()
}

#[test]
fn the_ca_is_rotated_by_three_commands_while_everything_runs_and_old_certificates_are_worth_nothing_after() {
    LocalStage::play(
        "ca-rotation",
        |text| println!("{text}"),
        |stage| {
            let files = stage.pki();
            let read = |name: &str| fs::read_to_string(files.join(name)).with_context(|| name.to_owned());
            let names = ["m1", "m2", "m3", "n1", "n2"];
            let before: Vec<(String, String)> = names
                .iter()
                .map(|name| Ok((read(&format!("{name}.pem"))?, read(&format!("{name}.key"))?)))
                .collect::<Result<_>>()?;
            let old_ca = read("ca.pem")?;

            let begun = Instant::now();
            let told = pki(stage, &["rotate"])?;
            ensure!(told.contains("not seen yet to trust the new CA") && told.contains("n1.node.vouch"), "{told}");
            let early = pki(stage, &["switch"]).expect_err("too early").to_string();
            ensure!(early.contains("w1.watcher.vouch"), "{early}");
            // What a leader has seen goes with it; the next one sees it anew.
            let leader = stage.leader()?;
            stage.kill_manager(&leader)?;
            stage.start_manager(&leader)?;
            wait::until_ok("everybody trusts both", LIMIT, || pki(stage, &["switch"]))?;
            println!("everybody trusts the new CA after {:?}", begun.elapsed());
            ensure!(certificates(&read("ca.pem")?) == 2, "the file of the CAs holds both");
            let before_finish = Cursor::now(stage)?;
            wait::until_ok("everybody has a certificate of the new one", LIMIT, || pki(stage, &["finish"]))?;
            println!("the old CA is gone after {:?}", begun.elapsed());
            // Streams that stood since before are closed, and come back at once: nobody notices.
            wait::until_ok("the streams of the old CA are closed", LIMIT, || {
                for id in ["m1", "m2", "m3"].into_iter().filter(|id| *id != leader) {
                    ensure!(stage.log_of(id)?.contains("the CA of their certificates is trusted no more"), "{id}");
                }
                Ok::<(), anyhow::Error>(())
            })?;
            wait::while_for(Duration::from_secs(3), || {
                let events = Events::after(stage, &before_finish)?;
                for kind in ["path_changed", "watcher_lost", "vm_state_changed", "leader_elected"] {
                    ensure!(events.of_kind(kind) == 0, "{}", events.lines());
                }
                Ok(())
            })?;
            let only = pki(stage, &["show", "--pem"])?;
            ensure!(certificates(&only) == 1 && only != old_ca, "one CA, another one");
            wait::until_ok("the file of the CAs holds the new one alone", LIMIT, || {
                let text = read("ca.pem")?;
                ensure!(text.trim() == only.trim(), "{} certificates", certificates(&text));
                Ok::<(), anyhow::Error>(())
            })?;
            for (name, (certificate, key)) in names.iter().zip(&before) {
                ensure!(read(&format!("{name}.pem"))? != *certificate, "{name} has a new certificate");
                ensure!(read(&format!("{name}.key"))? == *key, "{name} has kept its key");
            }
            let lost = stage.read("/v1/watchers")?;
            let lives = lost.get("items").and_then(Value::as_array).context("watchers")?;
            ensure!(lives.len() == 2 && lives.iter().all(|w| w.get("state") != Some(&Value::from("lost"))), "{lost}");

            let leader = stage.leader()?;
            let metrics = stage.client_of(&leader)?.get("/metrics")?.body;
            let metrics = metrics.as_str().context("text")?.to_owned();
            for owner in ["m1.manager", "m2.manager", "m3.manager", "n1.node", "n2.node", "w1.watcher", "w2.watcher"] {
                let line = format!("vouch_certificate_expiry_timestamp_seconds{{owner=\"{owner}.vouch\"}} ");
                ensure!(metrics.contains(&line), "{line} is not in\n{metrics}");
            }

            // Whoever starts anew does so with what is on disk: a manager, and a node that dials the others.
            stage.stop_manager("m3")?;
            stage.start_manager("m3")?;
            let cursor = Cursor::now(stage)?;
            stage.kill_agent("n1")?;
            stage.start_agent("n1")?;
            let own = stage.client_of("m3")?;
            wait::until_ok("m3 is ready again", LIMIT, || own.read("/readyz"))?;
            stage.must_run("m3")?;
            wait::until_ok("n1 is heard in its new life", LIMIT, || {
                let events = Events::after(stage, &cursor)?;
                ensure!(events.count("node_agent_restarted", "n1") == 1, "{}", events.lines());
                Ok::<(), anyhow::Error>(())
            })?;
            stage.expect(VM_ONE, WELL, LIMIT)?;

            // And one that comes with its old certificate is turned away.
            stage.kill_agent("n2")?;
            fs::write(files.join("n2.pem"), &before[4].0)?;
            stage.start_agent("n2")?;
            let is_turned_away = || -> Result<()> {
                let node = stage.read("/v1/nodes/n2")?;
                ensure!(node.get("source") == Some(&Value::from("watcher")), "{node}");
                Ok(())
            };
            wait::until_ok("n2 is not heard", LIMIT, is_turned_away)?;
            wait::while_for(Duration::from_secs(5), is_turned_away)
        },
    );
}
