//! Rows of the fault table that processes on loopback can show of a guest and of its node's agent: what the managers say
//! from before the fault to after its end, and what they never say.
//!
//! The guests are processes that do as they are told (`vouch local-vm`), so these rows show what follows from a
//! hypervisor's word and a watcher's probes. That a real QEMU says these words is what the tests of the driver `qemu`
//! show.

#![expect(clippy::print_stdout, reason = "the times of the rows are what these tests are also run for")]

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vouch_tests::story::{
    Claim, Cursor, Events, Expected, LocalStage, Shared, Stage, VM_ONE, VM_TWO, WELL, claim, well,
};
use vouch_tests::wait;

const LIMIT: Duration = Duration::from_secs(60);
/// For how long an operation goes on while its guest is silent: longer than any silence is taken for a fault.
const OPERATION: Duration = Duration::from_secs(30);

/// What nobody may say of a guest that hangs. It may be called degraded first: the kernel under these processes accepts
/// connections for them, and a guest that accepts and is silent is taken for a wedged service until it was silent for
/// long enough.
const BAD: &[&str] = &["down", "lost", "conflict"];

fn on_local(test: &str, play: impl FnOnce(&mut LocalStage) -> Result<()>) {
    LocalStage::play(test, |text| println!("{text}"), play);
}

/// One fault of the guest `desk-1`, told by its control socket, and what is expected of it.
struct Row {
    name: &'static str,
    word: &'static str,
    expected: Expected,
    /// States that nobody may say from before the fault to after its end.
    never: &'static [&'static str],
}

const fn direct(state: &'static str, cause: Option<&'static str>) -> Expected {
    Expected { state, source: "direct", cause }
}

/// Breaks the guest, waits for what is expected, mends it, and looks at everything that was said meanwhile.
fn play(stage: &LocalStage, row: &Row) -> Result<()> {
    println!("row {}: {}", row.name, row.word);
    let before = Cursor::now(stage)?;
    stage.control(VM_ONE, row.word)?;
    let told = stage.expect(VM_ONE, row.expected, LIMIT).with_context(|| format!("row {}", row.name))?;
    println!("{:>8.2} s  row {}: {:?}", told.as_secs_f64(), row.name, row.expected);
    stage.control(VM_ONE, "resume")?;
    stage.expect(VM_ONE, WELL, LIMIT).with_context(|| format!("row {}, mended", row.name))?;
    let events = Events::after(stage, &before)?;
    events.never(row.never).with_context(|| format!("row {}:\n{}", row.name, events.lines()))?;
    events.in_order()?;
    let changed = events.changed_vms();
    let others = changed.iter().filter(|vm| !vm.ends_with("01")).count();
    ensure!(others == 0, "row {}: another vm changed:\n{}", row.name, events.lines());
    Ok(())
}

#[test]
fn what_the_hypervisor_says_of_a_guest_is_what_the_managers_say() {
    const NEVER: &[&str] = &["lost", "conflict", "hung"];
    const NOT_DOWN: &[&str] = &["lost", "conflict", "hung", "down"];
    on_local("rows-of-the-hypervisor", |stage| {
        for row in [
            Row {
                name: "7 (panic, and the process stands)",
                word: "crash",
                expected: direct("down", Some("guest_os")),
                never: NEVER,
            },
            Row { name: "9", word: "io-error", expected: direct("paused", Some("storage")), never: NOT_DOWN },
            Row { name: "10 (pause)", word: "pause", expected: direct("paused", None), never: NOT_DOWN },
            Row { name: "11", word: "reboot", expected: direct("rebooting", None), never: NOT_DOWN },
        ] {
            play(stage, &row)?;
        }
        println!("row 7: the process ends");
        let before = Cursor::now(stage)?;
        stage.control(VM_TWO, "panic")?;
        stage.expect(VM_TWO, direct("down", Some("guest_os")), LIMIT)?;
        Events::after(stage, &before)?.never(NEVER)
    });
}

#[test]
fn a_node_that_loses_its_store_has_its_guests_paused_and_is_told_once() {
    on_local("rows-of-a-store", |stage| {
        println!("row 21: both guests of n1 are paused by I/O errors");
        let before = Cursor::now(stage)?;
        let paused =
            |vm| Claim { vm, state: "paused", source: Some("direct"), causes: &["storage"], advice: "fence_first" };
        for vm in [VM_ONE, VM_TWO] {
            stage.control(vm, "io-error")?;
        }
        let shared = Shared { kind: "datastore", of: "dev", causes: &["storage"] };
        claim(stage, "21", &[paused(VM_ONE), paused(VM_TWO)], Some(shared))?;
        for vm in [VM_ONE, VM_TWO] {
            stage.control(vm, "resume")?;
        }
        claim(stage, "21, mended", &[well(VM_ONE), well(VM_TWO)], None)?;
        let events = Events::after(stage, &before)?;
        events.never(&["down", "lost", "hung", "conflict"])?;
        events.in_order()?;
        ensure!(events.of_kind("incident_opened") == 1, "more than one incident:\n{}", events.lines());
        Ok(())
    });
}

#[test]
fn a_guest_that_hangs_is_told_by_its_silence_and_its_counters_together() {
    on_local("rows-of-a-hang", |stage| {
        for (name, word) in [("8", "hang"), ("7 (panic that nobody says)", "spin")] {
            let expected = direct("hung", Some("guest_os"));
            play(stage, &Row { name, word, expected, never: BAD })?;
        }
        Ok(())
    });
}

