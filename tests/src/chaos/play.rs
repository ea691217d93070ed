//! One run: the clients, the nemesis, and the checks afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::cluster::Managers;
use super::nemesis::{Dice, Fault};
use super::workload::{CLIENTS, Workload};
use crate::api::Client;
use crate::netns::Pace;

/// How long a fault lasts, and how long all is well afterwards.
const FAULT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
const REST: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// For how long one key is asked for.
const KEY: Duration = Duration::from_secs(4);
/// Between two looks at the log of events.
const FOLLOW: Duration = Duration::from_millis(200);
/// The most policies that the cluster keeps, less some room: a longer run would be refused writes.
const KEYS_MAX: usize = 950;

/// What is to be played.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides what the nemesis does.
    pub seed: u64,
    /// For how long.
    pub lasts: Duration,
}

/// What came of it, all checks passed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How often each fault was played.
    pub faults: BTreeMap<String, usize>,
    /// How many keys there were.
    pub keys: usize,
    /// How many reads and writes were answered.
    pub answered: usize,
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// How many writes were not answered, or refused.
    pub unsure: usize,
    /// How many reads were not answered, or refused.
    pub failed_reads: u64,
    /// How many events there are.
    pub events: usize,
}

/// Plays and checks.
///
/// # Errors
/// Says which check failed, with the history or the events that show it.
pub fn play(test: &str, plan: Plan, told: fn(&str)) -> Result<Outcome> {
    ensure!(plan.lasts < KEY * u32::try_from(KEYS_MAX)?, "a run of {:?} needs more keys than there may be", plan.lasts);
    let mut managers = Managers::start(test)?;
    let played = play_on(&mut managers, plan, told);
    played.with_context(|| format!("seed {}; the logs are in {}", plan.seed, managers.logs().display()))
}

fn play_on(managers: &mut Managers, plan: Plan, told: fn(&str)) -> Result<Outcome> {
    let (workload, stop) = (Workload::new(), AtomicBool::new(false));
    let clients = managers.clients();
    let mut outcome = Outcome::default();
    let (played, followed) = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let dice = Dice::new(plan.seed.wrapping_mul(1_000).wrapping_add(client));
            let (workload, clients, stop) = (&workload, &clients, &stop);
            scope.spawn(move || workload.client(clients, dice, stop));
        }
        scope.spawn(|| {
            let mut next = Instant::now() + KEY;
            while !stop.load(Ordering::Relaxed) {
                std::thread::sleep(FOLLOW);
                if Instant::now() >= next {
                    workload.next_key();
                    next += KEY;
                }
            }
        });
        let follower = scope.spawn(|| follow(&clients, plan.seed, &stop));
        let played = break_and_mend(managers, plan, &mut outcome, told);
        stop.store(true, Ordering::Relaxed);
        (played, follower.join().expect("a follower does not panic"))
    });
    played?;
    managers.mend()?;
    managers.whole().context("after everything was mended")?;
    outcome.failed_reads = workload.failed_reads();
    check(&managers.clients(), workload, &followed?, outcome)
}

fn break_and_mend(managers: &mut Managers, plan: Plan, outcome: &mut Outcome, told: fn(&str)) -> Result<()> {
    let (begun, mut dice) = (Instant::now(), Dice::new(plan.seed));
    while begun.elapsed() < plan.lasts {
        std::thread::sleep(dice.between(REST.0, REST.1));
        let (fault, lasts) = (Fault::draw(&mut dice), dice.between(FAULT.0, FAULT.1));
        told(&format!("{:>7.1} s  {fault:?} for {:.1} s", begun.elapsed().as_secs_f64(), lasts.as_secs_f64()));
        *outcome.faults.entry(format!("{fault:?}")).or_default() += 1;
        managers.must_run()?;
        begin(managers, fault).with_context(|| format!("{fault:?}"))?;
        std::thread::sleep(lasts);
        managers.mend()?;
    }
    Ok(())
}

