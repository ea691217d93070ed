//! Managers that come, go and are restarted while people read and write: nothing fails that need not, nothing is lost.

#![expect(clippy::print_stdout, reason = "what was read and written is what these tests are also run for")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vouch_tests::api::Client;
use vouch_tests::story::{LocalStage, Stage, VM_ONE};
use vouch_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(20);

fn on_local(test: &str, play: impl FnOnce(&mut LocalStage) -> Result<()>) {
    LocalStage::play(test, |text| println!("{text}"), play);
}

/// Asks one manager after the other, the last that answered first, as the command line does: the next one when one
/// cannot be reached.
fn ask(clients: &[(String, Client)], first: &mut usize, call: impl Fn(&Client) -> Result<Value>) -> Result<Value> {
    let mut last = None;
    for _ in 0..clients.len() {
        match call(&clients[*first].1) {
            Err(error) if is_closed(&error) => {
                *first = (*first + 1) % clients.len();
                last = Some(error);
            }
            other => return other,
        }
    }
    Err(last.context("there are managers")?).context("no manager can be reached")
}

/// Whether a manager could not be reached, or ended before it answered.
fn is_closed(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["refused", "reset", "broken pipe", "eof", "closed", "disconnected"].iter().any(|word| text.contains(word))
}

/// What clients did meanwhile.
#[derive(Debug, Default)]
struct Done {
    reads: usize,
    failed_reads: Vec<String>,
    /// The last acknowledged value per key.
    written: BTreeMap<String, u64>,
    writes: usize,
    unsure: usize,
}

fn reader(clients: &[(String, Client)], stop: &AtomicBool) -> Done {
    let (mut done, mut first) = (Done::default(), 0);
    while !stop.load(Ordering::Relaxed) {
        done.reads += 1;
        let read = ask(clients, &mut first, |client| client.read(&format!("/v1/vms/{VM_ONE}")));
        if let Err(error) = read {
            done.failed_reads.push(format!("{error:#}"));
        }
        std::thread::sleep(PAUSE);
    }
    done
}

/// Sets one policy again and again; what was acknowledged has to be there in the end.
fn writer(clients: &[(String, Client)], key: &str, stop: &AtomicBool) -> Done {
    let (mut done, mut first, mut value) = (Done::default(), 0, 60_000);
    while !stop.load(Ordering::Relaxed) {
        value += 1;
        let policy = json!({"boot_budget_ms": value});
        let path = format!("/v1/policies/tag:{key}");
        match ask(clients, &mut first, |client| client.put(&path, &policy)?.ok()) {
            Ok(_) => {
                done.writes += 1;
                done.written.insert(key.to_owned(), value);
            }
            // It may be there or not; what is acknowledged later is what counts.
            Err(_) => done.unsure += 1,
        }
        std::thread::sleep(PAUSE);
    }
    done
}

/// Reads and writes while something happens, and checks that no acknowledged write is lost.
fn meanwhile(stage: &mut LocalStage, play: impl FnOnce(&mut LocalStage) -> Result<()>) -> Result<Vec<Done>> {
    let clients = stage.clients();
    let stop = AtomicBool::new(false);
    let keys = ["pool=a", "pool=b"];
    let (played, done) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| reader(&clients, &stop))).collect();
        let writers: Vec<_> = keys.iter().map(|key| scope.spawn(|| writer(&clients, key, &stop))).collect();
        let played = play(stage);
        stop.store(true, Ordering::Relaxed);
        let joined = readers.into_iter().chain(writers).map(|task| task.join().expect("a client does not panic"));
        (played, joined.collect::<Vec<Done>>())
    });
    played?;
    for (key, written) in done.iter().flat_map(|done| &done.written) {
        let policy = stage.read(&format!("/v1/policies/tag:{key}?consistency=consistent"))?;
        let kept = policy.pointer("/settings/boot_budget_ms").and_then(Value::as_u64).unwrap_or_default();
        ensure!(kept >= *written, "{key}: {written} was acknowledged, and {kept} is there: {policy}");
    }
    let sum = |of: fn(&Done) -> usize| done.iter().map(of).sum::<usize>();
    println!(
        "{} reads, {} failed; {} writes acknowledged, {} not",
        sum(|d| d.reads),
        sum(|d| d.failed_reads.len()),
        sum(|d| d.writes),
        sum(|d| d.unsure)
    );
    Ok(done)
}