#[test]
fn a_guest_that_never_comes_up_after_a_reboot_hangs_once_its_budget_is_over() {
    on_local("rows-of-a-reboot", |stage| {
        let set = stage.cli().args(["policy", "set", "cluster", "--boot-budget", "15s"]).output()?;
        ensure!(set.status.success(), "vouch policy set: {}", String::from_utf8_lossy(&set.stderr));
        let before = Cursor::now(stage)?;
        println!("row 11: the guest is reset, and never comes up");
        stage.control(VM_ONE, "reboot")?;
        stage.expect(VM_ONE, direct("rebooting", None), LIMIT)?;
        // QEMU says for a while that a guest was reset, and then that it runs.
        stage.control(VM_ONE, "never-boots")?;
        let told = stage.expect(VM_ONE, direct("hung", Some("guest_os")), LIMIT)?;
        println!("{:>8.2} s  row 11: hung", told.as_secs_f64());
        stage.control(VM_ONE, "resume")?;
        stage.expect(VM_ONE, WELL, LIMIT)?;
        Events::after(stage, &before)?.never(BAD)
    });
}

#[test]
fn a_guest_that_is_silent_under_an_operation_alarms_nobody() {
    on_local("rows-of-operations", |stage| {
        for word in ["snapshot", "migrate", "freeze"] {
            println!("row 10 ({word}): the guest is silent meanwhile");
            let before = Cursor::now(stage)?;
            stage.control(VM_ONE, word)?;
            stage.control(VM_ONE, "hang")?;
            let quiet = || Events::after(stage, &before)?.never(&["hung", "degraded", "down", "lost", "conflict"]);
            wait::while_for(OPERATION, quiet)?;
            let shown = stage.read(&format!("/v1/vms/{VM_ONE}"))?;
            let suppressed = shown.get("suppressed").and_then(Value::as_str).unwrap_or_default();
            ensure!(!suppressed.is_empty(), "nobody says why nothing is said: {shown}");
            println!("           row 10 ({word}): up, suppressed by {suppressed}");
            stage.control(VM_ONE, "resume")?;
            stage.expect(VM_ONE, WELL, LIMIT)?;
            quiet()?;
        }
        Ok(())
    });
}

#[test]
fn an_agent_that_is_wedged_on_the_node_or_silent_in_the_guest_takes_no_guest_down() {
    const NEVER: &[&str] = &["down", "lost", "hung", "conflict", "degraded"];
    on_local("rows-of-agents", |stage| {
        let before = Cursor::now(stage)?;
        println!("row 4: the node's agent is stopped (SIGSTOP)");
        stage.freeze_agent("n1")?;
        let stalled = Expected { state: "up", source: "watcher", cause: Some("node_agent") };
        let told = stage.expect(VM_ONE, stalled, LIMIT).context("row 4")?;
        println!("{:>8.2} s  row 4: {stalled:?}", told.as_secs_f64());
        stage.thaw_agent("n1")?;
        stage.expect(VM_ONE, WELL, LIMIT).context("row 4, mended")?;
        let events = Events::after(stage, &before)?;
        events.never(NEVER)?;
        events.one_recovery("n1")?;
        println!("row 16: the guest agent stops");
        let before = Cursor::now(stage)?;
        stage.control(VM_ONE, "stop-agent")?;
        let noted = || -> Result<()> {
            let path = format!("/v1/vms/{VM_ONE}");
            stage.look(&path, WELL)?;
            let notes = stage.read(&path)?.get("notes").cloned().unwrap_or_default();
            let notes = notes.as_array().map(Vec::as_slice).unwrap_or_default();
            let agent = notes.iter().any(|n| n.get("cause").and_then(Value::as_str) == Some("guest_agent"));
            ensure!(agent, "no note of the guest agent: {notes:?}");
            Ok(())
        };
        let (_, took) = wait::until_ok("row 16: up, with a note", LIMIT, noted)?;
        println!("{:>8.2} s  row 16: up, noted guest_agent", took.as_secs_f64());
        stage.control(VM_ONE, "resume")?;
        let events = Events::after(stage, &before)?;
        events.never(NEVER)?;
        ensure!(events.changed_vms().is_empty(), "a state changed:\n{}", events.lines());
        Ok(())
    });
}

#[test]
fn a_hypervisor_or_a_monitor_that_is_silent_takes_no_guest_down() {
    const NEVER: &[&str] = &["down", "lost", "hung", "conflict", "degraded"];
    on_local("rows-of-silent-hypervisors", |stage| {
        println!("row 5: the hypervisor's service is silent");
        let before = Cursor::now(stage)?;
        stage.silence_hypervisor("n1")?;
        stage.expect(VM_ONE, direct("up", Some("hypervisor")), LIMIT).context("row 5")?;
        stage.hear_hypervisor("n1")?;
        stage.expect(VM_ONE, WELL, LIMIT).context("row 5, mended")?;
        Events::after(stage, &before)?.never(NEVER)?;
        play(
            stage,
            &Row {
                name: "40",
                word: "lose-monitor",
                expected: Expected { state: "up", source: "watcher", cause: Some("node_vm_path") },
                never: NEVER,
            },
        )
    });
}