fn begin(managers: &mut Managers, fault: Fault) -> Result<()> {
    let others = |i: usize| (0..3).filter(|other| *other != i).collect::<Vec<usize>>();
    match fault {
        Fault::Kill(who) => managers.kill(managers.place(who)),
        Fault::KillAll => (0..3).try_for_each(|i| managers.kill(i)),
        Fault::Pause(who) => managers.pause(managers.place(who)),
        Fault::Isolate(who) => {
            let i = managers.place(who);
            managers.cut(&[i], &others(i))?;
            managers.cut(&others(i), &[i])
        }
        Fault::Deaf(who) => {
            let i = managers.place(who);
            managers.cut(&others(i), &[i])
        }
        Fault::Mute(who) => {
            let i = managers.place(who);
            managers.cut(&[i], &others(i))
        }
        Fault::Bridge(who) => {
            let [a, b] = others(managers.place(who))[..] else { bail!("two others") };
            managers.cut(&[a], &[b])?;
            managers.cut(&[b], &[a])
        }
        Fault::Slow => managers.pace(Pace::Held),
        Fault::Transfer => {
            // Refused when nobody leads just now; then there is nothing to hand over.
            let _ = managers.client(0).post("/v1/cluster/transfer", &serde_json::json!({}));
            Ok(())
        }
        Fault::Replace(who) => {
            managers.whole()?;
            managers.replace(managers.place(who))
        }
        Fault::Restart(who) => managers.stop(managers.place(who)),
        Fault::FillDisk(who) => managers.fill_disk(managers.place(who)),
        Fault::JumpClock(who) => managers.jump_clock(managers.place(who)),
    }
}

fn id_of(event: &Value) -> &str {
    event.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn page(client: &Client, after: &str, consistency: &str) -> Result<Vec<Value>> {
    let path = format!("/v1/events?format=json&limit=1000&after={after}&consistency={consistency}");
    let page = client.read(&path)?;
    Ok(page.get("items").and_then(Value::as_array).context("a page of events has items")?.clone())
}

/// Follows the log of events from manager to manager, always on from where it was.
fn follow(clients: &[Client], seed: u64, stop: &AtomicBool) -> Result<Vec<String>> {
    let (mut dice, mut seen) = (Dice::new(seed ^ 0xf011), Vec::<String>::new());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(FOLLOW);
        let client = &clients[usize::try_from(dice.below(clients.len() as u64))?];
        let consistency = if dice.below(2) == 0 { "default" } else { "stale" };
        let after = seen.last().cloned().unwrap_or_else(|| "0.0".to_owned());
        // One that lags behind has nothing new to tell; it must not tell anything twice either.
        if let Ok(items) = page(client, &after, consistency) {
            seen.extend(items.iter().map(|event| id_of(event).to_owned()));
        }
    }
    Ok(seen)
}

fn all_events(client: &Client) -> Result<Vec<Value>> {
    let mut all = Vec::<Value>::new();
    loop {
        let after = all.last().map_or_else(|| "0.0".to_owned(), |event| id_of(event).to_owned());
        let items = page(client, &after, "consistent")?;
        if items.is_empty() {
            return Ok(all);
        }
        all.extend(items);
    }
}

fn check(clients: &[Client], workload: Workload, followed: &[String], mut outcome: Outcome) -> Result<Outcome> {
    let events = all_events(&clients[0])?;
    for client in &clients[1..] {
        ensure!(all_events(client)? == events, "two managers tell different events");
    }
    let ids: Vec<&str> = events.iter().map(id_of).collect();
    let position = |e: &Value| (e["index"].as_u64().unwrap_or_default(), e["ordinal"].as_u64().unwrap_or_default());
    for pair in events.windows(2) {
        ensure!(position(&pair[0]) < position(&pair[1]), "events out of order: {} then {}", pair[0], pair[1]);
    }
    ensure!(
        ids.starts_with(&followed.iter().map(String::as_str).collect::<Vec<_>>()),
        "who followed the log saw other events than it holds:\n{followed:?}\n{ids:?}"
    );
    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    for event in events.iter().filter(|event| event["kind"] == "policy_changed") {
        let value = event.pointer("/detail/policy/boot_budget_ms").and_then(Value::as_u64);
        *told.entry(value.with_context(|| format!("a change of a policy without its value: {event}"))?).or_default() +=
            1;
    }
    outcome.events = events.len();
    for seen in workload.seen() {
        for value in &seen.attempted {
            let times = told.remove(value).unwrap_or_default();
            ensure!(times <= 1, "the write of {value} was told {times} times");
            ensure!(times == 1 || !seen.acknowledged.contains(value), "the acknowledged write of {value} is lost");
        }
        match seen.history.is_linearizable() {
            Ok(true) => {}
            Ok(false) => bail!("the history of key {} is not linearizable:\n{}", seen.key, seen.history.lines()),
            Err(why) => bail!("the history of key {} makes no sense: {why}", seen.key),
        }
        outcome.keys += 1;
        outcome.answered += seen.history.answered();
        outcome.acknowledged += seen.acknowledged.len();
        outcome.unsure += seen.attempted.len() - seen.acknowledged.len();
    }
    ensure!(told.is_empty(), "values were set that nobody wrote: {told:?}");
    Ok(outcome)
}
