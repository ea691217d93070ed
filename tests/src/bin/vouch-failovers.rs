//! `vouch-failovers`: kills the leader again and again, and measures how long the next verdict takes (N8 of the design).
//!
//! On `local`, default timing: three managers, two nodes. In the moment of the kill a VM is paused or runs on, so that there
//! is a verdict to publish; the time ends when a manager that is left shows it at `default` consistency. The log of events
//! must hold every change once and in order. `cargo xtask bench failover` builds what it needs and runs it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a table is what it is run for")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vouch_tests::story::{Cursor, Events, LocalStage, Profile, Stage, VM_ONE};
use vouch_tests::wait;

const KILLS: usize = 300;
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long all is left alone between two kills: longer than the window of silence of a new leader.
const REST: Duration = Duration::from_millis(2_500);

fn main() -> ExitCode {
    let kills = std::env::args().nth(1).map_or(Ok(KILLS), |text| text.parse());
    let Ok(kills) = kills.map_err(|e| eprintln!("error: the number of kills: {e}")) else { return ExitCode::from(2) };
    match play(kills) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(kills: usize) -> Result<()> {
    let (mut stage, ready) = LocalStage::start("failovers", Profile::Default, |_| {})?;
    println!("well after {:.1} s; {kills} kills", ready.as_secs_f64());
    let before = Cursor::now(&stage)?;
    let mut times = Vec::new();
    for number in 0..kills {
        let (word, state) = if number % 2 == 0 { ("pause", "paused") } else { ("resume", "up") };
        times.push(one(&mut stage, word, state).with_context(|| format!("kill {number}"))?);
        if (number + 1) % 25 == 0 {
            println!("{:>4} kills: {}", number + 1, summary(&times));
        }
    }
    let events = Events::after(&stage, &before)?;
    events.in_order()?;
    let changes = events.changed_vms().len();
    ensure!(changes == kills, "{changes} changes of state were told instead of {kills}:\n{}", events.lines());
    println!("{kills} kills: {}; {changes} changes told, each once and in order", summary(&times));
    Ok(())
}

/// One kill; returns the time from the kill to the next verdict.
fn one(stage: &mut LocalStage, word: &str, state: &str) -> Result<Duration> {
    let leader = stage.leader()?;
    let killed = Instant::now();
    stage.kill_manager(&leader)?;
    stage.control(VM_ONE, word)?;
    let clients = stage.clients();
    let shown = loop {
        let told = clients.iter().filter_map(|(_, client)| client.read(&format!("/v1/vms/{VM_ONE}")).ok());
        if told.into_iter().any(|vm| vm.get("state").and_then(Value::as_str) == Some(state)) {
            break killed.elapsed();
        }
        ensure!(killed.elapsed() < LIMIT, "no new verdict after {LIMIT:?}");
        std::thread::sleep(LOOK_EVERY);
    };
    stage.start_manager(&leader)?;
    let own = stage.client_of(&leader)?;
    wait::until_ok(format!("{leader} is ready"), LIMIT, || {
        let ready = own.get("/readyz")?;
        ensure!(ready.status == 200, "not ready: {}", ready.body);
        Ok::<(), anyhow::Error>(())
    })?;
    std::thread::sleep(REST);
    Ok(shown)
}

fn summary(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |per_cent: usize| sorted[(sorted.len() * per_cent).div_ceil(100).clamp(1, sorted.len()) - 1].as_secs_f64();
    format!("p50 {:.3} s, p99 {:.3} s, worst {:.3} s", at(50), at(99), at(100))
}