fn caught_up(stage: &mut LocalStage, name: &str) -> Result<()> {
    let own = stage.client_of(name)?;
    wait::until_ok(format!("{name} has caught up, or has ended"), LIMIT, || {
        if stage.must_run(name).is_err() {
            return Ok(());
        }
        let ready = own.get("/readyz")?;
        ensure!(ready.status == 200, "{name} is not ready: {}", ready.body);
        Ok::<(), anyhow::Error>(())
    })?;
    stage.must_run(name)
}

#[test]
fn managers_restarted_one_after_another_fail_no_read_and_lose_no_write() {
    on_local("rolling-restart", |stage| {
        let done = meanwhile(stage, |stage| {
            for name in ["m1", "m2", "m3"] {
                stage.stop_manager(name)?;
                stage.start_manager(name)?;
                caught_up(stage, name)?;
            }
            Ok(())
        })?;
        let failed: Vec<&String> = done.iter().flat_map(|done| &done.failed_reads).collect();
        ensure!(failed.is_empty(), "{} reads failed, the first: {}", failed.len(), failed[0]);
        ensure!(done.iter().any(|done| done.reads > 100), "too little was read to say anything");
        Ok(())
    });
}

#[test]
fn a_leader_whose_disk_flushes_no_more_ends_with_one_report_and_the_others_go_on() {
    on_local("failed-flush", |stage| {
        // As a process of the test's own, so that its exit code is seen.
        stage.stop_manager("m1")?;
        stage.start_manager("m1")?;
        caught_up(stage, "m1")?;
        wait::until_ok("m1 takes the lead", LIMIT, || cluster(stage, &["transfer", "--to", "m1"]))?;
        wait::until_ok("m1 leads", LIMIT, || leads(stage, "m1"))?;
        let done = meanwhile(stage, |stage| {
            let broken = stage.fail_flushes("m1")?;
            let (code, said) = stage.await_end("m1", LIMIT)?;
            let report: Vec<&str> = said.lines().filter(|line| line.starts_with("vouch: ")).collect();
            println!("m1 said: {report:?}");
            ensure!(broken.log()?.contains("EIO"), "no flush failed: {}", broken.log()?);
            // EX_IOERR of sysexits(3).
            ensure!(code == Some(74), "exit code {code:?}: {said}");
            let [report] = report.as_slice() else { anyhow::bail!("{} reports: {said}", report.len()) };
            let named = report.starts_with("vouch: storage failed: ") && report.contains("/m1/");
            ensure!(
                named && report.contains("Input/output error") && report.contains("start the manager again"),
                "{report}"
            );
            let (heir, _) = wait::until_ok("another leads", LIMIT, || {
                let leader = stage.leader()?;
                ensure!(leader != "m1", "m1 still leads");
                Ok::<_, anyhow::Error>(leader)
            })?;
            let own = stage.client_of(&heir)?;
            own.put("/v1/policies/tag:pool=c", &json!({"boot_budget_ms": 60_000}))?.ok()?;
            drop(broken);
            // Its disk is put right.
            stage.start_manager("m1")?;
            caught_up(stage, "m1")
        })?;
        ensure!(done.iter().any(|done| done.writes > 5), "too little was written to say anything");
        Ok(())
    });
}

fn members(stage: &LocalStage) -> Result<BTreeMap<String, bool>> {
    let cluster = stage.read("/v1/cluster")?;
    let members = cluster.get("members").and_then(Value::as_array).context("members")?;
    let member = |m: &Value| Some((m.get("id")?.as_str()?.to_owned(), m.get("voter")?.as_bool()?));
    Ok(members.iter().filter_map(member).collect())
}

