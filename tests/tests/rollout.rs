//! New versions of a probe on a whole cluster: one watcher runs them first, a good one goes to all although the leader is
//! killed meanwhile, and one that faults is taken back by itself; no VM is told otherwise.

#![expect(clippy::print_stdout, reason = "the times are what this test is also run for")]

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vouch_tests::story::{Cursor, Events, LocalStage, Stage};
use vouch_tests::{paths, wait};

/// A watcher fetches a component, compiles it on a busy machine, and is heard.
const LIMIT: Duration = Duration::from_secs(120);
/// The shortest time that a rollout may take, and the fewest runs.
const PLAN: &str = "rollout=true&runs=5&lasts_ms=10000";

/// What the components of two shipped probes say of themselves.
const TCP: &str = "tcpOne TCP port of the target accepts connections";
const DNS: &str = "dnsThe name server of the target answers";
/// The probe: a name as long as those of the shipped probes that it is made of.
const NAME: &str = "lan";

/// Returns a shipped probe's component that says it is [`NAME`], with a custom section that makes it another component.
///
/// `described` is what it says of itself, which begins with its name: the text stands in the component once.
fn component(described: &str, mark: &str) -> Result<Vec<u8>> {
    let (probe, proves) = described.split_at(NAME.len());
    let file = paths::target().join("guests/wasm32-wasip2/release").join(format!("probe_{probe}.wasm"));
    let mut bytes = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(described.as_bytes())).collect();
    let [at] = places[..] else { bail!("{} says {probe}{proves} {} times", file.display(), places.len()) };
    bytes[at..at + NAME.len()].copy_from_slice(NAME.as_bytes());
    let length = u8::try_from(mark.len())?;
    bytes.extend([0, length + 1, length]);
    bytes.extend(mark.bytes());
    Ok(bytes)
}

/// Uploads a version of the probe, by whichever manager takes it.
fn upload(stage: &LocalStage, version: &str, component: &[u8], more: &str) -> Result<()> {
    let grant = "interfaces=sockets&networks=service&ports=settings";
    let path = format!("/v1/probes?name={NAME}&version={version}&{grant}{more}");
    let sent = || -> Result<()> {
        let (_, client) = stage.clients().into_iter().next().context("a manager runs")?;
        client.upload(&path, component)?.ok().map(drop)
    };
    wait::until_ok(format!("{NAME} {version} is taken"), LIMIT, sent).map(drop).map_err(Into::into)
}

/// Returns the recorded version of the probe, and the canary of the next one.
fn recorded(stage: &LocalStage) -> Result<(String, Option<String>)> {
    let page = stage.read("/v1/probes")?;
    let items = page.get("items").and_then(Value::as_array).or_else(|| page.as_array()).context("a list")?;
    let own = items.iter().find(|probe| probe["name"] == NAME).context("it is recorded")?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
    Ok((text(own.get("version")).context("a version")?, text(own.pointer("/rollout/canary"))))
}

/// Returns which watchers say something of the probe at a VM, with the word that they say.
fn words(stage: &LocalStage) -> Result<Vec<(String, String)>> {
    let evidence = stage.read("/v1/vms/desk-1/evidence")?;
    let looks = evidence.get("observations").and_then(Value::as_array).context("observations")?;
    let own = looks.iter().filter(|look| look["probe"] == NAME);
    let word = |look: &Value, key| look[key].as_str().unwrap_or_default().to_owned();
    Ok(own.map(|look| (word(look, "watcher"), word(look, "reason"))).collect())
}

fn told(stage: &LocalStage, before: &Cursor, kind: &str) -> Result<()> {
    let (_, took) = wait::until_ok(format!("{kind} is told"), LIMIT, || -> Result<()> {
        let events = Events::after(stage, before)?;
        ensure!(events.of_kind(kind) == 1, "{} events of it:\n{}", events.of_kind(kind), events.lines());
        Ok(())
    })?;
    println!("{:>8.2} s  {kind}", took.as_secs_f64());
    Ok(())
}

#[test]
fn a_good_version_goes_to_all_though_its_leader_dies_and_one_that_faults_is_taken_back() {
    LocalStage::play(
        "rollout",
        |text| println!("{text}"),
        |stage| {
            let begin = Cursor::now(stage)?;
            upload(stage, "0.1.0", &component(TCP, "0.1.0")?, "")?;
            let assigned = json!({ "settings": { "port": 3389 }, "interval_ms": 1000, "timeout_ms": 500 });
            let (_, client) = stage.clients().into_iter().next().context("a manager runs")?;
            client.put("/v1/probes/lan/assignments/service/cluster", &assigned)?.ok()?;
            wait::until_ok("both watchers of desk-1 run it", LIMIT, || -> Result<()> {
                let words = words(stage)?;
                let run = words.iter().filter(|(_, reason)| ["connected", "closed"].contains(&reason.as_str()));
                ensure!(run.count() == 2, "{words:?}");
                Ok(())
            })?;

            let before = Cursor::now(stage)?;
            upload(stage, "0.2.0", &component(TCP, "0.2.0")?, &format!("&{PLAN}"))?;
            told(stage, &before, "probe_canary_chosen")?;
            ensure!(recorded(stage)?.0 == "0.1.0", "the others still run the version before");
            let leader = stage.leader()?;
            stage.kill_manager(&leader)?;
            println!("            leader {leader} killed");
            told(stage, &before, "probe_rolled_out")?;
            ensure!(recorded(stage)? == ("0.2.0".to_owned(), None), "{:?}", recorded(stage)?);
            stage.start_manager(&leader)?;

            let before = Cursor::now(stage)?;
            upload(stage, "0.3.0", &component(DNS, "0.3.0")?, &format!("&{PLAN}"))?;
            told(stage, &before, "probe_taken_back")?;
            ensure!(recorded(stage)? == ("0.2.0".to_owned(), None), "{:?}", recorded(stage)?);
            wait::until_ok("no watcher runs what was taken back", LIMIT, || -> Result<()> {
                let words = words(stage)?;
                ensure!(words.len() == 2 && words.iter().all(|(_, reason)| reason != "bad_settings"), "{words:?}");
                Ok(())
            })?;
            let events = Events::after(stage, &begin)?;
            let said = events.lines();
            println!("{said}");
            ensure!(
                said.contains("was taken back: on w") && said.contains("(100 %)"),
                "it faulted in all its runs:\n{said}"
            );
            events.never(&["down", "lost", "degraded", "hung", "unknown"]).with_context(|| events.lines())?;
            events.in_order()?;
            ensure!(events.of_kind("probe_canary_chosen") == 2, "one canary for each:\n{}", events.lines());
            Ok(())
        },
    );
}