fn cluster(stage: &LocalStage, arguments: &[&str]) -> Result<()> {
    let done = stage.cli().arg("cluster").args(arguments).output()?;
    if !done.status.success() {
        bail!("vouch cluster {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

#[test]
fn a_manager_whose_data_folder_is_gone_gets_its_vote_back_without_a_command() {
    on_local("emptied-manager", |stage| {
        let leader = stage.leader()?;
        let emptied = ["m1", "m2", "m3"].into_iter().find(|id| *id != leader).context("a follower")?;
        wait::until_ok("every manager's log is recorded", LIMIT, || settled(stage))?;
        let done = meanwhile(stage, |stage| {
            stage.kill_manager(emptied)?;
            stage.empty_manager(emptied)?;
            stage.start_manager(emptied)?;
            caught_up(stage, emptied)?;
            wait::until_ok("its return is told", LIMIT, || {
                let told = told(stage, emptied)?;
                ensure!(told == ["manager_log_lost", "manager_return_ended"], "{told:?}");
                Ok(())
            })?;
            let now = members(stage)?;
            ensure!(now.len() == 3 && now.values().all(|voter| *voter), "{now:?}");
            // Its vote is needed from here on, and it may lead.
            let other = ["m1", "m2", "m3"].into_iter().find(|id| *id != leader && *id != emptied).context("another")?;
            stage.kill_manager(other)?;
            wait::until_ok("it takes the lead", LIMIT, || cluster(stage, &["transfer", "--to", emptied]))?;
            wait::until_ok("it leads", LIMIT, || leads(stage, emptied))?;
            Ok(())
        })?;
        ensure!(done.iter().any(|done| done.writes > 5), "too little was written to say anything");
        Ok(())
    });
}

fn leads(stage: &LocalStage, manager: &str) -> Result<()> {
    let leader = stage.leader()?;
    ensure!(leader == manager, "{leader} leads");
    Ok(())
}

/// Whether the leader has nothing left to record of the managers' logs.
fn settled(stage: &LocalStage) -> Result<()> {
    let metrics = stage.client_of(&stage.leader()?)?.get("/metrics")?.ok()?;
    let metrics = metrics.as_str().context("text")?;
    let recorded = metrics.lines().any(|line| {
        line.starts_with("vouch_reconciler_pending{") && line.contains("\"member_logs\"") && line.ends_with(" 0")
    });
    ensure!(recorded, "{metrics}");
    Ok(())
}

/// The kinds of the events that speak of how a manager lost its log and came back.
fn told(stage: &LocalStage, manager: &str) -> Result<Vec<String>> {
    let page = stage.read("/v1/events?format=json&limit=1000")?;
    let events = page.get("items").and_then(Value::as_array).with_context(|| format!("no items: {page}"))?;
    let of = |event: &Value| {
        let kind = event.get("kind")?.as_str()?.to_owned();
        let speaks = event.get("text")?.as_str()?.starts_with(manager);
        (speaks && (kind == "manager_log_lost" || kind == "manager_return_ended")).then_some(kind)
    };
    Ok(events.iter().filter_map(of).collect())
}

#[test]
fn a_dead_manager_is_replaced_by_a_new_one_while_people_write() {
    on_local("replace-manager", |stage| {
        let done = meanwhile(stage, |stage| {
            let leader = stage.leader()?;
            let dead = ["m1", "m2", "m3"].into_iter().find(|id| *id != leader).context("a follower")?;
            stage.kill_manager(dead)?;
            let address = stage.start_newcomer("m4")?;
            cluster(stage, &["add", "m4", "--management", &address])?;
            ensure!(members(stage)?.get("m4") == Some(&false), "m4 has no vote yet");
            let refused = cluster(stage, &["remove", &leader]).expect_err("the leader stays").to_string();
            ensure!(refused.contains("leads"), "{refused}");
            wait::until_ok("the dead manager can be removed", LIMIT, || cluster(stage, &["remove", dead]))?;
            wait::until_ok("m4 can be given a vote", LIMIT, || cluster(stage, &["promote", "m4"]))?;
            let now = members(stage)?;
            ensure!(now.len() == 3 && now.get("m4") == Some(&true) && !now.contains_key(dead), "{now:?}");
            cluster(stage, &["transfer", "--to", "m4"])?;
            wait::until_ok("m4 leads", LIMIT, || leads(stage, "m4"))?;
            Ok(())
        })?;
        ensure!(done.iter().any(|done| done.writes > 5), "too little was written to say anything");
        Ok(())
    });
}
